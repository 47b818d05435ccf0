"""Holes in sequence numbers are counted; nothing is refused, whatever the numbers are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.stream.sequence import STEP_MAX_COUNT, SequenceWatch

# (numbers, missing, strange, last)
CASES: tuple[tuple[list[int | None], int, int, int], ...] = (
    ([1, 2, 3], 0, 0, 3),
    ([7, 8], 0, 0, 8),  # who begins to count elsewhere has lost nothing
    ([1, 2, 5, 6], 2, 0, 6),
    ([1, None, 2], 0, 0, 2),
    ([1, 2, 2, 3], 0, 1, 3),  # a repetition
    ([1, 3, 2, 4], 1, 1, 4),  # one that came late was counted as missing before
    ([5000, 1, 2], 0, 1, 2),  # a count that was begun anew
    ([1, 2_000_000_000, 2_000_000_001], 0, 1, 2_000_000_001),
)


class SequenceTests(SynchronousTestCase):
    def test_cases(self) -> None:
        for numbers, missing, strange, last in CASES:
            watch = SequenceWatch()
            told = sum(watch.note(number) for number in numbers)
            self.assertEqual((watch.missing, watch.strange, watch.last), (missing, strange, last), numbers)
            self.assertEqual(told, missing, numbers)

    @given(st.lists(st.integers(0, 2**63), max_size=50))
    def test_no_number_makes_more_of_it_than_a_step(self, numbers: list[int]) -> None:
        watch = SequenceWatch()
        for number in numbers:
            self.assertLess(watch.note(number), STEP_MAX_COUNT)
