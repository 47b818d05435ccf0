from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.audio import SAMPLE_RATES
from voiceingest.cli.pacing import Pace, frame_bytes


class PaceTests(SynchronousTestCase):
    def test_a_frame_is_due_when_it_has_been_spoken(self) -> None:
        pace = Pace(100.0, 0.2)
        self.assertAlmostEqual(pace.due_s(0), 100.2)
        self.assertAlmostEqual(pace.wait_s(0, 100.05), 0.15)

    def test_a_late_frame_is_not_waited_for_and_delays_no_other(self) -> None:
        pace = Pace(0.0, 0.2)
        self.assertEqual(pace.wait_s(3, 5.0), 0.0)
        self.assertAlmostEqual(pace.late_s(3, 5.0), 4.2)
        self.assertAlmostEqual(pace.wait_s(29, 5.0), 1.0)

    @given(st.integers(0, 10**6), st.sampled_from([0.001, 0.02, 0.2, 1 / 3]))
    def test_nothing_drifts(self, index: int, frame_s: float) -> None:
        pace = Pace(7.0, frame_s)
        self.assertAlmostEqual(pace.due_s(index) - pace.due_s(0), index * frame_s, places=6)

    def test_without_a_pace_everything_is_due_and_nothing_late(self) -> None:
        pace = Pace(7.0, 0.0)
        self.assertEqual(pace.wait_s(1000, 7.0), 0.0)
        self.assertEqual(pace.late_s(1000, 99.0), 0.0)


class FrameBytesTests(SynchronousTestCase):
    def test_table(self) -> None:
        for rate, frame_ms, size in (
            (24000, 200, 9600),
            (8000, 20, 320),
            (44100, 20, 1764),
            (44100, 1, 88),
            (8000, 0.01, 2),
        ):
            self.assertEqual(frame_bytes(rate, frame_ms), size)

    @given(st.sampled_from(SAMPLE_RATES), st.floats(0.001, 2000))
    def test_a_frame_is_whole_samples(self, rate: int, frame_ms: float) -> None:
        size = frame_bytes(rate, frame_ms)
        self.assertEqual(size % 2, 0)
        self.assertGreaterEqual(size, 2)
