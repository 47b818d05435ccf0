"""How much of what was sent has been heard, as far as one can know from here.

Between reports of the far end the clock says it: it plays in real time what it has. A report puts
the estimate right, in both directions.
"""

from __future__ import annotations


class Heard:
    """Where the listener is in all that was ever sent, in bytes. Never goes back, never past ``sent``."""

    __slots__ = ("_at_bytes", "_at_s", "_bytes_per_s", "_least", "sent")

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self.sent = 0.0
        self._least = 0.0
        # One point of the line the clock draws: at this time, the listener was here.
        self._at_s = 0.0
        self._at_bytes = 0.0

    def send(self, size: int, now: float) -> None:
        """Audio goes out; a far end that had nothing left to play begins with it now."""
        if self.at(now) >= self.sent:
            self._at_s, self._at_bytes = now, self.sent
        self.sent += size

    def at(self, now: float) -> float:
        """Bytes that have been heard."""
        by_clock = self._at_bytes + (now - self._at_s) * self._bytes_per_s
        self._least = max(self._least, min(by_clock, self.sent))
        return self._least

    def ends_at(self, now: float) -> float:
        """When all that was sent will have been heard."""
        return max(now, self._at_s + (self.sent - self._at_bytes) / self._bytes_per_s)

    def confirm(self, position: float, now: float) -> None:
        """The far end says that it has just played everything up to ``position``."""
        self._at_s, self._at_bytes = now, position
        self._least = max(self._least, position)

    def cut(self, now: float) -> None:
        """The far end has forgotten what it had not played yet."""
        self.sent = self.at(now)
