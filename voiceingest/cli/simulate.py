"""``voiceingest simulate``: be a caller. One command for each dialect the daemon speaks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..audio import SAMPLE_RATES
from .console import Console, SpeechBar
from .exotel.command import exotel
from .failures import Exit, UsageFailed
from .meter import bar, rms_dbfs
from .minting import TokenRequest, mint
from .options import ca_option, duration, epilog, insecure_option, json_option, mix_option, tone_option
from .sources import choose_recording, frames, length_s
from .tokens import read_signer

if TYPE_CHECKING:
    from .running import Interrupt
    from .streams import Plan, StreamReport
    from .tally import Tally
    from .wavfile import Recording

DEFAULT_URL: Final = "wss://localhost:8443/v1/ingest"
DEFAULT_TENANT: Final = "demo"
MINTED_LIFETIME_S: Final = 900.0

# A bar redrawn more often than the eye follows only costs.
REDRAW_S: Final = 0.08
METER_STEP: Final = 4


@click.group()
def simulate() -> None:
    """Send audio as a caller would, and see what becomes of it."""


simulate.add_command(exotel)


def _rate_choice() -> click.Choice[str]:
    return click.Choice([str(rate) for rate in SAMPLE_RATES])


@simulate.command(
    epilog=epilog(
        """voiceingest simulate ingest call.wav --url wss://voice.example.com/v1/ingest --token "$JWT_TOKEN"
voiceingest simulate ingest --key private.pem --tenant acme --ca tls-cert.pem
voiceingest simulate ingest --tone 440 --seconds 30 --streams 20
WS_URL=ws://localhost:8080 JWT_TOKEN=... voiceingest simulate ingest call.pcm --rate 8000 --json""",
        *Exit,
    )
)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@tone_option
@click.option(
    "--url", envvar="WS_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="Where to."
)
@click.option("--token", envvar="JWT_TOKEN", show_envvar=True, help="Bearer token.")
@click.option(
    "--key",
    "key_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Private key in PEM: mint a token instead, and renew it when asked.",
)
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="tenant_id of the stream.")
@click.option("--interaction", help="interaction_id of the stream; one is made up otherwise.")
@click.option(
    "--rate", type=_rate_choice(), help="Samples per second of raw PCM, tone or speech.  [default: 24000]"
)
@mix_option
@click.option(
    "--frame-ms", type=click.FloatRange(1, 2000), default=200, show_default=True, help="Length of a frame."
)
@click.option("--seconds", callback=duration, metavar="TIME", help="Cut or repeat the audio to this length.")
@click.option(
    "--streams", type=click.IntRange(1, 2000), default=1, show_default=True, help="So many at once."
)
@click.option("--fast", is_flag=True, help="As fast as the server takes, not in real time.")
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on with the stream on a new connection when the old one is lost.",
)
@ca_option
@insecure_option
@json_option
def ingest(json_output: bool, **chosen: Any) -> None:
    """Stream FILE (.wav, or raw 16-bit PCM), a tone, or made-up speech to /v1/ingest.

    In real time and in step with the clock; Ctrl-C stops the stream in the ordinary way and waits
    for the last frames to be confirmed. Frames are kept until then: when the connection is lost, or
    the daemon moves its streams elsewhere, the stream goes on where it stood.
    """
    console = Console(json_output=json_output)
    recording = choose_recording(
        chosen["file"],
        chosen["tone_hz"],
        chosen["seconds"],
        int(chosen["rate"]) if chosen["rate"] else None,
        chosen["mix"],
    )
    token_of = token_source(chosen["token"], chosen["key_path"], chosen["tenant"])

    async def work(reactor: Any, interrupt: Interrupt) -> list[StreamReport]:
        from .streams import run_streams

        plan = _plan(console, recording, token_of, chosen)
        show = Show(
            console,
            reactor,
            length_s(recording, chosen["seconds"]) * chosen["streams"],
            recording.sample_rate,
        )

        def frames_of() -> Iterable[bytes]:
            return frames(recording, chosen["frame_ms"], chosen["seconds"])

        try:
            return await run_streams(reactor, plan, names(chosen), frames_of, interrupt, show.frame)
        finally:
            show.close()

    from .running import run

    conclude(console, run(work), recording.sample_rate)


