"""What an agent says, on its way to the caller's ear: cut, paced, marked, and forgotten when told so."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..limits import MARKS_MAX_COUNT
from .framer import ChunkProfile, Framer
from .heard import Heard
from .pacer import Pacer

# A mark may be echoed this late; what happens to marks after a ``clear`` is not documented
# (protocols.md section 1.2), and a connection loses none: after this nobody will.
MARK_GRACE_S: Final = 2.0

# An agent that forgets to flush still gets its last words out, this long after it said them.
TAIL_WAIT_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio to be sent now; ``lateness_s`` is how long after its time that is."""

    pcm: bytes
    lateness_s: float


@dataclass(frozen=True, slots=True)
class MarkOut:
    """A mark to be sent now; ``label`` is its name on the wire, never used twice."""

    label: str


@dataclass(frozen=True, slots=True)
class Cleared:
    """What a ``clear`` took away, and how much of all that was said has been heard."""

    dropped_ms: float
    lost_marks: list[str]
    position_ms: float


@dataclass(slots=True)
class _Mark:
    label: str
    name: str
    said_at: float
    behind: int  # chunks in all that go before it
    position: float = 0.0  # what has been heard when it comes back
    lost_at: float = 0.0  # when it is no longer waited for


class Playback:
    """One call's audio to its caller. ``now`` is always monotonic seconds.

    At ``next_deadline()`` call ``due`` and ``expired``; each of the other calls may bring it nearer.
    Bounds: ``max_s`` of audio (``say`` takes no more), ``MARKS_MAX_COUNT`` marks (the oldest is lost).
    ``rest`` gives what is said and is still on its way here, a tenth of a second in a resampler: it
    belongs to the end of an utterance, and would be heard at the beginning of the next one.
    """

    __slots__ = (
        "_bytes_per_s", "_chunks", "_framer", "_has_rest", "_heard", "_label", "_lost", "_lost_at",
        "_max_bytes", "_out", "_pacer", "_pushed", "_queued_bytes", "_ready_at", "_rest", "_said_at",
        "_sample_bytes", "_waiting",
    )

    def __init__(
        self,
        bytes_per_s: int,
        profile: ChunkProfile,
        lead_s: float,
        max_s: float,
        rest: Callable[[], bytes] | None = None,
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._max_bytes = int(bytes_per_s * max_s)
        self._framer = Framer(profile)
        self._sample_bytes = profile.sample_bytes
        self._pacer = Pacer(bytes_per_s, lead_s)
        self._heard = Heard(bytes_per_s)
        self._chunks: deque[bytes] = deque()
        self._queued_bytes = 0
        self._pushed = 0
        self._ready_at = 0.0  # since when there is a chunk
        self._said_at = 0.0
        self._rest = rest
        self._has_rest = False
        self._label = 0
        self._waiting: deque[_Mark] = deque()  # audio is before them
        self._out: deque[_Mark] = deque()  # sent, and not back
        self._lost: deque[str] = deque(maxlen=MARKS_MAX_COUNT)
        self._lost_at = 0.0

    # --- what the agent does -----------------------------------------------------------------

    def say(self, pcm: bytes, now: float) -> int:
        """Play audio of the line after what is queued; returns how many bytes were not taken."""
        room = self._max_bytes - self._queued_bytes - self._framer.held_bytes
        # Half a sample would turn all that follows into noise.
        size = max(0, min(len(pcm), room)) // self._sample_bytes * self._sample_bytes
        if self._rest is not None:
            self._said_at, self._has_rest = now, True
        if size:
            self._said_at = now
            for chunk in self._framer.feed(pcm if size == len(pcm) else pcm[:size]):
                self._push(chunk, now)
        return len(pcm) - size

    def flush(self, now: float) -> None:
        """Nothing follows for now: the last piece goes too."""
        for chunk in self._framer.feed(self._take_rest()):
            self._push(chunk, now)
        tail = self._framer.flush()
        if tail:
            self._push(tail, now)

    def mark(self, name: str, now: float) -> None:
        """Flush; ``echoed`` or ``expired`` gives ``name`` back when all said so far has been heard."""
        self.flush(now)
        self._label += 1
        self._waiting.append(_Mark(f"m{self._label}", name, now, self._pushed))
        if len(self._waiting) + len(self._out) > MARKS_MAX_COUNT:
            self._lost.append((self._out or self._waiting).popleft().name)
            self._lost_at = now

    def clear(self, now: float) -> Cleared:
        """Forget what has not been heard, and its marks. The far end has to be told as well."""
        dropped_ms, position_ms = self.queued_ms(now), self.position_ms(now)
        lost = [*self._lost, *(mark.name for mark in (*self._out, *self._waiting))]
        for forgotten in (self._lost, self._out, self._waiting, self._chunks):
            forgotten.clear()
        self._take_rest()
        self._framer.clear()
        self._queued_bytes = 0
        self._pacer.restart()
        self._heard.cut(now)
        return Cleared(dropped_ms, lost, position_ms)

    def queued_ms(self, now: float) -> float:
        """What was said and has not been heard yet."""
        not_sent = self._queued_bytes + self._framer.held_bytes
        return self._ms(not_sent + self._heard.sent - self._heard.at(now))

    def position_ms(self, now: float) -> float:
        """How much of all that was said has been heard."""
        return self._ms(self._heard.at(now))

    # --- what the line does ------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When ``due`` or ``expired`` next has something to give; infinity when nothing is to come."""
        deadline = self._lost_at if self._lost else math.inf
        if self._out:
            deadline = min(deadline, self._out[0].lost_at)
        if self._waiting and self._waiting[0].behind <= self._sent_chunks:
            deadline = min(deadline, self._waiting[0].said_at)
        if self._chunks:
            deadline = min(deadline, max(self._pacer.due_at(), self._ready_at))
        elif self._framer.held_bytes or self._has_rest:
            deadline = min(deadline, self._tail_at())
        return deadline

    def due(self, now: float) -> list[Chunk | MarkOut]:
        """What is to be sent now, in this order."""
        out: list[Chunk | MarkOut] = []
        while True:
            self._marks_due(out, now)
            waits = not self._chunks and (self._framer.held_bytes or self._has_rest)
            if waits and now >= self._tail_at():
                self.flush(self._said_at + TAIL_WAIT_S)
            if not self._chunks or now < self._pacer.due_at():
                return out
            chunk = self._chunks.popleft()
            self._queued_bytes -= len(chunk)
            self._heard.send(len(chunk), now)
            out.append(Chunk(chunk, self._pacer.send(len(chunk), self._ready_at, now)))

    def echoed(self, label: str, now: float) -> list[str]:
        """The far end has played what was before this mark; returns the names that are played with it."""
        for index, mark in enumerate(self._out):
            if mark.label == label:
                self._heard.confirm(mark.position, now)
                return [self._out.popleft().name for _ in range(index + 1)]
        return []

    def expired(self, now: float) -> list[str]:
        """The names of marks that are no longer waited for; each is given once."""
        names = list(self._lost)
        self._lost.clear()
        while self._out and self._out[0].lost_at <= now:
            names.append(self._out.popleft().name)
        return names

    # --- inside ------------------------------------------------------------------------------

    @property
    def _sent_chunks(self) -> int:
        return self._pushed - len(self._chunks)

    def _take_rest(self) -> bytes:
        if self._rest is None or not self._has_rest:
            return b""
        self._has_rest = False
        return self._rest()

    def _push(self, chunk: bytes, now: float) -> None:
        if not self._chunks:
            self._ready_at = now
        self._chunks.append(chunk)
        self._queued_bytes += len(chunk)
        self._pushed += 1

    def _tail_at(self) -> float:
        return max(self._said_at + TAIL_WAIT_S, self._pacer.due_at())

    def _marks_due(self, out: list[Chunk | MarkOut], now: float) -> None:
        while self._waiting and self._waiting[0].behind <= self._sent_chunks:
            mark = self._waiting.popleft()
            mark.position = self._heard.sent
            mark.lost_at = self._heard.ends_at(now) + MARK_GRACE_S
            self._out.append(mark)
            out.append(MarkOut(mark.label))

    def _ms(self, size: float) -> float:
        return size * 1000.0 / self._bytes_per_s
