"""``voiceingest demo``: the whole way of a call's audio, on this machine alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .console import Console
from .failures import CommandFailed, Exit
from .options import duration, epilog, json_option
from .pacing import frame_bytes
from .percentiles import in_words
from .rehearsed_call import RATE as CALL_RATE
from .rehearsed_call import CallOutcome, call, until_heard
from .rehearsed_session import SessionOutcome, session
from .rehearsed_session import is_possible as keeps_sessions
from .rehearsed_session import settings as session_settings
from .simulate import Show, announce
from .sources import frames, length_s
from .speech import speak
from .wavfile import Recording, read_recording, write_wav

if TYPE_CHECKING:
    from .running import Interrupt
    from .stage import Stage
    from .streams import StreamReport
    from .witness import Witness

TENANT: Final = "demo"
RATE: Final = 24000
FRAME_MS: Final = 200
SPEECH_S: Final = 6.0
TOKEN_LIFETIME_S: Final = 900.0
CALL_S: Final = 3.0
KEPT_TOKEN_LIFETIME_S: Final = 12 * 3600.0


@click.command(
    epilog=epilog(
        """voiceingest demo
voiceingest demo --keep
voiceingest demo --seconds 60 --json""",
        Exit.OK,
        Exit.REFUSED,
        Exit.NO_CONNECTION,
    )
)
@click.option("--keep", is_flag=True, help="At a terminal: leave the daemon running until Ctrl-C.")
@click.option("--seconds", callback=duration, metavar="TIME", help="How long to speak.  [default: 6s]")
@json_option
def demo(keep: bool, seconds: float | None, json_output: bool) -> None:
    """Start a daemon in this process, speak to it, and compare what comes out with what went in.

    No server and no network are needed: keys and certificate are made and thrown away, the bus is in
    memory. The audio goes in over a real WebSocket with TLS and a signed token, in real time; every
    frame is compared byte for byte at the other end of the bus. Then a call comes in as Exotel would
    bring it, and its echo is compared with what was said. Where the extra ``control`` is installed, a device
    registers last, and its stream becomes a session.
    """
    console = Console(json_output=json_output)
    if keep and not console.is_terminal:
        console.note("--keep is for a terminal; ending when the demo is over")
        keep = False
    recording = spoken()

    async def work(reactor: Any, interrupt: Interrupt) -> int:
        from .stage import Stage

        stage = Stage(reactor, TENANT, kept=session_settings if keeps_sessions() else None)
        try:
            await stage.up()
            # The daemon has taken Ctrl-C for itself; here it is ours.
            interrupt.take_signals(reactor)
            code = await perform(reactor, interrupt, stage, console, recording, seconds)
            if keep and code == Exit.OK and not interrupt.asked:
                await stay(reactor, interrupt, stage, console)
            return code
        finally:
            await stage.down()

    from .running import run

    sys.exit(run(work))


def spoken(seconds: float = SPEECH_S, rate: int = RATE) -> Recording:
    """Made-up speech, through a WAV file and back as any caller's recording would come."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="voiceingest-demo-") as folder:
        path = Path(folder) / "spoken.wav"
        write_wav(path, speak(seconds, rate), rate)
        return read_recording(path)


async def perform(
    reactor: Any,
    interrupt: Interrupt,
    stage: Stage,
    console: Console,
    recording: Recording,
    seconds: float | None,
) -> int:
    """Speak once and compare. Returns the exit code."""
    from .streams import Plan, run_streams
    from .witness import Witness

    interaction_id = f"demo-{os.urandom(4).hex()}"
    witness = Witness(TENANT, interaction_id, RATE)
    unsubscribe = stage.subscribe(lambda channel, payload: witness.message(payload, reactor.seconds()))
    plan = Plan(
        target=stage.target,
        trust=stage.trust,
        tenant_id=TENANT,
        sample_rate=RATE,
        frame_s=FRAME_MS / 1000,
        token=lambda interaction: stage.token(TOKEN_LIFETIME_S),
        renewable=True,
    )
    total_s = length_s(recording, seconds)
    console.say(f"speaking {total_s:.1f} s to {stage.target.label}", style="dim")
    show = Show(console, reactor, total_s, RATE)

    def frame_out(frame: bytes, tally: Any) -> None:
        witness.sending(frame, tally.last_sent_s)
        show.frame(frame, tally)

    try:
        reports = await run_streams(
            reactor,
            plan,
            [interaction_id],
            lambda: frames(recording, FRAME_MS, seconds),
            interrupt,
            frame_out,
        )
        await until_heard(reactor, witness)
    finally:
        show.close()
        unsubscribe()
    if interrupt.asked and not witness.sent:
        raise CommandFailed("interrupted before anything was said", exit_code=Exit.INTERRUPTED)
    outcome = held = None
    if not interrupt.asked:
        console.say(f"calling {stage.call_url} as Exotel would, to be answered by an echo", style="dim")
        outcome = await call(reactor, interrupt, stage, spoken(CALL_S, CALL_RATE))
    if keeps_sessions() and not interrupt.asked:
        held = await session(reactor, interrupt, stage, recording)
    return report_on(console, reports[0], witness, stage, (outcome, held))


