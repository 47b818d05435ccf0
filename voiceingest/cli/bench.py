"""``voiceingest bench``: a load, and what became of every sample of it at the other end of the bus."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..audio import SAMPLE_RATES
from .console import Console
from .failures import Exit, UsageFailed
from .options import duration, epilog, json_option
from .pacing import frame_bytes
from .simulate import DEFAULT_TENANT, token_source
from .simulate import DEFAULT_URL as DEFAULT_INGEST_URL
from .tail import DEFAULT_URL as DEFAULT_BUS_URL
from .tail import wish_of

if TYPE_CHECKING:
    from .running import Interrupt
    from .streams import Plan
    from .verdict import Verdict

SECONDS: Final = 10.0


@click.command(
    epilog=epilog(
        """voiceingest bench --self
voiceingest bench --self --streams 200 --frame-ms 20 --seconds 30
voiceingest bench --url wss://voice.example.com --key private.pem --publish-url redis://localhost:6379
voiceingest bench --self --flat-out --json""",
        *Exit,
    )
)
@click.option(
    "--streams", type=click.IntRange(1, 2000), default=50, show_default=True, help="So many at once."
)
@click.option("--seconds", callback=duration, metavar="TIME", help="How long.  [default: 10s]")
@click.option(
    "--frame-ms", type=click.FloatRange(2, 1000), default=200, show_default=True, help="Length of a frame."
)
@click.option(
    "--rate",
    type=click.Choice([str(rate) for rate in SAMPLE_RATES]),
    default="24000",
    show_default=True,
    help="Samples per second.",
)
@click.option("--flat-out", is_flag=True, help="As fast as the daemon takes, not in real time.")
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on with a stream on a new connection when the old one is lost.",
)
@click.option(
    "--self",
    "itself",
    is_flag=True,
    help="Against a daemon of its own, in a child process, with the bus in memory.",
)
@click.option(
    "--url",
    envvar="WS_URL",
    default=DEFAULT_INGEST_URL,
    show_default=True,
    show_envvar=True,
    help="The daemon.",
)
@click.option("--token", envvar="JWT_TOKEN", show_envvar=True, help="Bearer token.")
@click.option(
    "--key",
    "key_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Private key in PEM: mint tokens instead.",
)
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="tenant_id of the streams.")
@click.option(
    "--ca", type=click.Path(dir_okay=False, path_type=Path), help="Authorities (PEM) of the daemon's TLS."
)
@click.option("--insecure", is_flag=True, help="Do not look at the daemon's certificate.")
@click.option(
    "--publish-url",
    envvar=["PUBLISH_URL", "REDIS_URL"],
    default=DEFAULT_BUS_URL,
    show_default=True,
    show_envvar=True,
    help="The bus the daemon publishes to.",
)
@click.option("--channel", help="As that of voiceingest tail.")
@click.option("--events-channel", help="As that of voiceingest tail.")
@click.option(
    "--nats-stream",
    envvar="NATS_STREAM",
    default="VOICEINGEST",
    show_default=True,
    show_envvar=True,
    help="With NATS: the JetStream stream.",
)
@click.option(
    "--credentials",
    envvar="NATS_CREDENTIALS_PATH",
    show_envvar=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="With NATS: credentials file.",
)
@click.option(
    "--publish-ca",
    envvar=["REDIS_CA_PATH", "NATS_CA_PATH"],
    show_envvar=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Authorities (PEM) of the bus's TLS.",
)
@json_option
def bench(json_output: bool, **chosen: Any) -> None:
    """Send marked audio on many streams, and account for every sample of it on the bus.

    The marks are in the audio, so that loss, repeats and order are counted in samples and the time
    from mouth to bus is that of the audio itself. What the daemon declared lost is counted apart:
    sent = received + declared + lost. Exit code 1 when anything was lost, came twice, came out of
    order or was changed.
    """
    console = Console(json_output=json_output)
    chosen["seconds"] = chosen["seconds"] or SECONDS
    samples = frame_bytes(int(chosen["rate"]), chosen["frame_ms"]) // 2
    if samples < 16:
        raise UsageFailed("a frame needs 16 samples for its mark; use a longer --frame-ms")
    bus = {**chosen, "url": chosen["publish_url"], "ca": chosen["publish_ca"], "insecure": False}
    wish = None if chosen["itself"] else wish_of({**bus, "tenant": None}, os.environ)

    async def work(reactor: Any, interrupt: Interrupt) -> Verdict:
        from .rig import Rig

        rig = Rig(reactor, interrupt, console, samples, chosen)
        if wish is None:
            return await rig.by_itself()
        return await rig.against(_plan(console, chosen), wish)

    from .running import run

    verdict = run(work)
    console.document(verdict.document())
    verdict.tell(console)
    sys.exit(int(verdict.exit_code))


def _plan(console: Console, chosen: dict[str, Any]) -> Plan:
    """Raises: ``UsageFailed``."""
    from .streams import Plan
    from .target import Trust, parse_target

    target = parse_target(chosen["url"])
    if chosen["insecure"]:
        console.note("--insecure: whoever answers is believed")
    return Plan(
        target=target,
        trust=Trust(chosen["ca"], chosen["insecure"]),
        tenant_id=chosen["tenant"],
        sample_rate=int(chosen["rate"]),
        frame_s=frame_length_s(chosen),
        token=token_source(chosen["token"], chosen["key_path"], chosen["tenant"]),
        renewable=chosen["key_path"] is not None,
        resume=chosen["resume"],
    )


def frame_length_s(chosen: dict[str, Any]) -> float:
    """The length of a frame, 0 for flat out."""
    rate = int(chosen["rate"])
    return 0.0 if chosen["flat_out"] else frame_bytes(rate, chosen["frame_ms"]) / 2 / rate
