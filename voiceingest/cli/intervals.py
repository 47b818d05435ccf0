"""Sets of whole numbers as lists of half-open intervals, ascending and apart. Pure."""

from __future__ import annotations

from collections.abc import Iterable

Interval = tuple[int, int]


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same numbers, each once."""
    merged: list[Interval] = []
    for first, end in sorted(intervals):
        if first >= end:
            continue
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged


def size(intervals: Iterable[Interval]) -> int:
    """How many numbers there are in intervals that do not overlap."""
    return sum(end - first for first, end in intervals)


def common(one: list[Interval], other: list[Interval]) -> list[Interval]:
    """The numbers that are in both; both as ``union`` makes them."""
    found: list[Interval] = []
    i = j = 0
    while i < len(one) and j < len(other):
        first, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if first < end:
            found.append((first, end))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return found


def without(one: list[Interval], taken: Interval) -> list[Interval]:
    """The numbers of ``one`` that are not in ``taken``."""
    left: list[Interval] = []
    for first, end in one:
        left += [(first, min(end, taken[0])), (max(first, taken[1]), end)]
    return [(first, end) for first, end in left if first < end]
