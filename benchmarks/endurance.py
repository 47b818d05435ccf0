"""What a long run says: whether memory or descriptors grow, what was lost, and a verdict. Pure.

A run is columns of equal length, one row a sample: ``at_s``, ``rss_kib``, ``descriptors``, ``threads``,
``p99_ms`` and what else there is. What was before ``WARM_SHARE`` of it is shown and not judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Final, NamedTuple

Columns = Mapping[str, Sequence[float]]

WARM_SHARE: Final = 0.2
# CPython takes memory from the system in arenas of this size. One that is taken in the middle of a run, and
# filled at once, is a line of the slope 1.5 * size / minutes: the least slope that is more than chance. So
# the bound falls with the length of the run. It is 64 KiB a minute for the 24 of half an hour that are
# judged; each has 300,000 frames (a byte left of each: 293 KiB) and five streams that end (all left of each:
# 135 KiB and more).
ARENA_KIB: Final = 1024
# Before, caches and pools fill, and a slope says nothing.
MEMORY_MIN_MINUTES: Final = 5.0
GROWTH_MIN_MINUTES: Final = 1.0
# Streams that come and go overlap for a moment.
DESCRIPTORS_MAX_GROWTH: Final = 2


class Line(NamedTuple):
    """A straight line through points, by least squares; ``error`` is the standard error of its slope."""

    slope: float
    error: float
    start: float


def regression(xs: Sequence[float], ys: Sequence[float]) -> Line:
    """The line. Needs three points that are not above one another; else it is flat, and nothing is known."""
    if len(xs) < 3 or max(xs) == min(xs):
        return Line(0.0, math.inf, fmean(ys) if ys else 0.0)
    x_mean, y_mean = fmean(xs), fmean(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    start = y_mean - slope * x_mean
    rest = sum((y - start - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return Line(slope, math.sqrt(rest / (len(xs) - 2) / spread), start)


def warmed(columns: Columns) -> dict[str, list[float]]:
    """The samples that are judged."""
    times = columns["at_s"]
    first = sum(at < times[-1] * WARM_SHARE for at in times)
    return {name: list(values[first:]) for name, values in columns.items()}


def growth(values: Sequence[float]) -> float:
    """The middle of the last quarter, less that of the first."""
    quarter = max(1, len(values) // 4)
    return median(values[-quarter:]) - median(values[:quarter])


def memory_line(columns: Columns) -> Line:
    """Resident memory over time, in KiB a minute."""
    judged = warmed(columns)
    return regression([at / 60 for at in judged["at_s"]], judged["rss_kib"])


def memory_bound(columns: Columns) -> float:
    """KiB a minute that are still chance; see ``ARENA_KIB``."""
    times = warmed(columns)["at_s"]
    return 1.5 * ARENA_KIB / max((times[-1] - times[0]) / 60, 1e-9)


def halves_ms(columns: Columns) -> tuple[float, float]:
    """The median of the samples' p99 in the first half of what is judged, and in the second."""
    values = warmed(columns)["p99_ms"]
    middle = max(1, len(values) // 2)
    return median(values[:middle]), median(values[middle:] or values)


class Ending(NamedTuple):
    """How a stream ended: at least, and at most, so many of its frames are to be on the bus.

    All that were said, where it was stopped; where its socket was cut, those that had been acknowledged.
    """

    least: int
    most: int


def lost(endings: Mapping[int, Ending], came: Mapping[int, int]) -> int:
    """Frames that are not on the bus; ``came`` is the last number of each stream, which came in order."""
    return sum(max(0, ending.least - came.get(stream, 0)) for stream, ending in endings.items())


def invented(endings: Mapping[int, Ending], came: Mapping[int, int]) -> int:
    """Frames on the bus that nobody said."""
    return sum(max(0, last - endings.get(stream, Ending(0, 0)).most) for stream, last in came.items())


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is judged. ``met`` is ``None`` where the run was too short to say."""

    title: str
    value: float
    bound: float
    met: bool | None


def findings(told: Mapping[str, Any]) -> list[Finding]:
    """Everything that is judged of a run."""
    columns = told["samples"]
    judged = warmed(columns)
    line, bound = memory_line(columns), memory_bound(columns)
    minutes = (judged["at_s"][-1] - judged["at_s"][0]) / 60
    grown = {name: growth(judged[name]) for name in ("descriptors", "threads")}
    is_long = minutes >= GROWTH_MIN_MINUTES
    none = {
        "descriptors left when all had left": max(
            0, told["after"]["descriptors"] - told["before"]["descriptors"]
        ),
        "frames lost": told["lost"],
        "frames changed, repeated or out of order": told["wrong"],
        "frames the daemon says it dropped": told["after"]["dropped"],
        "connections that ended unasked": told["broken"],
        "streams that were cut and could not go on": told["resumed"] - told["after"]["resumed"],
    }
    return [
        Finding(
            "memory, KiB a minute", round(line.slope, 1), round(bound, 1),
            line.slope <= bound if minutes >= MEMORY_MIN_MINUTES else None,
        ),
        Finding(
            "descriptors, last quarter less first", grown["descriptors"], DESCRIPTORS_MAX_GROWTH,
            grown["descriptors"] <= DESCRIPTORS_MAX_GROWTH if is_long else None,
        ),
        Finding(
            "threads, last quarter less first", grown["threads"], 0,
            grown["threads"] <= 0 if is_long else None,
        ),
        *(Finding(title, value, 0, value == 0) for title, value in none.items()),
    ]  # fmt: skip


def passed(told: Mapping[str, Any]) -> bool:
    """Whether nothing that is judged failed."""
    return all(finding.met is not False for finding in findings(told))
