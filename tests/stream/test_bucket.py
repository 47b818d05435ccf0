"""The bucket paces and never refuses."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from voiceingest.stream.bucket import TokenBucket

RATES = st.floats(0.5, 1e6)
BURSTS = st.floats(0.0, 1e6)
AMOUNTS = st.floats(0.0, 1e6)
PAUSES = st.floats(0.0, 100.0)


class Table(SynchronousTestCase):
    """Small cases by hand."""

    def test_the_burst_is_free_and_what_follows_is_owed(self) -> None:
        bucket = TokenBucket(10.0, 20.0, 0.0)
        self.assertEqual(bucket.take(20, 0.0), 0.0)
        self.assertEqual(bucket.take(5, 0.0), 0.5)
        self.assertEqual(bucket.take(5, 0.0), 1.0)

    def test_time_pays_the_debt(self) -> None:
        bucket = TokenBucket(10.0, 20.0, 0.0)
        bucket.take(30, 0.0)
        self.assertEqual(bucket.take(0, 0.25), 0.75)
        self.assertEqual(bucket.take(0, 1.0), 0.0)

    def test_it_fills_up_to_the_burst_and_no_further(self) -> None:
        bucket = TokenBucket(10.0, 20.0, 0.0)
        self.assertEqual(bucket.take(30, 1e9), 1.0)

    def test_what_is_left_out_is_not_owed(self) -> None:
        """However much was left out: a flood of mistakes is one line a second, not silence for ever."""
        bucket = TokenBucket(1.0, 5.0, 0.0)
        taken = [bucket.spare(1, 0.0) for _ in range(1000)]
        self.assertEqual((taken.count(True), taken[:6]), (5, [True] * 5 + [False]))
        self.assertEqual([bucket.spare(1, 1.0), bucket.spare(1, 1.0)], [True, False])

    def test_time_that_stands_still_only_adds_debt(self) -> None:
        bucket = TokenBucket(10.0, 10.0, 5.0)
        debts = [bucket.take(10, 5.0) for _ in range(4)]
        self.assertEqual(debts, [0.0, 1.0, 2.0, 3.0])

    def test_rate_0_is_no_limit(self) -> None:
        bucket = TokenBucket(0.0, 0.0, 0.0)
        self.assertEqual({bucket.take(1e12, 0.0) for _ in range(100)}, {0.0})

    def test_exactly_the_rate_never_owes(self) -> None:
        bucket = TokenBucket(8.0, 8.0, 0.0)
        self.assertEqual({bucket.take(1, second / 8) for second in range(1000)}, {0.0})


class Properties(SynchronousTestCase):
    """Over any run."""

    @settings(deadline=None, max_examples=200)
    @given(RATES, BURSTS, st.lists(st.tuples(AMOUNTS, PAUSES), max_size=40))
    def test_who_waits_out_the_debt_gets_no_more_than_burst_and_rate(
        self, rate: float, burst: float, steps: list[tuple[float, float]]
    ) -> None:
        bucket, now, taken = TokenBucket(rate, burst, 0.0), 0.0, 0.0
        for amount, pause in steps:
            debt = bucket.take(amount, now)
            taken += amount
            now += debt
            allowed = burst + rate * now
            self.assertLessEqual(taken, allowed * (1 + 1e-9) + 1e-6)
            now += pause

    @settings(deadline=None, max_examples=200)
    @given(RATES, BURSTS, st.lists(st.tuples(AMOUNTS, PAUSES), max_size=40))
    def test_it_never_refuses_and_the_debt_is_a_finite_time(
        self, rate: float, burst: float, steps: list[tuple[float, float]]
    ) -> None:
        bucket, now, taken = TokenBucket(rate, burst, 0.0), 0.0, 0.0
        for amount, pause in steps:
            debt = bucket.take(amount, now)
            taken += amount
            self.assertGreaterEqual(debt, 0.0)
            self.assertLessEqual(debt, taken / rate * (1 + 1e-9) + 1e-9)
            now += pause

    @settings(deadline=None, max_examples=100)
    @given(RATES, st.lists(AMOUNTS, min_size=1, max_size=20))
    def test_the_debt_is_what_was_taken_beyond_the_burst(self, rate: float, amounts: list[float]) -> None:
        bucket = TokenBucket(rate, rate, 0.0)
        debt = [bucket.take(amount, 0.0) for amount in amounts][-1]
        self.assertAlmostEqual(debt * rate, max(0.0, sum(amounts) - rate), delta=1e-3)
