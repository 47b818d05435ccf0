from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.intervals import Interval, common, size, union, without

INTERVALS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8)


def numbers(intervals: list[Interval]) -> set[int]:
    return {number for first, end in intervals for number in range(first, end)}


class IntervalTests(SynchronousTestCase):
    @given(INTERVALS, INTERVALS)
    def test_as_sets(self, one: list[Interval], other: list[Interval]) -> None:
        a, b = union(one), union(other)
        self.assertEqual((numbers(a), size(a)), (numbers(one), len(numbers(one))))
        self.assertEqual(numbers(common(a, b)), numbers(a) & numbers(b))
        for taken in b:
            left = without(a, taken)
            self.assertEqual(numbers(left), numbers(a) - numbers([taken]))
            self.assertEqual(size(left), len(numbers(left)))

    def test_ascending_and_apart(self) -> None:
        self.assertEqual(union([(5, 7), (1, 3), (3, 4), (9, 9), (6, 8)]), [(1, 4), (5, 8)])
