"""Audio before the start: what is kept of it, and what is counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.stream.early import EARLY_MAX_BYTES, EARLY_MAX_S, EarlyMedia


class EarlyTests(SynchronousTestCase):
    def test_the_last_second_comes_out_in_order_and_once(self) -> None:
        early = EarlyMedia()
        for tenth in range(15):
            early.hold(b"%02d" % tenth, tenth / 10)
        self.assertEqual(early.take(1.45), [b"%02d" % tenth for tenth in range(5, 15)])
        self.assertEqual((early.dropped, len(early), early.take(1.5)), (5, 0, []))

    def test_a_start_that_comes_late_finds_nothing_stale(self) -> None:
        early = EarlyMedia()
        early.hold(b"ab", 0.0)
        self.assertEqual((early.take(EARLY_MAX_S + 0.1), early.dropped), ([], 1))

    def test_a_flood_keeps_its_newest(self) -> None:
        early = EarlyMedia()
        for number in range(10):
            early.hold(bytes([number]) * (EARLY_MAX_BYTES // 4), 0.0)
        self.assertEqual([payload[0] for payload in early.take(0.0)], [6, 7, 8, 9])
        self.assertEqual(early.dropped, 6)

    @given(st.lists(st.tuples(st.floats(0, 0.5), st.binary(min_size=1, max_size=40_000)), max_size=30))
    def test_held_or_counted_never_both_never_neither(self, coming: list[tuple[float, bytes]]) -> None:
        early, now = EarlyMedia(), 0.0
        for step, payload in coming:
            now += step
            early.hold(payload, now)
            self.assertLessEqual(early._held_bytes, EARLY_MAX_BYTES)
        taken = early.take(now)
        self.assertEqual(len(taken) + early.dropped, len(coming))
        self.assertEqual(taken, [payload for _, payload in coming[early.dropped :]])
