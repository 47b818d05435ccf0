"""What counts: dictionaries of series whose label values cannot grow without bound.

A label's values are either declared (a closed set) or open; an open value is a short word of
the program, and what does not look like one, or comes after ``SERIES_MAX_COUNT`` others, is
counted as ``other``. So nothing a peer sends can become a label or take memory.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

OTHER: Final = "other"

# Series of one family; a full family is still only some tens of kilobytes.
SERIES_MAX_COUNT: Final = 512

# Closed sets up to this size are exported at 0 before anything was counted.
_ZEROS_MAX_COUNT: Final = 16

# A word of the program: no blanks, no long run of digits (which may be somebody's number).
_WORD: Final = re.compile(r"(?![^\n]*[0-9]{6})[A-Za-z0-9_.:/{}*+-]{1,64}")


@dataclass(frozen=True, slots=True)
class Label:
    """One label; ``values`` is its closed set, or ``None`` for an open one."""

    name: str
    values: frozenset[str] | None = None

    def fold(self, value: object) -> str:
        """Return ``value`` as a label value that may be exported."""
        word = str(value)
        if self.values is not None:
            return word if word in self.values else OTHER
        return word if _WORD.fullmatch(word) else OTHER


class Tally(Counter[Any]):
    """A Counter keyed by one label value, or by a tuple of them, in the order of ``labels``.

    Use it as ``tally[key] += n``; numbers are taken for their text. Keys are folded on the way
    in, so the Counter itself is bounded, not only what is exported.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        super().__init__()
        self._labels = tuple(labels)

    def fold(self, key: object) -> object:
        """Return the key under which ``key`` is counted."""
        given = key if isinstance(key, tuple) else (key,)
        if len(given) != len(self._labels):
            raise ValueError(f"{len(self._labels)} label value(s) expected")
        folded = tuple(label.fold(value) for label, value in zip(self._labels, given, strict=True))
        known: object = folded if len(folded) > 1 else folded[0]
        if len(self) < SERIES_MAX_COUNT or known in self:
            return known
        rest = tuple(OTHER for _ in folded)
        return rest if len(rest) > 1 else OTHER

    def __missing__(self, key: object) -> int:
        """Read a key as it is counted; one that was never counted is 0."""
        return int(self.get(self.fold(key), 0))

    def __setitem__(self, key: object, value: int) -> None:
        """Count ``value`` under the folded key."""
        super().__setitem__(key if key in self else self.fold(key), value)

    def series(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Yield the label values and the count of every series.

        The values of a small closed set are there from the start, at 0, so that the first
        increment is a rise and not the birth of a series.
        """
        declared = self._labels[0].values if len(self._labels) == 1 else None
        if declared is not None and len(declared) <= _ZEROS_MAX_COUNT:
            yield from (((value,), 0) for value in sorted(declared - self.keys()))
        for key, value in self.items():
            yield (key if isinstance(key, tuple) else (key,)), value


class Histogram:
    """Counts of observations up to each bound; an ``observe`` is one bisection and three adds."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Take ``count`` observations of ``value``."""
        self._counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    @property
    def count(self) -> int:
        """Observations so far."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """The cumulative counts by bound, as the exposition format wants them."""
        total, found = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self._counts, strict=True):
            total += count
            found.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(total)))
        return found


class LabelledHistogram:
    """One :class:`Histogram` for each tuple of label values, bounded as a :class:`Tally` is."""

    def __init__(self, labels: Sequence[Label], bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._known = Tally(labels)
        self._histograms: dict[tuple[str, ...], Histogram] = {}

    def observe(self, value: float, labels: Sequence[object], count: int = 1) -> None:
        """Take ``count`` observations of ``value`` under ``labels``."""
        known = self._histograms.get(tuple(labels))  # type: ignore[arg-type]  # then it is one of ours
        if known is not None:
            known.observe(value, count)
            return
        folded = self._known.fold(tuple(labels))
        key = folded if isinstance(folded, tuple) else (str(folded),)
        if key not in self._histograms:
            self._known[folded] = 1
            self._histograms[key] = Histogram(self._bounds)
        self._histograms[key].observe(value, count)

    def series(self) -> Iterator[tuple[tuple[str, ...], Histogram]]:
        """Yield the label values and the histogram of every series."""
        yield from self._histograms.items()
