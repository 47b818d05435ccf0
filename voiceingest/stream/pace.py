"""How fast a transcriber may be sent audio: live audio as it comes, kept audio at 1.25 times real time.

Deepgram takes no more than that (developers.deepgram.com, "Recovering from connection errors").
"""

from __future__ import annotations

from typing import Final

REALTIME_FACTOR: Final = 1.25

# Live audio comes in bursts: it may run ahead by so much. What was kept while there was no connection
# may not run ahead at all.
BURST_S: Final = 0.5

# What is sent at once.
PIECE_S: Final = 0.1


class Pace:
    """Says when the next piece may go, and how much. Time is an argument, in monotonic seconds."""

    __slots__ = ("_ahead_max_s", "_free_at", "_piece", "_rate")

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._piece = int(PIECE_S * sample_rate)
        self._free_at = 0.0
        self._ahead_max_s = BURST_S

    def begin(self, now: float) -> None:
        """There is a new connection: what was kept is sent first."""
        self._free_at = now
        self._ahead_max_s = 0.0

    def room(self, unsent: int, now: float) -> int:
        """How many of ``unsent`` samples may be sent now."""
        return min(unsent, self._piece) if now >= self.next_at else 0

    def spent(self, count: int, unsent: int, now: float) -> None:
        """``count`` samples were sent; ``unsent`` are left."""
        self._free_at = max(self._free_at, now) + count / self._rate / REALTIME_FACTOR
        if not unsent:
            self._ahead_max_s = BURST_S

    @property
    def next_at(self) -> float:
        """From when on there is room."""
        return self._free_at - self._ahead_max_s
