"""Reading Redis Streams: ``XREAD`` over one connection, from where the last one ended.

An entry that was added while there was no connection is read when there is one again, unless the
stream has been trimmed past it. A template with a placeholder stands for every stream whose name it
can make; new ones are looked for once a second (redis.io/docs/latest/commands/xread and scan).
"""

from __future__ import annotations

from typing import Any, Final

import txredisapi
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as OutOfTime
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Factory

from ..errors import PeerError
from ..publishers.redis_link import BusRefusal, Login, RedisLink
from ..publishers.redis_url import RedisUrl
from ..wire.entry import decode_entry
from .failures import CommandFailed, ConnectionFailed, Exit
from .reading import BusMessage, Reader, Received, Say, read_event
from .redis_place import RedisPlace, SentinelLogin
from .target import CONNECT_TIMEOUT_S, Trust, connection_failed

# Entries in one answer and streams in one question.
READ_MAX_COUNT: Final = 512
STREAMS_MAX_COUNT: Final = 10_000
BLOCK_MS: Final = 1000
SCAN_EVERY_S: Final = 1.0
SCAN_COUNT: Final = 1000

_BEGINNING: Final = b"0-0"
_REFUSALS: Final = {
    "auth": ("refuses the password", "redis-streams://user:password@host:port/db"),
    "select": ("refuses the database", "redis-streams://user:password@host:port/db"),
    "read": (
        "does not let us read the streams",
        "the user's ACL needs the keys (~audio:*) and +xread +xrevrange +scan; each key is a stream",
    ),
}


def read_entry(fields: list[bytes]) -> BusMessage:
    """Read the names and values of one entry. Any fields have an answer."""
    found = dict(zip(fields[::2], fields[1::2], strict=False))
    if b"event" in found:
        return read_event(found[b"event"])
    try:
        frame, epoch = decode_entry(found)
    except PeerError:
        return BusMessage()
    return BusMessage(frame=frame, epoch=epoch)


def by_age(answer: list[Any]) -> list[tuple[bytes, bytes, list[bytes]]]:
    """The entries of an XREAD, of all streams together in the order of their ids."""
    entries = [(name, entry[0], entry[1] or []) for name, found in answer for entry in found]
    return sorted(entries, key=lambda entry: _moment(entry[1]))


def _moment(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number)


