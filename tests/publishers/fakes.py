"""Doubles for the delivery's neighbours: a bus that does what it is told, a stream that takes notes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from voiceingest.audio import AudioFormat
from voiceingest.config.settings import Settings
from voiceingest.interfaces import IBusListener, StreamFacts

FACTS = StreamFacts("acme", "call-1", AudioFormat(8000))


def make_settings(**changes: Any) -> Settings:
    """Settings without their limits: bounds of a few kilobytes show in a test what they do."""
    return Settings().model_copy(update=changes)


class SteadyClock(Clock):
    """Goes in steps too short to be taken for a stall of the process."""

    def advance(self, rightNow: float) -> None:
        left_s = rightNow
        while left_s > 0.25:
            super().advance(0.25)
            left_s -= 0.25
        super().advance(left_s)


class FakeBus:
    """Is up, confirms and refuses when the test says so; keeps every batch it was sent."""

    name = "fake"

    def __init__(self) -> None:
        self.writable = True
        self.is_up = False
        self.batches: list[list[tuple[Any, int, int, bytes]]] = []
        self.inflight: deque[tuple[Any, int, int, bytes]] = deque()
        self.dropped_connections: list[str] = []
        self.taken: list[tuple[Any, int]] = []
        self.stopped: Deferred[None] = succeed(None)
        self.is_stopped = False
        self.listener: IBusListener

    def start(self, listener: IBusListener) -> None:
        self.listener = listener

    def stop(self) -> Deferred[None]:
        self.is_stopped = True
        return self.stopped

    def prepare(self, facts: StreamFacts) -> str:
        return f"{facts.interaction_id}@{facts.epoch}" if facts.epoch else facts.interaction_id

    def send(self, batch: Sequence[tuple[Any, int, int, bytes]]) -> int:
        if not self.is_up or not self.writable:
            raise AssertionError("sent while the bus takes nothing")
        self.batches.append(list(batch))
        self.inflight.extend(batch)
        return sum(len(payload) for _, _, _, payload in batch)

    def drop_connection(self, reason: str) -> None:
        self.dropped_connections.append(reason)
        if self.is_up:
            self.down(reason)

    # --- what the test says

    def up(self, trusted: bool = True) -> None:
        """Be up; ``trusted``: it has answered something already, so that there is no probe."""
        self.is_up = True
        self.writable = True
        self.listener.bus_up()
        if trusted and self.is_up:
            self.listener.bus_confirmed(0)

    def down(self, reason: str = "lost") -> None:
        self.is_up = False
        self.inflight.clear()
        self.listener.bus_down(reason)

    def confirm(self, count: int = 1) -> None:
        for _ in range(count):
            self.taken.append(self.inflight.popleft()[:2])
        self.listener.bus_confirmed(count)

    def confirm_all(self) -> None:
        self.confirm(len(self.inflight))

    def refuse(self, reason: str = "noperm") -> None:
        self.inflight.popleft()
        self.listener.bus_refused(reason)

    @property
    def sent(self) -> list[tuple[Any, int]]:
        """``(stream, seq)`` of every message so far."""
        return [(prepared, seq) for batch in self.batches for prepared, seq, _, _ in batch]


class NotingSink:
    """A stream that notes what it is told, in order: ``3`` or ``(4, 7, "overflow")``."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.bytes_confirmed = self.bytes_dropped = 0

    def confirmed(self, seq: int, size_bytes: int) -> None:
        self.bytes_confirmed += size_bytes
        self.heard.append(seq)

    def dropped(self, first_seq: int, last_seq: int, reason: str, size_bytes: int) -> None:
        self.bytes_dropped += size_bytes
        self.heard.append((first_seq, last_seq, reason))

    @property
    def confirmed_seqs(self) -> list[int]:
        return [one for one in self.heard if isinstance(one, int)]

    @property
    def dropped_seqs(self) -> list[int]:
        ranges = [one for one in self.heard if not isinstance(one, int)]
        return [seq for first, last, _ in ranges for seq in range(first, last + 1)]
