"""What became of every frame of a stream: received = published + dropped + pending."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Ledger:
    """Counts one stream's frames. All figures are whole frames, ``samples`` whole samples."""

    __slots__ = ("_dropped", "published", "received", "samples")

    def __init__(self) -> None:
        self.received = 0
        self.published = 0
        self.samples = 0
        self._dropped: Counter[str] = Counter()

    @property
    def dropped(self) -> int:
        """Frames that will never be on the bus; each is part of a declared gap."""
        return sum(self._dropped.values())

    @property
    def pending(self) -> int:
        """Frames whose fate the bus has not told yet."""
        return self.received - self.published - self.dropped

    def drop(self, count: int, reason: str) -> None:
        """Write ``count`` frames off."""
        self._dropped[reason] += count

    def summary(self) -> dict[str, Any]:
        """The figures as they stand in ``stopped`` and in the events."""
        return {
            "received": self.received,
            "published": self.published,
            "dropped": self.dropped,
            "pending": self.pending,
            "samples": self.samples,
        }
