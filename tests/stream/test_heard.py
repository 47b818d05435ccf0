"""Where the listener is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.stream.heard import Heard

RATE = 16000


class Estimate(SynchronousTestCase):
    """By hand."""

    def test_by_the_clock(self) -> None:
        heard = Heard(RATE)
        heard.send(RATE, 10.0)
        self.assertEqual([heard.at(now) for now in (10.0, 10.25, 11.0, 99.0)], [0, 4000, 16000, 16000])

    def test_what_comes_while_it_plays_is_played_after_it(self) -> None:
        heard = Heard(RATE)
        heard.send(RATE, 0.0)
        heard.send(RATE, 0.5)
        self.assertEqual((heard.at(1.5), heard.ends_at(1.5)), (24000, 2.0))

    def test_what_comes_after_a_silence_begins_then(self) -> None:
        heard = Heard(RATE)
        heard.send(RATE, 0.0)
        heard.send(RATE, 5.0)
        self.assertEqual((heard.at(5.0), heard.at(5.5), heard.ends_at(5.5)), (16000, 24000, 6.0))

    def test_a_report_that_is_ahead_of_the_clock(self) -> None:
        heard = Heard(RATE)
        heard.send(2 * RATE, 0.0)
        heard.confirm(RATE, 0.5)
        self.assertEqual((heard.at(0.5), heard.at(1.0), heard.ends_at(1.0)), (16000, 24000, 1.5))

    def test_a_report_that_is_behind_the_clock_holds_it_up(self) -> None:
        heard = Heard(RATE)
        heard.send(3 * RATE, 0.0)
        self.assertEqual(heard.at(1.5), 24000)
        heard.confirm(RATE, 1.5)
        self.assertEqual([heard.at(now) for now in (1.5, 2.0, 2.5)], [24000, 24000, 32000])

    def test_a_cut(self) -> None:
        heard = Heard(RATE)
        heard.send(2 * RATE, 0.0)
        heard.cut(0.5)
        self.assertEqual((heard.sent, heard.at(9.0)), (8000, 8000))
        heard.send(RATE, 9.0)
        self.assertEqual(heard.at(9.5), 16000)


class Properties(SynchronousTestCase):
    """In any order of events."""

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.tuples(st.sampled_from("stcx"), st.floats(0, 3), st.integers(1, 50000)), max_size=30))
    def test_never_back_and_never_past_what_was_sent(self, steps: list[tuple[str, float, int]]) -> None:
        heard, now, last = Heard(RATE), 0.0, 0.0
        for what, pause, size in steps:
            now += pause
            if what == "s":
                heard.send(size, now)
            elif what == "c":
                heard.confirm(min(size, heard.sent), now)
            elif what == "x":
                heard.cut(now)
            self.assertTrue(last <= heard.at(now) <= heard.sent)
            self.assertGreaterEqual(heard.ends_at(now), now)
            last = heard.at(now)
        self.assertApproximates(heard.at(heard.ends_at(now) + 1e-6), heard.sent, 0.1)
