"""Pauses between attempts: they double, they end at their limit, they are never in step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.publishers.retry import STEADY_S, Backoff


class BackoffTests(SynchronousTestCase):
    def test_it_doubles_up_to_its_limit_and_begins_again(self) -> None:
        backoff = Backoff(0.1, 1.0, lambda: 1.0)
        self.assertEqual([round(backoff.failed(), 3) for _ in range(6)], [0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
        backoff.begin_again()
        self.assertEqual(backoff.failed(), 0.1)

    def test_what_works_for_a_moment_is_as_bad_as_what_does_not(self) -> None:
        backoff = Backoff(0.1, 1.0, lambda: 1.0)
        backoff.failed()
        backoff.connected(50.0)
        self.assertFalse(backoff.worked(50.0 + STEADY_S / 2))
        self.assertEqual(backoff.failed(), 0.2)
        backoff.connected(60.0)
        self.assertTrue(backoff.worked(60.0 + STEADY_S))
        self.assertEqual(backoff.failed(), 0.1)

    def test_chance_takes_up_to_half(self) -> None:
        for jitter, pause_s in ((0.0, 0.5), (0.5, 0.75), (1.0, 1.0)):
            self.assertEqual(Backoff(1.0, 9.0, lambda jitter=jitter: jitter).failed(), pause_s)

    def test_a_limit_below_the_first_pause_counts(self) -> None:
        self.assertEqual(Backoff(1.0, 0.2, lambda: 1.0).failed(), 0.2)

    @given(st.floats(0.01, 10), st.floats(0.1, 300), st.integers(1, 200), st.floats(0, 1))
    def test_it_stays_within_its_bounds_for_ever(
        self, first_s: float, max_s: float, failures: int, jitter: float
    ) -> None:
        backoff = Backoff(first_s, max_s, lambda: jitter)
        pauses = [backoff.failed() for _ in range(failures)]
        self.assertEqual(pauses, sorted(pauses))
        self.assertLessEqual(pauses[-1], max_s)
        self.assertGreaterEqual(pauses[0], min(first_s, max_s) / 2)
