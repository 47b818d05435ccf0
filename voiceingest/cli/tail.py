"""``voiceingest tail``: what is on the bus, as it comes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .console import Console
from .failures import Exit, UsageFailed
from .options import duration, epilog, insecure_option, json_option

if TYPE_CHECKING:
    from .readers import Wish
    from .reading import BusMessage
    from .recorder import Recorder
    from .running import Interrupt
    from .screen import Screen

DEFAULT_URL: Final = "redis://localhost:6379"


@click.command(
    epilog=epilog(
        """voiceingest tail --url redis://localhost:6379
voiceingest tail --interaction call-7 --record call.wav
voiceingest tail --url rediss://user:password@redis.example.com --ca ca.pem --json
voiceingest tail --url redis-streams+sentinel://s1,s2,s3/mymaster --from-start
voiceingest tail --url nats://localhost:4222 --count 100 --for 30s""",
        *Exit,
    )
)
@click.option(
    "--url",
    envvar=["PUBLISH_URL", "REDIS_URL"],
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    help="The bus: that of the daemon's PUBLISH_URL.",
)
@click.option(
    "--channel",
    help="Channel, stream or subject of the frames, or its template: what is in braces and not given"
    " matches anything.  [env var: REDIS_CHANNEL, with NATS NATS_SUBJECT]",
)
@click.option(
    "--events-channel",
    help="The same of the events.  [env var: REDIS_EVENTS_CHANNEL, with NATS NATS_EVENTS_SUBJECT]",
)
@click.option(
    "--nats-stream",
    envvar="NATS_STREAM",
    default="VOICEINGEST",
    show_default=True,
    show_envvar=True,
    help="With NATS: the JetStream stream.",
)
@click.option("--from-start", is_flag=True, help="Not only what comes, all that is kept (not with pub/sub).")
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
    envvar=["REDIS_CA_PATH", "NATS_CA_PATH"],
    show_envvar=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="With TLS: trust the authorities (PEM) in this file instead.",
)
@click.option(
    "--credentials",
    envvar="NATS_CREDENTIALS_PATH",
    show_envvar=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="With NATS: credentials file.",
)
@insecure_option
@json_option
def tail(json_output: bool, **chosen: Any) -> None:
    """Show frames and events of a bus as they come.

    At a terminal a level meter for each stream, in a pipe one line for each frame. A number that is
    missing or comes twice is said. Ctrl-C ends it and completes the recordings. Redis pub/sub, Redis
    Streams, both also by way of sentinels, and NATS JetStream are read; passwords of sentinels come
    from REDIS_SENTINEL_USERNAME and REDIS_SENTINEL_PASSWORD.
    """
    from .recorder import Recorder

    console = Console(json_output=json_output)
    wish = wish_of(chosen, os.environ)
    recorder = Recorder(chosen["record"], force=chosen["force"]) if chosen["record"] else None

    async def work(reactor: Any, interrupt: Interrupt) -> Screen:
        return await follow(reactor, interrupt, console, wish, recorder, chosen)

    from .running import run

    try:
        screen = run(work)
    finally:
        if recorder is not None:
            recorder.close()
    _conclude(console, screen, recorder, chosen["count"])


def wish_of(chosen: dict[str, Any], environ: Mapping[str, str]) -> Wish:
    """What is to be read, from the options and the environment. Raises: ``UsageFailed``."""
    from .readers import READERS, Wish
    from .target import Trust

    scheme = chosen["url"].partition("://")[0]
    if scheme not in READERS:
        if scheme == "memory":
            raise UsageFailed("memory:// is heard inside the daemon only", hint="voiceingest demo shows it")
        raise UsageFailed(f"--url begins with one of {', '.join(READERS)}", hint=f"such as {DEFAULT_URL}")
    names = ("NATS_SUBJECT", "NATS_EVENTS_SUBJECT")
    if not scheme.startswith("nats"):
        names = ("REDIS_CHANNEL", "REDIS_EVENTS_CHANNEL")
    return Wish(
        chosen["url"],
        (chosen["channel"] or environ.get(names[0]), chosen["events_channel"] or environ.get(names[1])),
        tenant_id=chosen.get("tenant"),
        interaction_id=chosen.get("interaction"),
        from_start=chosen.get("from_start", False),
        trust=Trust(chosen["ca"], chosen["insecure"]),
        sentinel_login=(environ.get("REDIS_SENTINEL_USERNAME"), environ.get("REDIS_SENTINEL_PASSWORD")),
        nats_stream=chosen["nats_stream"],
        nats_credentials=chosen["credentials"],
    )


async def follow(
    reactor: Any,
    interrupt: Interrupt,
    console: Console,
    wish: Wish,
    recorder: Recorder | None,
    chosen: dict[str, Any],
) -> Screen:
    """Show what comes until it is enough."""
    from .readers import open_reader
    from .screen import Screen
    from .watch import Watch

    def received(message: BusMessage) -> None:
        watch.heard(message)

    reader, names = open_reader(reactor, wish, received, console.note)
    console.when_closed = reader.stop
    if console.is_terminal:
        console.note(f"listening to {', '.join(names)} at {reader.label}; Ctrl-C ends", style="dim")
    screen = Screen(console, tenant_id=wish.tenant_id, interaction_id=wish.interaction_id, recorder=recorder)
    watch = Watch(reactor, screen, reader.stop, chosen["count"])
    watch.begin()
    timer = reactor.callLater(chosen["for_s"], reader.stop) if chosen["for_s"] else None
    try:
        await reader.follow(interrupt)
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
