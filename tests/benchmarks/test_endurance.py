"""What a long run says of memory, descriptors and frames."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.endurance import (
    Ending,
    Line,
    findings,
    growth,
    halves_ms,
    invented,
    lost,
    memory_bound,
    memory_line,
    passed,
    regression,
    warmed,
)
from tests.support.case import SynchronousTestCase


def told(minutes: float = 30, kib_per_min: float = 0.0, **more: Any) -> dict[str, Any]:
    """A run with a sample every ten seconds, in which nothing happens that is not asked for."""
    times = [10.0 * n for n in range(1, int(minutes * 6) + 1)]
    samples = {
        "at_s": times,
        "rss_kib": [80_000 + kib_per_min * at / 60 for at in times],
        "descriptors": [120] * len(times),
        "threads": [2] * len(times),
        "p99_ms": [4.0] * len(times),
    }
    samples |= more.pop("samples", {})
    after = {"dropped": 0, "resumed": 3, "descriptors": 15, **more.pop("after", {})}
    counts = {"lost": 0, "wrong": 0, "broken": 0, "resumed": 3}
    return {"samples": samples, "before": {"descriptors": 15}, "after": after, **counts, **more}


def failed(run: dict[str, Any]) -> list[str]:
    """What is said against it."""
    return [finding.title for finding in findings(run) if finding.met is False]


class RegressionTests(SynchronousTestCase):
    @given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(3, 50))
    def test_a_line_is_found(self, slope: int, start: int, count: int) -> None:
        line = regression(range(count), [start + slope * x for x in range(count)])
        self.assertAlmostEqual(line.slope, slope, 6)
        self.assertAlmostEqual(line.start, start, 6)
        self.assertAlmostEqual(line.error, 0, 3)

    def test_the_error_of_the_slope(self) -> None:
        line = regression([0, 1, 2, 3], [1, 3, 2, 4])
        self.assertAlmostEqual(line.slope, 0.8)
        self.assertAlmostEqual(line.start, 1.3)
        # By hand: residuals -0.3, 0.9, -0.9, 0.3: squares 1.8, over n - 2 = 0.9, over the spread 5.
        self.assertAlmostEqual(line.error, math.sqrt(0.9 / 5))

    def test_of_too_little_nothing_is_known(self) -> None:
        self.assertEqual(regression([], []), Line(0, math.inf, 0))
        self.assertEqual(regression([1, 2], [3, 5]), Line(0, math.inf, 4))
        self.assertEqual(regression([1, 1, 1], [3, 4, 5]), Line(0, math.inf, 4))


class ColumnTests(SynchronousTestCase):
    def test_the_first_fifth_is_not_judged(self) -> None:
        judged = warmed(told(10)["samples"])
        self.assertEqual((judged["at_s"][0], len(judged["at_s"])), (120.0, 49))
        self.assertEqual(set(map(len, judged.values())), {49})

    def test_growth_is_of_the_middle(self) -> None:
        self.assertEqual(growth([120, 120, 999, 120, 120, 120, 999, 121, 121, 121, 121, 121]), 1)
        self.assertEqual(growth([7]), 0)

    def test_halves(self) -> None:
        run = told(10)["samples"]
        run["p99_ms"] = [500.0] * 11 + [4.0] * 24 + [6.0] * 25
        self.assertEqual(halves_ms(run), (4.0, 6.0))
        self.assertEqual(halves_ms({"at_s": [1.0], "p99_ms": [4.0]}), (4.0, 4.0))

    def test_memory_is_told_by_the_minute(self) -> None:
        self.assertAlmostEqual(memory_line(told(kib_per_min=12.5)["samples"]).slope, 12.5)

    def test_one_arena_in_the_middle_is_chance(self) -> None:
        run = told()["samples"]
        run["rss_kib"] = [80_000 + (1024 if at > 18 * 60 else 0) for at in run["at_s"]]
        slope, bound = memory_line(run).slope, memory_bound(run)
        self.assertAlmostEqual(bound, 64, 0)
        self.assertLess(slope, bound * 1.02)
        self.assertGreater(slope, bound * 0.95)


class LossTests(SynchronousTestCase):
    def test_what_was_said_before_a_stop_is_to_come(self) -> None:
        endings = {1: Ending(10, 10), 2: Ending(5, 8), 3: Ending(4, 4)}
        self.assertEqual(lost(endings, {1: 10, 2: 5, 3: 4}), 0)
        self.assertEqual(lost(endings, {1: 9, 2: 8}), 5)

    def test_nobody_else_is_to_speak(self) -> None:
        endings = {1: Ending(10, 10), 2: Ending(5, 8)}
        self.assertEqual(invented(endings, {1: 10, 2: 8}), 0)
        self.assertEqual(invented(endings, {1: 11, 2: 9, 7: 3}), 5)


class VerdictTests(SynchronousTestCase):
    def test_nothing_is_said_against_a_quiet_run(self) -> None:
        run = told(kib_per_min=20)
        self.assertEqual(failed(run), [])
        self.assertTrue(passed(run))

    def test_each_is_found(self) -> None:
        grows = [100 + n // 40 for n in range(180)]
        cases: dict[str, dict[str, Any]] = {
            "memory, KiB a minute": told(kib_per_min=70),
            "descriptors, last quarter less first": told(samples={"descriptors": grows}),
            "threads, last quarter less first": told(samples={"threads": [2] * 100 + [3] * 80}),
            "descriptors left when all had left": told(after={"descriptors": 16}),
            "frames lost": told(lost=1),
            "frames changed, repeated or out of order": told(wrong=1),
            "frames the daemon says it dropped": told(after={"dropped": 1}),
            "connections that ended unasked": told(broken=1),
            "streams that were cut and could not go on": told(after={"resumed": 2}),
        }
        for title, run in cases.items():
            self.assertEqual(failed(run), [title])
            self.assertFalse(passed(run))

    def test_a_short_run_says_nothing_of_memory(self) -> None:
        memory, *others = findings(told(2, kib_per_min=5000))
        self.assertIsNone(memory.met)
        self.assertEqual({finding.met for finding in others}, {True})

    def test_a_very_short_one_says_only_what_was_lost(self) -> None:
        run = told(1, samples={"descriptors": [100, 110, 120, 130, 140, 150]})
        self.assertEqual([finding.met for finding in findings(run)], [None] * 3 + [True] * 6)

    def test_a_longer_run_says_more(self) -> None:
        self.assertEqual(failed(told(240, kib_per_min=20)), ["memory, KiB a minute"])
