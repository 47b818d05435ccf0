"""Sessions whose store and cache are in memory and whose streams are fakes, under a clock of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock, deferLater

from voiceingest.aio import as_deferred, as_future
from voiceingest.audio import AudioFormat
from voiceingest.config import Settings
from voiceingest.device_interfaces import Caller
from voiceingest.errors import VoiceIngestError
from voiceingest.interfaces import StreamFacts
from voiceingest.metrics import Metrics
from voiceingest.session_interfaces import ControlKind, IControlBus, ISessions, IStreamRecords, Session
from voiceingest.sessions.archive import Archive
from voiceingest.sessions.live import LiveStreams
from voiceingest.sessions.records import StreamRecords
from voiceingest.sessions.rows import StreamRows
from voiceingest.sessions.service import Sessions
from voiceingest.sessions.sweeper import Sweeper
from voiceingest.sessions.writer import Writer

from .session_store import MemorySessionStore

WALL = 1_800_000_000.0


class FakeStream:
    """A stream that notes how it was ended, and tells of it as a real one does (``ILiveStream``)."""

    def __init__(self, records: IStreamRecords, frames: int = 0) -> None:
        self.records = records
        self.frames = frames
        self.hung_up: list[str] = []

    def hang_up(self, error: VoiceIngestError | None) -> None:
        """Note it; it has ended then, once."""
        self.hung_up.append("ended" if error is None else error.code)
        if len(self.hung_up) == 1:
            self.records.ended(self, self.hung_up[0], self.frames)


class FakeBus:
    """Carries what is told to the other buses of the same ``wire`` at once (``IControlBus``)."""

    def __init__(self, wire: list[FakeBus] | None = None) -> None:
        self.wire = wire if wire is not None else []
        self.wire.append(self)
        self.told: list[tuple[str, str]] = []
        self.listeners: dict[str, list[Callable[[str], object]]] = {}

    def tell(self, kind: ControlKind, subject: str) -> None:
        """Everybody else hears it."""
        self.told.append((kind, subject))
        for other in self.wire:
            if other is not self:
                for hear in other.listeners.get(kind, ()):
                    hear(subject)

    def listen(self, kind: ControlKind, hear: Callable[[str], object]) -> None:
        """Hear what others tell."""
        self.listeners.setdefault(kind, []).append(hear)


class MemoryCache:
    """Keeps the newest version it was given (``ISessionCache``)."""

    def __init__(self) -> None:
        self.kept: dict[str, Session] = {}

    async def get(self, session_id: str) -> Session | None:
        """What is kept."""
        return self.kept.get(session_id)

    async def put(self, session: Session) -> None:
        """Keep it, unless what is there is newer."""
        before = self.kept.get(session.session_id)
        if before is None or before.version <= session.version:
            self.kept[session.session_id] = session

    async def drop(self, session_id: str) -> None:
        """Forget it."""
        self.kept.pop(session_id, None)

    async def stop(self) -> None:
        """There is nothing to close."""


class SessionWorld:
    """One process: its sessions, its streams, its sweeper. Several may share a store, a cache, a clock."""

    def __init__(
        self,
        *,
        node: str = "node-1",
        store: MemorySessionStore | None = None,
        cache: MemoryCache | None = None,
        clock: Clock | None = None,
        bus: IControlBus | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.store = store or MemorySessionStore()
        self.cache = cache or MemoryCache()
        self.bus = bus or FakeBus()
        self.metrics = Metrics()
        self.settings = Settings(**settings)
        self.live = LiveStreams()
        self.archive = Archive(
            self.store, self.cache, self.live, self.settings, self.metrics, node, self.wall
        )
        self.rows = StreamRows(self.archive)
        self.writer = Writer(self.rows.write, self.metrics, sleep=self.sleep, jitter=lambda: 1.0)
        self.records = StreamRecords(self.live, self.writer, self.wall)
        self.sweeper = Sweeper(
            self.archive, self.writer, self.clock.seconds, sleep=self.sleep, jitter=lambda: 0.5
        )
        self.sessions: ISessions = Sessions(self.archive, self.bus)
        self.caller = Caller("usr_1", "dev_1", "fam_1", WALL + 3600.0)

    def wall(self) -> float:
        """The wall clock, in step with the other."""
        return WALL + self.clock.seconds()

    def sleep(self, seconds: float) -> asyncio.Future[None]:
        """What waits, waits for the clock."""
        return as_future(deferLater(self.clock, seconds, lambda: None))

    def begin(
        self,
        interaction_id: str = "call",
        *,
        tenant_id: str = "usr_1",
        epoch: int = 1,
        subject: str = "usr_1",
        transport: str = "ingest",
    ) -> FakeStream:
        """A stream that has begun."""
        stream = FakeStream(self.records)
        facts = StreamFacts(tenant_id, interaction_id, AudioFormat(), epoch)
        self.records.began(stream, facts, subject, transport)
        return stream

    def end(self, stream: FakeStream, reason: str = "stopped", frames: int = 0) -> None:
        """It has ended by itself."""
        self.records.ended(stream, reason, frames)

    async def settle(self) -> None:
        """Let tasks do what they can without the clock (for tests: a Twisted coroutine)."""
        await as_deferred(turns())

    async def written(self) -> None:
        """Write all that waits, as the task would."""
        self.writer.start()
        await self.settle()
        stopped = as_deferred(self.writer.stop(0.0))
        await self.settle()
        self.clock.advance(0.0)
        await stopped

    def row(self, stream: FakeStream | None = None) -> Session:
        """The only row there is, or that of a stream that is live."""
        if stream is not None:
            one = next(one for one in self.live._by_stream.values() if one.stream is stream)
            assert one.session is not None
            return self.store.rows[one.session.session_id]
        (row,) = self.store.rows.values()
        return row


async def turns(count: int = 40) -> None:
    """So many turns of the loop: for tasks that only wait for one another."""
    for _ in range(count):
        await asyncio.sleep(0)