def _plan(
    console: Console, recording: Recording, token_of: Callable[[str], str | None], chosen: dict[str, Any]
) -> Plan:
    from .streams import Plan
    from .target import Trust, parse_target

    target = parse_target(chosen["url"])
    if not target.secure and not target.is_loopback:
        console.note(f"the token and the audio go to {target.host} in the clear; wss:// would hide them")
    if chosen["insecure"]:
        console.note("--insecure: whoever answers is believed")
    return Plan(
        target=target,
        trust=Trust(chosen["ca"], chosen["insecure"]),
        tenant_id=chosen["tenant"],
        sample_rate=recording.sample_rate,
        frame_s=0.0 if chosen["fast"] else chosen["frame_ms"] / 1000,
        token=token_of,
        renewable=chosen["key_path"] is not None,
        resume=chosen["resume"],
    )


def token_source(given: str | None, key_path: Path | None, tenant: str) -> Callable[[str], str | None]:
    """Where the token of a stream comes from: minted when there is a key, else the one given."""
    if key_path is None:
        if given is None:
            raise UsageFailed(
                "there is no token", hint="--token or JWT_TOKEN brings one, --key private.pem mints one"
            )
        return lambda interaction_id: given
    signer = read_signer(key_path)

    def minted(interaction_id: str) -> str:
        request = TokenRequest(tenant, subject="voiceingest-simulate", lifetime_s=MINTED_LIFETIME_S)
        return mint(signer, request, time.time())

    return minted


def names(chosen: dict[str, Any]) -> list[str]:
    """The interaction of each stream."""
    base = chosen["interaction"] or f"sim-{os.urandom(4).hex()}"
    if chosen["streams"] == 1:
        return [base]
    return [f"{base}-{number}" for number in range(1, chosen["streams"] + 1)]


class Show:
    """The progress bar of a run: seconds sent, level, acknowledgements."""

    def __init__(self, console: Console, reactor: Any, total_s: float, sample_rate: int) -> None:
        self._bar = SpeechBar(console, "speaking", total_s)
        self._reactor = reactor
        self._bytes_per_s = sample_rate * 2
        self._sent_bytes = 0
        self._drawn_s = 0.0
        self._tallies: dict[int, Tally] = {}

    def frame(self, frame: bytes, tally: Tally) -> None:
        """A frame has been sent."""
        self._sent_bytes += len(frame)
        self._tallies[id(tally)] = tally
        now_s = self._reactor.seconds()
        if not self._bar.visible or now_s - self._drawn_s < REDRAW_S:
            return
        self._drawn_s = now_s
        level = rms_dbfs(frame, METER_STEP)
        tallies = self._tallies.values()
        note = f"{sum(t.acked for t in tallies)}/{sum(t.sent_frames for t in tallies)} confirmed"
        self._bar.update(self._sent_bytes / self._bytes_per_s, f"{bar(level)} {level:5.1f} dBFS", note)

    def close(self) -> None:
        """Take it off the screen."""
        self._bar.close()


def conclude(console: Console, reports: list[StreamReport], sample_rate: int) -> None:
    """Say how it went and exit with what that means."""
    from . import summaries
    from .streams import worst

    console.document(summaries.document(reports, sample_rate))
    # Where no stream began there is nothing to sum up, and the one error is told below.
    if any(report.tally.started for report in reports):
        console.pairs(summaries.pairs(reports, sample_rate))
        for remark in summaries.remarks(reports):
            console.note(remark)
    for text, hint in summaries.complaints(reports):
        console.note(f"error: {text}", style="bold red")
        announce(console, hint)
    code = worst(reports)
    if code == Exit.OK:
        console.say("ok: every frame was confirmed", style="bold green")
    sys.exit(int(code))


def announce(console: Console, hint: str | None) -> None:
    """What would help, where something would."""
    if hint:
        console.note(f"hint: {hint}", style="red")
