"""What became of every frame of a stream: received = published + dropped + pending."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Ledger:
    """One stream's account, in whole frames and in whole samples.

    A frame that was taken back at a shutdown (``returned``) is dropped here: its client sends it again
    to the process that goes on with the stream.
    """

    __slots__ = ("_drops", "published", "received", "samples", "samples_dropped", "samples_published")

    def __init__(self) -> None:
        self.received = 0
        self.published = 0
        self.samples = 0
        self.samples_published = 0
        self.samples_dropped = 0
        self._drops: Counter[str] = Counter()

    @property
    def dropped(self) -> int:
        """Frames that will never be on the bus from here; each is part of a declared gap or returned."""
        return sum(self._drops.values())

    @property
    def pending(self) -> int:
        """Frames whose fate the bus has not told yet."""
        return self.received - self.published - self.dropped

    @property
    def samples_pending(self) -> int:
        """The samples of the pending frames."""
        return self.samples - self.samples_published - self.samples_dropped

    def drop(self, count: int, samples: int, reason: str) -> None:
        """Write ``count`` frames off."""
        self._drops[reason] += count
        self.samples_dropped += samples

    def summary(self) -> dict[str, Any]:
        """The figures as they stand in ``stopped`` and in the events."""
        return {
            "received": self.received,
            "published": self.published,
            "dropped": self.dropped,
            "pending": self.pending,
            "samples": self.samples,
            "samples_published": self.samples_published,
            "samples_dropped": self.samples_dropped,
            "samples_pending": self.samples_pending,
            "drops": dict(self._drops),
        }
