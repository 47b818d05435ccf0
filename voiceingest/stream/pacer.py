"""When the next piece of audio may go: in real time, a little ahead of it, by one timeline.

Each due time is counted from the beginning of the timeline and not from the piece before, so late
wake-ups do not add up: after an hour no more and no less has been sent than an hour of audio.
"""

from __future__ import annotations

import math
from typing import Final

# Lateness of ours that is made up for by sending the next pieces sooner. After more than that the far
# end has been silent for so long that its timeline, and so ours, begins anew.
STALL_S: Final = 0.2


class Pacer:
    """Lets audio through at ``bytes_per_s``, ``lead_s`` ahead of when it is to be heard."""

    __slots__ = ("_bytes_per_s", "_epoch", "_lead_s", "_sent")

    def __init__(self, bytes_per_s: int, lead_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._lead_s = lead_s
        self.restart()

    def restart(self) -> None:
        """Forget what was sent: the far end has nothing to play, the next piece goes at once."""
        self._epoch = -math.inf
        self._sent = 0

    def due_at(self) -> float:
        """When the next piece may go (monotonic seconds); minus infinity when it may at once."""
        return self._ends_at() - self._lead_s

    def send(self, size: int, ready_at: float, now: float) -> float:
        """A piece that was there since ``ready_at`` goes at ``now``; returns how late that is, in seconds."""
        ends_at = self._ends_at()
        # What was not there in time is not late: it is the first of a new timeline.
        is_first = ready_at > ends_at
        late_s = 0.0 if is_first else max(0.0, now - max(ends_at - self._lead_s, ready_at))
        if is_first or now - ends_at > STALL_S:
            self._epoch = now
            self._sent = 0
        self._sent += size
        return late_s

    def _ends_at(self) -> float:
        """When all that was sent has been played, if the far end plays it as it comes."""
        return self._epoch + self._sent / self._bytes_per_s
