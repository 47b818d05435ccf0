from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel.wheel import BURST_COUNT, Wheel


class WheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.wheel = Wheel(self.clock)
        self.called: list[tuple[str, float]] = []

    def at(self, due_s: float, name: str) -> None:
        self.wheel.at(due_s, lambda now_s: self.called.append((name, now_s)))

    def test_in_the_order_of_time_on_one_timer(self) -> None:
        for due_s, name in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (1.0, "a2")):
            self.at(due_s, name)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([0.5, 0.5, 1.0, 1.0])
        self.assertEqual(self.called, [("a", 1.0), ("a2", 1.0), ("b", 2.0), ("c", 3.0)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_called_may_ask_for_more(self) -> None:
        def again(now_s: float) -> None:
            self.called.append(("again", now_s))
            if now_s < 3:
                self.wheel.at(now_s + 1, again)

        self.wheel.at(1.0, again)
        self.clock.pump([1.0] * 5)
        self.assertEqual(self.called, [("again", 1.0), ("again", 2.0), ("again", 3.0)])

    def test_much_that_is_due_lets_others_have_their_turn(self) -> None:
        for number in range(BURST_COUNT + 1):
            self.at(1.0, str(number))
        self.clock.callLater(1.0, self.called.append, ("another", 1.0))
        self.clock.advance(1.0)
        names = [name for name, _ in self.called]
        self.assertEqual(names[BURST_COUNT:], ["another", str(BURST_COUNT)])

    def test_one_that_fails_does_not_stop_the_others(self) -> None:
        def fail(now_s: float) -> None:
            raise ZeroDivisionError

        self.wheel.at(1.0, fail)
        self.at(2.0, "after")
        self.assertRaises(ZeroDivisionError, self.clock.advance, 1.0)
        self.clock.advance(1.0)
        self.assertEqual(self.called, [("after", 2.0)])

    def test_stopped(self) -> None:
        self.at(1.0, "never")
        self.wheel.stop()
        self.wheel.stop()
        self.clock.advance(2.0)
        self.assertEqual((self.called, self.clock.getDelayedCalls()), ([], []))

    @given(st.lists(st.integers(0, 50), max_size=20))
    def test_nothing_is_early_and_nothing_is_forgotten(self, due: list[int]) -> None:
        clock: Any = Clock()
        wheel, called = Wheel(clock), []
        for at_s in due:
            wheel.at(at_s / 10, lambda now_s, at_s=at_s: called.append((at_s, now_s)))  # type: ignore[misc]
        clock.pump([0.1] * 51)
        self.assertEqual([at_s for at_s, _ in called], sorted(due))
        for at_s, now_s in called:
            self.assertTrue(at_s / 10 <= now_s < at_s / 10 + 0.1001)
