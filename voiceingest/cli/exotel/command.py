"""``voiceingest simulate exotel``: call a voicebot as Exotel would."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from ..console import Console, SpeechBar
from ..failures import Exit, UsageFailed
from ..meter import bar, rms_dbfs
from ..options import ca_option, duration, epilog, insecure_option, json_option, mix_option, tone_option
from ..recorder import safe_name
from ..sources import length_s
from ..wavfile import write_wav
from .choices import RATES, dialling_of, recording_of, script_of
from .options import keys, parameters

if TYPE_CHECKING:
    from ..running import Interrupt
    from .conversation import Script
    from .report import CallReport

DEFAULT_URL: Final = "wss://localhost:8443/voicebot/ws"

REDRAW_S: Final = 0.08
METER_STEP: Final = 4


@click.command(
    epilog=epilog(
        """voiceingest simulate exotel question.wav --url wss://bot.example.com/ws --record answer.wav
voiceingest simulate exotel --webhook "https://bot.example.com/connect?token=$TOKEN" --linger 10s
voiceingest simulate exotel --url "wss://key:token@bot.example.com/ws?sample-rate=16000" --rate 16000
voiceingest simulate exotel --barge-in 2s --dtmf "12#@5s" --param tenant_id=acme
EXOTEL_WS_TOKEN=... voiceingest simulate exotel --seconds 60 --calls 100 --json""",
        *Exit,
    )
)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@tone_option
@click.option(
    "--url",
    envvar="EXOTEL_WS_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    help="Where to; user and password in it are sent as Exotel does.",
)
@click.option("--webhook", metavar="URL", help="Ask here for the URL of each call, as an applet does.")
@click.option("--user", envvar="EXOTEL_WS_USER", show_envvar=True, help="User name (Basic).")
@click.option("--password", envvar="EXOTEL_WS_PASSWORD", show_envvar=True, help="Password of --user.")
@click.option("--token", envvar="EXOTEL_WS_TOKEN", show_envvar=True, help="Bearer token instead.")
@click.option("--ticket", help="Single-use ticket in the URL instead.")
@click.option(
    "--rate",
    type=click.Choice([str(rate) for rate in RATES]),
    help="Samples per second of raw PCM, tone or speech.  [default: 8000]",
)
@mix_option
@click.option(
    "--codec", type=click.Choice(["pcm16", "mulaw"]), default="pcm16", show_default=True, help="On the wire."
)
@click.option(
    "--frame-ms", type=click.FloatRange(5, 1000), default=100, show_default=True, help="Length of a chunk."
)
@click.option("--seconds", callback=duration, metavar="TIME", help="Cut or repeat the audio to this length.")
@click.option(
    "--linger",
    callback=duration,
    metavar="TIME",
    default="2s",
    show_default=True,
    help="Stay on the line, silent, for so long after the audio.",
)
@click.option(
    "--barge-in",
    callback=duration,
    metavar="TIME",
    help="Be silent until the bot has been heard for so long (30 s at most), then speak into it.",
)
@click.option("--dtmf", multiple=True, callback=keys, metavar="KEYS@TIME", help="Press keys, as in 12#@2s.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OUT.wav",
    help="Write what the caller heard, gaps and all.",
)
@click.option("--force", is_flag=True, help="Overwrite OUT.wav.")
@click.option("--calls", type=click.IntRange(1, 300), default=1, show_default=True, help="So many at once.")
@click.option(
    "--param", multiple=True, callback=parameters, metavar="NAME=VALUE", help="Custom parameter, up to 3."
)
@click.option("--from", "caller", default="09876543210", show_default=True, help="Who calls.")
@click.option("--to", "called", default="08012345678", show_default=True, help="Who is called.")
@click.option("--call-id", help="Id of the call; one is made up otherwise.")
@ca_option
@insecure_option
@json_option
@click.pass_context
def exotel(ctx: click.Context, /, json_output: bool, **chosen: Any) -> None:
    """Call a voicebot as Exotel would: FILE (.wav, or raw 16-bit PCM), a tone, or made-up speech.

    Speaks in real time and plays what comes back in real time: chunks are checked against Exotel's
    rules, marks are echoed when they have been played, `clear` empties the queue. The summary tells
    how soon the bot answered, whether it kept pace, and where the caller would have heard a hole: a
    pause of up to half a second within what the bot says.

    Exit code 0 means: the call stood until the caller hung up, nothing the bot sent was illegal, and
    the connection was closed in order.
    """
    console = Console(json_output=json_output)
    recording = recording_of(chosen)
    paths = _paths(chosen)
    authorization = _authorization(ctx, chosen)

    async def work(reactor: Any, interrupt: Interrupt) -> list[CallReport]:
        from .calls import legs, run_calls
        from .outgoing import Leg

        dialling = dialling_of(console, authorization, chosen)
        script = script_of(recording, chosen)
        leg = Leg(
            chosen["call_id"] or f"sim-{os.urandom(4).hex()}",
            "",
            caller=chosen["caller"],
            called=chosen["called"],
            sample_rate=recording.sample_rate,
            codec=chosen["codec"],
        )
        total_s = (length_s(recording, chosen["seconds"]) + chosen["linger"]) * chosen["calls"]
        show = Show(console, reactor, total_s, script)
        try:
            return await run_calls(
                reactor, dialling, script, legs(leg, chosen["calls"]), interrupt, show.spoke
            )
        finally:
            show.close()

    from ..running import run

    reports = run(work)
    conclude(console, reports, recording.sample_rate, _write(reports, paths, recording.sample_rate))


def _paths(chosen: dict[str, Any]) -> tuple[Path, bool] | None:
    path: Path | None = chosen["record"]
    if path is None:
        return None
    if not path.parent.is_dir():
        raise UsageFailed(f"{path.parent} is not a directory")
    if path.exists() and not chosen["force"]:
        raise UsageFailed(f"{path} exists", hint="--force overwrites it")
    return path, chosen["force"]


def _authorization(ctx: click.Context, chosen: dict[str, Any]) -> str | None:
    """The credentials chosen: those of the command line go before those of the environment."""
    from .address import basic

    said = {
        name
        for name in ("user", "token", "ticket")
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if len(said) > 1:
        raise UsageFailed("--user, --token and --ticket exclude each other")
    names = [name for name in ("user", "token") if chosen[name] and (not said or name in said)]
    if not names:
        return None
    if names[0] == "token":
        if not (chosen["token"].isascii() and chosen["token"].isprintable()):
            raise UsageFailed("the token holds a character that no token has")
        return f"Bearer {chosen['token']}"
    if chosen["password"] is None:
        raise UsageFailed("--user needs --password")
    return basic(chosen["user"], chosen["password"])


class Show:
    """The progress bar of a run: seconds spoken, level."""

    def __init__(self, console: Console, reactor: Any, total_s: float, script: Script) -> None:
        self._bar = SpeechBar(console, "calling", total_s)
        self._reactor = reactor
        self._script = script
        self._frames = 0
        self._drawn_s = 0.0

    def spoke(self, audio: bytes) -> None:
        """A chunk has been sent."""
        self._frames += 1
        now_s = self._reactor.seconds()
        if not self._bar.visible or now_s - self._drawn_s < REDRAW_S:
            return
        self._drawn_s = now_s
        level = rms_dbfs(self._script.decode(audio), METER_STEP)
        self._bar.update(self._frames * self._script.frame_s, f"{bar(level)} {level:5.1f} dBFS", "")

    def close(self) -> None:
        """Take it off the screen."""
        self._bar.close()


def _write(reports: list[CallReport], paths: tuple[Path, bool] | None, sample_rate: int) -> list[Path]:
    """Write what each caller heard: to the path itself, or one beside it for each of several calls."""
    if paths is None:
        return []
    path, force = paths
    written = []
    for report in reports:
        if not report.began:
            continue
        place = path
        if len(reports) > 1:
            place = path.with_name(f"{path.stem}-{safe_name(report.call_id)}{path.suffix}")
        if place.exists() and not force:
            raise UsageFailed(f"{place} exists", hint="--force overwrites it")
        try:
            write_wav(place, report.recording, sample_rate)
        except OSError as problem:
            raise UsageFailed(f"{place} cannot be written: {problem.strerror}") from problem
        written.append(place)
    return written


def conclude(console: Console, reports: list[CallReport], sample_rate: int, written: list[Path]) -> None:
    """Say how it went and exit with what that means."""
    from . import summary
    from .report import worst

    console.document(summary.document(reports, sample_rate) | {"recorded": [str(path) for path in written]})
    # Where no call stood there is nothing to sum up, and the one error is told below.
    if any(report.began for report in reports):
        rows = summary.pairs(reports, sample_rate)
        if written:
            rows["recorded"] = f"{written[0]}" if len(written) == 1 else f"{len(written)} files"
        console.pairs(rows)
        for remark in summary.remarks(reports):
            console.note(remark)
    for text, hint in summary.complaints(reports):
        console.note(f"error: {text}", style="bold red")
        if hint:
            console.note(f"hint: {hint}", style="red")
    code = worst(reports)
    if code == Exit.OK:
        console.say("ok: the call stood and ended in order", style="bold green")
    sys.exit(int(code))
