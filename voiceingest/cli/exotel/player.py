"""The ear of a caller: plays what a bot sends, in real time, as a telephone platform does. Pure.

The time is an argument, in seconds of a monotonic clock. Every chunk gets its place on one line of
samples when it arrives: after the one before it, or now where that has been played already. Chunks
that have begun are played to their end: ``clear`` takes back only what has not begun, as documented.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from ..percentiles import Latencies
from .voice import is_audible

# The longest call there is: what lies further ahead than that is never played.
AHEAD_MAX_S: Final = 3600.0
MARKS_MAX_COUNT: Final = 10_000
RECORD_MAX_S: Final = 3600.0

# A silence of the bot longer than this is the end of an utterance, a shorter one a hole in it.
UTTERANCE_GAP_S: Final = 0.5

_ROUNDING_S: Final = 1e-9


@dataclass(frozen=True, slots=True)
class _Chunk:
    begin: int
    end: int
    audible: bool
    pcm: bytes


class Player:
    """Plays PCM16. ``gaps`` and ``gap_total_s`` are the holes within utterances, ``lateness`` how long
    after (or, negative, before) its ideal time each chunk came: the first of its utterance sets the time.
    """

    def __init__(self, sample_rate: int, start_s: float, *, record: bool = False) -> None:
        self._rate = sample_rate
        self._start_s = start_s
        self._keeps = record
        self._queue: deque[_Chunk] = deque()
        self._kept: list[_Chunk] = []
        self._marks: deque[tuple[int, str]] = deque()
        self._end = 0
        self._utterance: tuple[float, int] | None = None
        self._played = 0
        self._audible = 0
        self.gaps = Latencies()
        self.gap_total_s = 0.0
        self.lateness = Latencies()
        self.cleared_s = 0.0

    # --- what the bot asks for

    def play(self, pcm: bytes, now_s: float) -> bool:
        """Queue a chunk; false where it lies too far ahead."""
        here, samples = self._place(now_s), len(pcm) // 2
        if self._end - here > AHEAD_MAX_S * self._rate:
            return False
        begin = max(self._end, here)
        self._keep_time(begin, samples, now_s)
        kept = pcm if self._keeps and begin + samples <= RECORD_MAX_S * self._rate else b""
        chunk = _Chunk(begin, begin + samples, is_audible(pcm), kept)
        self._queue.append(chunk)
        self._end = chunk.end
        return True

    def mark(self, name: str, now_s: float) -> float | None:
        """Remember a mark; when everything before it will have been played. ``None``: there are too many."""
        if len(self._marks) >= MARKS_MAX_COUNT:
            return None
        at = max(self._end, self._place(now_s))
        self._marks.append((at, name))
        return max(now_s, self._time(at))

    def clear(self, now_s: float) -> None:
        """Forget what has not begun, and every mark: what becomes of those is not documented."""
        here = self._place(now_s)
        self.advance(now_s)
        while self._queue and self._queue[-1].begin >= here:
            chunk = self._queue.pop()
            self.cleared_s += (chunk.end - chunk.begin) / self._rate
        self._end = self._queue[-1].end if self._queue else min(self._end, here)
        self._marks.clear()
        self._utterance = None

    # --- what becomes of it

    def reached(self, now_s: float) -> list[str]:
        """The marks that have been reached since this was last asked, in order."""
        names = []
        while self._marks and self._time(self._marks[0][0]) <= now_s + _ROUNDING_S:
            names.append(self._marks.popleft()[1])
        return names

    def advance(self, now_s: float) -> None:
        """Count what has been played by now."""
        here = self._place(now_s)
        while self._queue and self._queue[0].end <= here:
            self._finish(self._queue.popleft())

    def heard_s(self, now_s: float) -> float:
        """How long the bot has been heard by now; its silence is not counted."""
        self.advance(now_s)
        samples = self._audible
        if self._queue and self._queue[0].audible:
            samples += max(0, self._place(now_s) - self._queue[0].begin)
        return samples / self._rate

    def hang_up(self, now_s: float) -> None:
        """The call is over: what is being played is cut, the rest was never heard."""
        self.advance(now_s)
        here = self._place(now_s)
        if self._queue and self._queue[0].begin < here:
            chunk = self._queue[0]
            self._finish(_Chunk(chunk.begin, here, chunk.audible, chunk.pcm[: (here - chunk.begin) * 2]))
        self._queue.clear()
        self._marks.clear()

    @property
    def played_s(self) -> float:
        """How much has been played, silence of the bot's included."""
        return self._played / self._rate

    @property
    def recording(self) -> bytes:
        """What was heard, as PCM16 from the beginning of the call, with silence where nothing was."""
        parts, at = [], 0
        for chunk in self._kept:
            parts += [bytes(2 * (chunk.begin - at)), chunk.pcm]
            at = chunk.begin + len(chunk.pcm) // 2
        return b"".join(parts)

    def _finish(self, chunk: _Chunk) -> None:
        samples = chunk.end - chunk.begin
        self._played += samples
        self._audible += samples if chunk.audible else 0
        if chunk.pcm:
            self._kept.append(chunk)

    def _keep_time(self, begin: int, samples: int, now_s: float) -> None:
        gap = begin - self._end
        if self._utterance is None or gap > UTTERANCE_GAP_S * self._rate:
            self._utterance = (now_s, samples)
            return
        first_s, before = self._utterance
        self.lateness.observe(now_s - first_s - before / self._rate)
        self._utterance = (first_s, before + samples)
        if gap > 0:
            self.gaps.observe(gap / self._rate)
            self.gap_total_s += gap / self._rate

    def _place(self, now_s: float) -> int:
        return max(0, int((now_s - self._start_s + _ROUNDING_S) * self._rate))

    def _time(self, place: int) -> float:
        return self._start_s + place / self._rate