def report_on(
    console: Console,
    report: StreamReport,
    witness: Witness,
    stage: Stage,
    outcomes: tuple[CallOutcome | None, SessionOutcome | None],
) -> int:
    """Tell how it went; ``outcomes`` are of the call and the session that were. Returns the exit code."""
    outcome, held = outcomes
    problems = [report.failure] if report.failure else []
    problems += witness.problems()
    problems += outcome.problems() if outcome is not None else []
    problems += held.problems() if held is not None else []
    tally = report.tally
    console.document(
        {
            "ok": not problems,
            "problems": problems,
            **witness.document(),
            "frame_bytes": frame_bytes(RATE, FRAME_MS),
            "acks": tally.acks,
            "confirmed_frames": tally.acked,
            "ack_latency_ms": tally.latencies.summary_ms(),
            "tls": report.tls_version,
            "close_code": report.close_code,
            "call": outcome.document() if outcome is not None else None,
            "session": held.document() if held is not None else None,
        }
    )
    console.pairs(
        {
            "frames sent": str(witness.sent),
            "frames received": f"{witness.received} at the other end of the bus",
            "identical": f"{witness.identical} byte for byte",
            "order": "kept" if not witness.out_of_order else f"{witness.out_of_order} out of order",
            "acks": f"{tally.acks}, {tally.acked} frames confirmed",
            "mouth to bus": in_words(witness.latencies.summary_ms()),
            "ack latency": in_words(tally.latencies.summary_ms()),
            "TLS": report.tls_version or "none",
            "close code": str(report.close_code),
            **(outcome.pairs() if outcome is not None else {}),
            **(held.pairs() if held is not None else {}),
        }
    )
    if not problems:
        console.say("ok: what came out is what went in", style="bold green")
        return Exit.OK
    for problem in problems:
        console.note(f"error: {problem}", style="bold red")
    announce(console, report.hint)
    for line in list(stage.log.lines)[-10:]:
        console.note(f"daemon: {line}", style="dim")
    return report.exit_code or Exit.REFUSED


async def stay(reactor: Any, interrupt: Interrupt, stage: Stage, console: Console) -> None:
    """Leave the daemon up, show what others send to it, until Ctrl-C."""
    from .screen import Screen
    from .watch import Watch

    token = stage.token(KEPT_TOKEN_LIFETIME_S)
    console.say()
    console.say("The daemon stays up until Ctrl-C. From another terminal:", style="bold")
    console.say()
    console.say(f"  export WS_URL={stage.target.label}")
    console.say(f"  export JWT_TOKEN={token}")
    console.say(f"  voiceingest simulate ingest --tenant {TENANT} --ca {stage.ca_path}")
    bring = f"--url {stage.call_url} --token {stage.call_token} --ca {stage.ca_path}"
    console.say(f"  voiceingest simulate exotel {bring}")
    console.say()
    console.say(f"  curl http://127.0.0.1:{stage.admin_port}/metrics")
    console.say()
    watch = Watch(reactor, Screen(console), interrupt.ask)
    unsubscribe = stage.subscribe(lambda _, payload: watch.message(payload))
    watch.begin()
    try:
        await interrupt.when()
    finally:
        unsubscribe()
        watch.close()
