"""What became of every frame of a stream: received = published + dropped + pending."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from typing import Any


class Ledger:
    """One stream's account, in whole frames and in whole samples.

    A frame that was taken back at a shutdown (``returned``) is dropped here: its client sends it again
    to the process that goes on with the stream. Up to ``settled_seq`` the fate of each is known.
    """

    __slots__ = (
        "_ahead", "_drops", "published", "received", "samples", "samples_dropped",
        "samples_published", "settled_seq",
    )

    def __init__(self) -> None:
        self.received = 0
        self.published = 0
        self.samples = 0
        self.samples_published = 0
        self.samples_dropped = 0
        self._drops: Counter[str] = Counter()
        self.settled_seq = 0
        # Ranges that are settled though a frame before them is not: dropped while that one is in flight.
        self._ahead: list[tuple[int, int]] = []

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
        if count:
            self._drops[reason] += count
            self.samples_dropped += samples

    def settle(self, first_seq: int, last_seq: int) -> None:
        """The fate of the frames ``first_seq..last_seq`` is known. Ranges may be empty, and out of order."""
        ahead = self._ahead
        if not ahead and first_seq == self.settled_seq + 1:
            if last_seq >= first_seq:
                self.settled_seq = last_seq
            return
        if first_seq > last_seq:
            return
        if first_seq > self.settled_seq + 1:
            if ahead and ahead[-1][1] + 1 == first_seq:
                # An outage of an hour is thousands of gaps, each right behind the one before.
                ahead[-1] = (ahead[-1][0], last_seq)
            else:
                insort(ahead, (first_seq, last_seq))
            return
        self.settled_seq = max(self.settled_seq, last_seq)
        while ahead and ahead[0][0] <= self.settled_seq + 1:
            self.settled_seq = max(self.settled_seq, ahead.pop(0)[1])

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
