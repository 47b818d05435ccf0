"""Percentiles of what was measured, by the nearest-rank rule: always a value that occurred."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

# A sample is 8 bytes and its object 24: the newest of these many cost about 3 MiB.
SAMPLES_MAX_COUNT: Final = 100_000

RANKS: Final = (50, 95, 99)


def percentile(ordered: Sequence[float], rank: float) -> float:
    """The nearest-rank percentile of values in ascending order. Raises: ``ValueError`` on none."""
    if not ordered:
        raise ValueError("no values, no percentile")
    position = math.ceil(len(ordered) * rank / 100)
    return ordered[min(len(ordered), max(1, position)) - 1]


class Latencies:
    """The newest ``max_count`` latencies, in seconds, and how many there have been."""

    def __init__(self, seconds: Iterable[float] = (), *, max_count: int | None = None) -> None:
        self._samples: deque[float] = deque(maxlen=max_count or SAMPLES_MAX_COUNT)
        self.count = 0
        for value in seconds:
            self.observe(value)

    def observe(self, seconds: float) -> None:
        """Take one measurement."""
        self._samples.append(seconds)
        self.count += 1

    def absorb(self, other: Latencies) -> None:
        """Take over the measurements of ``other``."""
        self._samples.extend(other._samples)
        self.count += other.count

    def summary_ms(self, ranks: Sequence[float] = RANKS) -> dict[str, float]:
        """Such as ``p50``, ``p95``, ``p99``, and ``max``, in ms; empty when nothing was measured."""
        ordered = sorted(self._samples)
        if not ordered:
            return {}
        found = {f"p{rank}": round(percentile(ordered, rank) * 1000, 2) for rank in ranks}
        found["max"] = round(ordered[-1] * 1000, 2)
        return found


def in_words(summary_ms: dict[str, float]) -> str:
    """A summary as a person reads it: ``p50 1.2 ms  p95 ...``."""
    if not summary_ms:
        return "none measured"
    return "  ".join(f"{name} {value:.1f} ms" for name, value in summary_ms.items())