class EntryReader(Reader):
    """Delivers every entry of some streams; ``names`` are names, and whether each is a pattern."""

    _consequence = "it goes on with the entry after the last one"

    def __init__(
        self,
        reactor: Any,
        url: RedisUrl,
        names: list[tuple[str, bool]],
        received: Received,
        trust: Trust,
        say: Say,
        *,
        from_start: bool = False,
        login: SentinelLogin = (None, None),
    ) -> None:
        """Raises: ``UsageFailed``."""
        super().__init__(reactor, say)
        self._url = url
        self._names = names
        self._received = received
        self._from_start = from_start
        self._place = RedisPlace(reactor, url, trust, self._hang_up, login)
        self._link: RedisLink | None = None
        # The id of the last entry read of each stream.
        self._last: dict[bytes, bytes] = {}
        self._scanned_s = 0.0

    @property
    def label(self) -> str:
        """Where the server is, without how to be let in."""
        return self._place.label

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.abort()

    async def _close(self) -> None:
        await self._place.close()

    async def _listen(self) -> None:
        link = await self._connect()
        if link is None:
            return
        self._link = link
        try:
            await self._answered(link.greet(Login(self._url.username, self._url.password, self._url.db)))
            await self._find_streams(link)
            self._is_ready()
            while not self._stopped:
                await self._read(link)
        except BusRefusal as refusal:
            self._refused(refusal)
        except OutOfTime:
            if not self.ready.called:
                raise connection_failed(ConnectTimeout(), self.label) from None
            self._broke("silent")
        finally:
            self._link = None
            link.abort()

    async def _connect(self) -> RedisLink | None:
        factory = Factory.forProtocol(self._build)
        factory.noisy = False
        try:
            far_end = await self._place.endpoint()
            if self._stopped:
                return None
            link: RedisLink | None = await self._wait(far_end.connect(factory))
        except (ConnectError, ConnectingCancelledError, OSError) as problem:
            raise connection_failed(problem, self.label) from problem
        return link

    def _build(self) -> RedisLink:
        greeter = txredisapi.RedisProtocol(charset=None, convertNumbers=False)
        return RedisLink(greeter, txredisapi.RedisError, self, self._reactor)

    def _refused(self, refusal: BusRefusal) -> None:
        """Say what the server said. Raises: ``CommandFailed``; returns where it may be tried again."""
        if refusal.reason in _REFUSALS:
            text, hint = _REFUSALS[refusal.reason]
            raise CommandFailed(f"{self.label} {text}", hint=hint, exit_code=Exit.REFUSED) from None
        if not self.ready.called and not self._stopped:
            raise ConnectionFailed(f"{self.label} cannot be used ({refusal.reason})", reason=refusal.reason)
        self._broke(refusal.reason)

    async def _answered(self, asking: Any, block_s: float = 0.0) -> Any:
        """An answer in time. Raises: ``BusRefusal``, ``TimeoutError`` of Deferreds."""
        waited: Deferred[Any] = asking if isinstance(asking, Deferred) else Deferred.fromCoroutine(asking)
        return await waited.addTimeout(CONNECT_TIMEOUT_S + block_s, self._reactor)

    async def _ask(self, link: RedisLink, *words: str | int, block_s: float = 0.0) -> Any:
        return await self._answered(link.ask(*words, otherwise="read"), block_s)

    # --- streams and entries

    async def _find_streams(self, link: RedisLink) -> None:
        self._scanned_s = self._reactor.seconds()
        is_first = not self.ready.called
        for name, is_pattern in self._names:
            found = await self._scan(link, name) if is_pattern else [name.encode("utf-8", "surrogatepass")]
            for stream in found:
                if stream not in self._last and len(self._last) < STREAMS_MAX_COUNT:
                    # What comes into being later is new from its first entry on.
                    at_end = is_first and not self._from_start
                    self._last[stream] = await self._end_of(link, stream) if at_end else _BEGINNING

    async def _scan(self, link: RedisLink, pattern: str) -> list[bytes]:
        found: set[bytes] = set()
        cursor: Any = b"0"
        while True:
            words = ("MATCH", pattern, "COUNT", SCAN_COUNT, "TYPE", "stream")
            cursor, names = await self._ask(link, "SCAN", cursor, *words)
            found.update(names)
            if int(cursor) == 0:
                return sorted(found)

    async def _end_of(self, link: RedisLink, stream: Any) -> bytes:
        newest = await self._ask(link, "XREVRANGE", stream, "+", "-", "COUNT", 1)
        return bytes(newest[0][0]) if newest else _BEGINNING

    async def _read(self, link: RedisLink) -> None:
        if any(is_pattern for _, is_pattern in self._names):
            if self._reactor.seconds() - self._scanned_s > SCAN_EVERY_S:
                await self._find_streams(link)
            if not self._last:
                await self._pause(SCAN_EVERY_S)
                return
        places: list[Any] = [*self._last.keys(), *self._last.values()]
        words = ("COUNT", READ_MAX_COUNT, "BLOCK", BLOCK_MS, "STREAMS", *places)
        answer = await self._ask(link, "XREAD", *words, block_s=BLOCK_MS / 1000)
        for name, entry_id, fields in by_age(answer or []):
            self._last[name] = entry_id
            self._received(read_entry(fields))

    # --- what the link tells

    def link_replied(self, link: RedisLink, runs: list[Any]) -> None:
        """Never called: the link has not been told to count."""

    def link_broken(self, link: RedisLink, reason: str) -> None:
        """What is being asked fails of itself."""

    def link_writable(self, link: RedisLink, writable: bool) -> None:
        """Never called, for the same reason as the first."""
