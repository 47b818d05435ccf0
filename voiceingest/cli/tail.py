"""``voiceingest tail``: what is on the bus, as it comes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import SettingsError
from .console import Console
from .failures import Exit, UsageFailed
from .options import duration, epilog, json_option

if TYPE_CHECKING:
    from ..publishers.redis_url import RedisUrl
    from .recorder import Recorder
    from .running import Interrupt
    from .screen import Screen

DEFAULT_URL: Final = "redis://localhost:6379"


@click.command(
    epilog=epilog(
        """voiceingest tail --url redis://localhost:6379
voiceingest tail --interaction call-7 --record call.wav
voiceingest tail --url rediss://user:password@redis.example.com --ca ca.pem --json
voiceingest tail --channel 'audio:frames:{tenant_id}' --count 100 --for 30s""",
        *Exit,
    )
)
@click.option(
    "--url", envvar="REDIS_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="The Redis."
)
@click.option(
    "--channel",
    envvar="REDIS_CHANNEL",
    default="audio:frames",
    show_default=True,
    show_envvar=True,
    help="Channel of the frames, or its template: what is in braces and not given matches anything.",
)
@click.option(
    "--events-channel",
    envvar="REDIS_EVENTS_CHANNEL",
    default="audio:events",
    show_default=True,
    show_envvar=True,
    help="Channel of the events, or its template.",
)
@click.option("--tenant", help="Only streams of this tenant.")
@click.option("--interaction", help="Only this stream.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OUT.wav",
    help="Write the audio, bit for bit. Several streams: one OUT-<interaction>.wav each.",
)
@click.option("--force", is_flag=True, help="Overwrite OUT.wav.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many frames.")
@click.option(
    "--for",
    "for_s",
    callback=duration,
    metavar="TIME",
    help="End after so long; exit code 1 if --count was not reached.",
)
@click.option(
    "--ca",
    envvar="REDIS_CA_PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="For rediss: trust the authorities (PEM) in this file instead.",
)
@click.option(
    "--insecure", is_flag=True, help="Do not look at the server's certificate. For trying out only."
)
@json_option
def tail(json_output: bool, **chosen: Any) -> None:
    """Show frames and events of a Redis as they come.

    At a terminal a level meter for each stream, in a pipe one line for each frame. A number that is
    missing or comes twice is said. Ctrl-C ends it and completes the recordings.
    """
    from .recorder import Recorder

    console = Console(json_output=json_output)
    url = parse_url(chosen["url"])
    recorder = Recorder(chosen["record"], force=chosen["force"]) if chosen["record"] else None

    async def work(reactor: Any, interrupt: Interrupt) -> Screen:
        return await follow(reactor, interrupt, console, url, recorder, chosen)

    from .running import run

    try:
        screen = run(work)
    finally:
        if recorder is not None:
            recorder.close()
    _conclude(console, screen, recorder, chosen["count"])


def parse_url(text: str) -> RedisUrl:
    """A Redis URL. Raises: ``UsageFailed``, which repeats nothing of it."""
    from ..publishers.redis_url import parse_redis_url

    try:
        return parse_redis_url(text)
    except SettingsError as wrong:
        problem = wrong.problems[0].partition(": ")[2]
        raise UsageFailed(f"--url {problem}", hint="redis[s]://[user:password@]host[:port][/db]") from None


async def follow(
    reactor: Any,
    interrupt: Interrupt,
    console: Console,
    url: RedisUrl,
    recorder: Recorder | None,
    chosen: dict[str, Any],
) -> Screen:
    """Show what comes until it is enough."""
    from .screen import Screen
    from .subscriber import Subscriber, pattern_of
    from .target import Trust
    from .watch import Watch

    tenant_id, interaction_id = chosen["tenant"], chosen["interaction"]
    templates = dict.fromkeys((chosen["channel"], chosen["events_channel"]))
    channels = [pattern_of(template, tenant_id, interaction_id) for template in templates]
    trust = Trust(chosen["ca"], chosen["insecure"])
    subscriber = Subscriber(
        reactor, url, channels, lambda _, payload: watch.message(payload), trust, console.note
    )
    console.when_closed = subscriber.stop
    if console.is_terminal:
        names = ", ".join(name for name, _ in channels)
        console.note(f"listening to {names} at {subscriber.label}; Ctrl-C ends", style="dim")
    screen = Screen(console, tenant_id=tenant_id, interaction_id=interaction_id, recorder=recorder)
    watch = Watch(reactor, screen, subscriber.stop, chosen["count"])
    watch.begin()
    timer = reactor.callLater(chosen["for_s"], subscriber.stop) if chosen["for_s"] else None
    try:
        await subscriber.follow(interrupt)
    finally:
        if timer is not None and timer.active():
            timer.cancel()
        watch.close()
    return screen


def _conclude(console: Console, screen: Screen, recorder: Recorder | None, count: int | None) -> None:
    facts = screen.summary()
    recorded = [{"path": str(path), "bytes": size} for path, size in recorder.files] if recorder else []
    console.document({"type": "summary", **facts, "recorded": recorded})
    console.note(", ".join(f"{value} {name}" for name, value in facts.items()), style="dim")
    for file in recorded:
        console.note(f"recorded {file['path']}: {file['bytes']} bytes of audio", style="dim")
    if recorder is not None and recorder.skipped_frames:
        console.note(
            f"{recorder.skipped_frames} frames were not recorded: not PCM, too many streams, or too long"
        )
    if count is not None and facts["frames"] < count:
        console.note(f"error: {facts['frames']} frames came, not {count}", style="bold red")
        sys.exit(Exit.REFUSED)
