from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli import percentiles
from voiceingest.cli.percentiles import Latencies, in_words, percentile


class PercentileTests(SynchronousTestCase):
    def test_nearest_rank(self) -> None:
        values = [15.0, 20.0, 35.0, 40.0, 50.0]
        for rank, expected in ((5, 15.0), (30, 20.0), (40, 20.0), (50, 35.0), (100, 50.0), (0, 15.0)):
            self.assertEqual(percentile(values, rank), expected)

    def test_no_values(self) -> None:
        with self.assertRaises(ValueError):
            percentile([], 50)

    @given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
    def test_it_is_a_value_that_occurred_and_enough_are_not_above_it(
        self, values: list[float], rank: float
    ) -> None:
        ordered = sorted(values)
        found = percentile(ordered, rank)
        self.assertIn(found, ordered)
        self.assertGreaterEqual(sum(value <= found for value in ordered), len(ordered) * rank / 100 - 1e-9)


class LatenciesTests(SynchronousTestCase):
    def test_summary_is_in_milliseconds(self) -> None:
        latencies = Latencies(number / 1000 for number in range(1, 101))
        self.assertEqual(latencies.summary_ms(), {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0})

    def test_nothing_measured(self) -> None:
        self.assertEqual(Latencies().summary_ms(), {})
        self.assertEqual(in_words({}), "none measured")

    def test_absorb(self) -> None:
        one, other = Latencies([0.001]), Latencies([0.003, 0.002])
        one.absorb(other)
        self.assertEqual((one.count, one.summary_ms()["max"]), (3, 3.0))

    def test_memory_is_bounded_and_the_newest_are_kept(self) -> None:
        self.patch(percentiles, "SAMPLES_MAX_COUNT", 3)
        latencies = Latencies([9.0, 9.0, 0.001, 0.001, 0.001])
        self.assertEqual(latencies.count, 5)
        self.assertEqual(latencies.summary_ms()["max"], 1.0)

    def test_words(self) -> None:
        self.assertEqual(in_words({"p50": 1.234, "max": 10.0}), "p50 1.2 ms  max 10.0 ms")
