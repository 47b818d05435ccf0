"""The table of buses that can be read, by the scheme of their URL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..errors import SettingsError
from ..publishers.redis_url import RedisUrl, parse_redis_url
from .failures import UsageFailed
from .reading import IReader, Received, Say, read_json
from .target import Trust

REDIS_CHANNELS: Final = ("audio:frames", "audio:events")
NATS_SUBJECTS: Final = ("audio.frames", "audio.events")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be read; ``None`` stands for what is usual at the bus. ``channels``: frames, events."""

    url: str = field(repr=False)
    channels: tuple[str | None, str | None] = (None, None)
    tenant_id: str | None = None
    interaction_id: str | None = None
    from_start: bool = False
    trust: Trust = field(default_factory=Trust)
    sentinel_login: tuple[str | None, str | None] = field(default=(None, None), repr=False)
    nats_stream: str = "VOICEINGEST"
    nats_credentials: Path | None = None

    def templates(self, usual: tuple[str, str]) -> list[str]:
        """The templates of the channels, each once."""
        named = (given or default for given, default in zip(self.channels, usual, strict=True))
        return list(dict.fromkeys(named))


Opener = Callable[[Any, Wish, Received, Say], tuple[IReader, list[str]]]


def parse_redis(text: str) -> RedisUrl:
    """A Redis URL. Raises: ``UsageFailed``, which repeats nothing of it."""
    try:
        return parse_redis_url(text)
    except SettingsError as wrong:
        problem = wrong.problems[0].partition(": ")[2]
        raise UsageFailed(f"--url {problem}", hint="redis[s]://[user:password@]host[:port][/db]") from None


def _pubsub(reactor: Any, wish: Wish, received: Received, say: Say) -> tuple[IReader, list[str]]:
    from .subscriber import Subscriber, pattern_of

    url = parse_redis(wish.url)
    if wish.from_start:
        raise UsageFailed("--from-start: pub/sub keeps nothing; redis-streams and nats do")
    channels = [pattern_of(t, wish.tenant_id, wish.interaction_id) for t in wish.templates(REDIS_CHANNELS)]

    def heard(channel: bytes, payload: bytes) -> None:
        received(read_json(payload))

    reader = Subscriber(reactor, url, channels, heard, wish.trust, say, wish.sentinel_login)
    return reader, [name for name, _ in channels]


def _streams(reactor: Any, wish: Wish, received: Received, say: Say) -> tuple[IReader, list[str]]:
    from .redis_entries import EntryReader
    from .subscriber import pattern_of

    url = parse_redis(wish.url)
    names = [pattern_of(t, wish.tenant_id, wish.interaction_id) for t in wish.templates(REDIS_CHANNELS)]
    reader = EntryReader(
        reactor,
        url,
        names,
        received,
        wish.trust,
        say,
        from_start=wish.from_start,
        login=wish.sentinel_login,
    )
    return reader, [name for name, _ in names]


def _jetstream(reactor: Any, wish: Wish, received: Received, say: Say) -> tuple[IReader, list[str]]:
    from .jetstream import JetStreamReader, Source, parse_url

    if wish.trust.insecure:
        raise UsageFailed("--insecure does not go with NATS; name the authority with --ca")
    templates = wish.templates(NATS_SUBJECTS)
    source = Source(
        parse_url(wish.url),
        wish.nats_stream,
        templates,
        from_start=wish.from_start,
        ca=wish.trust.ca,
        credentials=wish.nats_credentials,
    )
    reader = JetStreamReader(reactor, source, received, say)
    return reader, templates


# A new bus is one module and one line here.
READERS: Final[dict[str, Opener]] = {
    "redis": _pubsub,
    "rediss": _pubsub,
    "unix": _pubsub,
    "redis+sentinel": _pubsub,
    "rediss+sentinel": _pubsub,
    "redis-streams": _streams,
    "rediss-streams": _streams,
    "redis-streams+sentinel": _streams,
    "rediss-streams+sentinel": _streams,
    "nats": _jetstream,
    "nats+tls": _jetstream,
}


def open_reader(reactor: Any, wish: Wish, received: Received, say: Say) -> tuple[IReader, list[str]]:
    """The reader for a URL, and the names of what it reads.

    Raises: ``UsageFailed`` for a URL that cannot be read, or for what is needed and is not there;
    ``KeyError`` for a scheme that is not in the table.
    """
    return READERS[wish.url.partition("://")[0]](reactor, wish, received, say)
