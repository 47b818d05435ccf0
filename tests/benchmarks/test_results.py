"""Percentiles, medians and verdicts."""

from __future__ import annotations

from benchmarks.results import GOALS, disturbed, judge, medians, percentiles_ms
from tests.support.case import SynchronousTestCase


class PercentileTests(SynchronousTestCase):
    def test_each_is_a_value_that_occurred(self) -> None:
        told = percentiles_ms(float(n) for n in reversed(range(1000)))
        self.assertEqual(told, {"p50": 500.0, "p99": 990.0, "p999": 999.0})

    def test_one_value(self) -> None:
        self.assertEqual(percentiles_ms([7.0]), {"p50": 7.0, "p99": 7.0, "p999": 7.0})

    def test_nothing(self) -> None:
        self.assertEqual(percentiles_ms([]), {})


class MedianTests(SynchronousTestCase):
    def test_every_number_and_those_within(self) -> None:
        rounds = [
            {"cpu_us": cpu_us, "lost": 0, "latency_ms": {"p50": cpu_us / 2}} for cpu_us in (30.0, 90.0, 40.0)
        ]
        self.assertEqual(
            medians(rounds), {"rounds": 3, "cpu_us": 40.0, "lost": 0, "latency_ms": {"p50": 20.0}}
        )

    def test_what_failed_is_left_out(self) -> None:
        self.assertEqual(medians([{"failed": "x"}, {"cpu_us": 5.0}]), {"rounds": 1, "cpu_us": 5.0})

    def test_all_failed(self) -> None:
        self.assertEqual(medians([{"failed": "x"}, {"failed": "y"}]), {"failed": "y"})

    def test_no_round(self) -> None:
        self.assertEqual(medians([]), {})


class DisturbedTests(SynchronousTestCase):
    def test_who_waited_for_a_core_is_named(self) -> None:
        shares = {"ours": {"waited_share": 0.06}, "go": {"waited_share": 0.05}, "node": {}}
        self.assertEqual(disturbed({"ingest-960/tls": shares}), ["ingest-960/tls of ours"])


class VerdictTests(SynchronousTestCase):
    def test_less_is_better(self) -> None:
        measured = {
            "ingest-960/plain": {"ours": {"cpu_us": 30.0}, "go": {"cpu_us": 40.0}, "node": {"cpu_us": 50.0}}
        }
        beside_go, beside_node, *others = judge(measured)
        self.assertEqual((beside_go.value, beside_go.met), (0.75, True))
        self.assertEqual((beside_node.value, beside_node.met), (0.6, False))
        self.assertEqual({verdict.met for verdict in others}, {None})
        self.assertEqual(len(others) + 2, len(GOALS))

    def test_more_is_better(self) -> None:
        for ours, met in ((2000.0, True), (1999.0, False)):
            measured = {
                "flat-9600/plain": {"ours": {"frames_per_s": ours}, "node": {"frames_per_s": 1000.0}}
            }
            found = [verdict.met for verdict in judge(measured) if verdict.goal.figure == "frames_per_s"]
            self.assertEqual(found, [met])

    def test_a_bound_without_a_peer(self) -> None:
        measured = {"memory/plain": {"ours": {"idle_kib": 20.0, "talking_kib": 40.1}}}
        found = [verdict.met for verdict in judge(measured) if verdict.value is not None]
        self.assertEqual(found, [True, False])
