"""One timer for everybody, on a fake clock."""

from __future__ import annotations

import math
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from voiceingest.deadlines import STALLED_S, Deadlines


class Case(SynchronousTestCase):
    """A clock, the deadlines, and a log of who was woken when."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.woken: list[tuple[str, float]] = []

    def owner(self, name: str, *again: float) -> Callable[[float], float]:
        """Who notes that it was woken and answers ``again`` one after the other, then infinity."""
        answers = iter(again)

        def due(now: float) -> float:
            self.woken.append((name, now))
            return next(answers, math.inf)

        return due

    def advance_to(self, *times: float) -> None:
        """Let the clock reach each of ``times``."""
        for time in times:
            self.clock.advance(time - self.clock.seconds())


class Waking(Case):
    """Who is called, and when."""

    def test_in_the_order_of_their_times_whatever_the_order_of_asking(self) -> None:
        for name, when in (("c", 3.0), ("a", 1.0), ("d", 4.0), ("b", 2.0)):
            self.deadlines.wake(self.owner(name), when)
        self.clock.pump([0.5] * 10)
        self.assertEqual(self.woken, [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)])

    def test_at_the_same_time_in_the_order_of_asking(self) -> None:
        for name in "cab":
            self.deadlines.wake(self.owner(name), 1.0)
        self.advance_to(1.0)
        self.assertEqual([name for name, _ in self.woken], ["c", "a", "b"])

    def test_not_before_its_time_and_once(self) -> None:
        self.deadlines.wake(self.owner("a"), 1.0)
        self.advance_to(0.999)
        self.assertEqual(self.woken, [])
        self.advance_to(1.0, 5.0)
        self.assertEqual(self.woken, [("a", 1.0)])
        self.assertEqual(len(self.deadlines), 0)

    def test_infinity_asks_for_nothing(self) -> None:
        self.deadlines.wake(self.owner("a"), math.inf)
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))

    def test_it_can_be_brought_forward(self) -> None:
        due = self.owner("a")
        self.deadlines.wake(due, 5.0)
        self.deadlines.wake(due, 2.0)
        self.assertEqual(len(self.deadlines), 1)
        self.clock.pump([1.0] * 6)
        self.assertEqual(self.woken, [("a", 2.0)])

    def test_it_cannot_be_put_off(self) -> None:
        due = self.owner("a")
        self.deadlines.wake(due, 2.0)
        self.deadlines.wake(due, 5.0)
        self.clock.pump([1.0] * 6)
        self.assertEqual(self.woken, [("a", 2.0)])

    def test_the_answer_is_the_next_time(self) -> None:
        self.deadlines.wake(self.owner("a", 3.0, 7.0), 1.0)
        self.clock.pump([0.5] * 20)
        self.assertEqual(self.woken, [("a", 1.0), ("a", 3.0), ("a", 7.0)])

    def test_an_answer_in_the_past_does_not_spin(self) -> None:
        def due(now: float) -> float:
            self.woken.append(("a", now))
            return now

        self.deadlines.wake(due, 1.0)
        self.advance_to(1.0)
        self.assertEqual(len(self.woken), 1)
        self.deadlines.stop()

    def test_who_is_forgotten_is_not_called(self) -> None:
        due, other = self.owner("a"), self.owner("b")
        self.deadlines.wake(due, 1.0)
        self.deadlines.wake(other, 1.0)
        self.deadlines.forget(due)
        self.deadlines.forget(self.owner("never asked"))
        self.assertEqual(len(self.deadlines), 1)
        self.advance_to(1.0)
        self.assertEqual(self.woken, [("b", 1.0)])

    def test_who_was_forgotten_may_ask_again(self) -> None:
        due = self.owner("a")
        for when in (1.0, 1.0, 2.0):
            self.deadlines.wake(due, when)
            self.deadlines.forget(due)
        self.deadlines.wake(due, 2.0)
        self.clock.pump([0.5] * 6)
        self.assertEqual(self.woken, [("a", 2.0)])

    def test_who_is_woken_may_forget_itself_and_others(self) -> None:
        other = self.owner("b")

        def due(now: float) -> float:
            self.deadlines.forget(other)
            self.deadlines.forget(due)
            return math.inf

        self.deadlines.wake(due, 1.0)
        self.deadlines.wake(other, 1.0)
        self.advance_to(1.0)
        self.assertEqual((self.woken, len(self.deadlines)), ([], 0))

    def test_who_is_woken_may_ask_for_others(self) -> None:
        other = self.owner("b")

        def due(now: float) -> float:
            self.deadlines.wake(other, now + 0.5)
            return math.inf

        self.deadlines.wake(due, 1.0)
        self.advance_to(1.0, 1.5)
        self.assertEqual(self.woken, [("b", 1.5)])

    def test_bound_methods_of_one_object_are_one_owner(self) -> None:
        class Owner:
            calls = 0

            def due(self, now: float) -> float:
                self.calls += 1
                return math.inf

        owner = Owner()
        self.deadlines.wake(owner.due, 1.0)
        self.deadlines.wake(owner.due, 1.0)
        self.advance_to(1.0)
        self.assertEqual(owner.calls, 1)

    def test_stop_forgets_everybody_and_leaves_no_timer(self) -> None:
        self.deadlines.wake(self.owner("a"), 1.0)
        self.deadlines.stop()
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))
        self.deadlines.stop()
        self.deadlines.wake(self.owner("b"), 1.0)
        self.advance_to(1.0)
        self.assertEqual(self.woken, [("b", 1.0)])

    def test_one_that_raises_does_not_take_the_others_with_it(self) -> None:
        def due(now: float) -> float:
            raise ValueError("a bug")

        self.deadlines.wake(self.owner("before"), 0.9)
        self.deadlines.wake(due, 1.0)
        self.deadlines.wake(self.owner("same time"), 1.0)
        self.deadlines.wake(self.owner("later"), 2.0)
        self.assertRaises(ValueError, self.advance_to, 1.0)
        self.advance_to(1.001, 2.0)
        self.assertEqual([name for name, _ in self.woken], ["before", "same time", "later"])
        self.assertEqual(len(self.deadlines), 0)

    def test_one_that_raises_is_not_called_again(self) -> None:
        calls: list[float] = []

        def due(now: float) -> float:
            calls.append(now)
            raise ValueError("a bug")

        self.deadlines.wake(due, 1.0)
        self.assertRaises(ValueError, self.advance_to, 1.0)
        self.advance_to(2.0, 10.0)
        self.assertEqual(calls, [1.0])


class Stalls(Case):
    """The daemon did not run for a while: peers get time to be heard before they are judged."""

    def test_a_late_timer_gives_a_grace_first(self) -> None:
        self.deadlines.wake(self.owner("a"), 1.0)
        self.advance_to(30.0)
        self.assertEqual(self.woken, [])
        self.advance_to(30.0 + STALLED_S)
        self.assertEqual(self.woken, [("a", 30.0 + STALLED_S)])

    def test_who_is_heard_within_the_grace_is_not_judged(self) -> None:
        heard_at = 0.0

        def due(now: float) -> float:
            if now >= heard_at + 5.0:
                self.woken.append(("a", now))
                return math.inf
            return heard_at + 5.0

        self.deadlines.wake(due, 5.0)
        self.advance_to(30.0)
        heard_at = 30.2
        self.advance_to(31.0, 35.1)
        self.assertEqual(self.woken, [])
        self.advance_to(35.2)
        self.assertEqual(self.woken, [("a", 35.2)])

    def test_a_little_late_is_not_a_stall(self) -> None:
        self.deadlines.wake(self.owner("a"), 1.0)
        self.advance_to(1.0 + STALLED_S)
        self.assertEqual(self.woken, [("a", 1.0 + STALLED_S)])

    def test_the_grace_is_given_once_for_all_that_are_late(self) -> None:
        for second in range(10):
            self.deadlines.wake(self.owner(f"{second}", 100.0), 1.0 + second)
        self.advance_to(30.0, 31.0)
        self.assertEqual(len(self.woken), 10)
        self.deadlines.wake(self.owner("next"), 31.5)
        self.advance_to(31.5)
        self.assertEqual(self.woken[-1], ("next", 31.5))

    def test_new_deadlines_within_the_grace_do_not_prolong_it(self) -> None:
        """A busy daemon asks for some all the time; otherwise nobody would be judged again."""
        self.deadlines.wake(self.owner("a"), 1.0)
        self.advance_to(30.0)
        for tenth in range(1, 60):
            self.deadlines.wake(self.owner("new"), 1000.0 + tenth)
            self.advance_to(30.0 + tenth / 10)
        self.assertEqual([name for name, _ in self.woken], ["a"])
        self.assertLessEqual(self.woken[0][1], 30.0 + STALLED_S + 0.11)

    def test_who_raises_after_a_stall_does_not_start_another_grace(self) -> None:
        def due(now: float) -> float:
            raise ValueError("a bug")

        self.deadlines.wake(due, 1.0)
        self.deadlines.wake(self.owner("b"), 1.5)
        self.advance_to(30.0)
        self.assertRaises(ValueError, self.advance_to, 31.0)
        self.advance_to(31.01)
        self.assertEqual([name for name, _ in self.woken], ["b"])

    def test_a_time_that_is_past_when_asked_for_is_no_stall(self) -> None:
        """A token may be within its lead when its connection opens."""
        self.advance_to(100.0)
        self.deadlines.wake(self.owner("a"), 75.0)
        self.advance_to(100.01)
        self.assertEqual([name for name, _ in self.woken], ["a"])

    def test_times_that_are_past_when_asked_for_starve_nobody(self) -> None:
        """One caller with a token of few seconds, coming again and again, must not stop the rest."""
        self.advance_to(100.0)
        self.deadlines.wake(self.owner("idle peer"), 102.0)
        for tenth in range(1, 100):
            self.deadlines.wake(self.owner("short token"), 75.0)
            self.advance_to(100.0 + tenth / 10)
        self.assertIn("idle peer", [name for name, _ in self.woken])


class Numbers(Case):
    """Ten thousand owners and one timer."""

    def test_ten_thousand_owners_share_one_timer(self) -> None:
        for number in range(10_000):
            self.deadlines.wake(self.owner(f"{number}"), 1.0 + (number * 7919 % 10_000) / 1000)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        for _ in range(120):
            self.clock.advance(0.1)
        self.assertEqual(len(self.woken), 10_000)
        self.assertEqual([now for _, now in self.woken], sorted(now for _, now in self.woken))
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))

    def test_asking_for_later_costs_nothing(self) -> None:
        due = self.owner("a")
        for second in range(10_000):
            self.deadlines.wake(due, 60.0 + second)
        self.assertEqual(len(self.deadlines._heap), 1)

    def test_owners_that_are_always_moved_later_take_one_entry_each(self) -> None:
        moved = dict.fromkeys(range(100), 60.0)

        def owner(number: int) -> Callable[[float], float]:
            return lambda now: moved[number] if moved[number] > now else math.inf

        owners = [owner(number) for number in range(100)]
        for second in range(600):
            for number, due in enumerate(owners):
                moved[number] = second + 60.0
                self.deadlines.wake(due, moved[number])
            self.advance_to(float(second))
            self.assertLessEqual(len(self.deadlines._heap), 100)

    def test_who_is_brought_forward_again_and_again_does_not_fill_the_memory(self) -> None:
        due = self.owner("a")
        for step in range(10_000):
            self.deadlines.wake(due, 86400.0 - step)
        self.assertLess(len(self.deadlines._heap), 1000)
        self.deadlines.stop()

    def test_who_is_forgotten_does_not_stay_in_memory_until_its_time(self) -> None:
        """Without an idle limit the next time of a stream is its token's, a day from now."""
        self.deadlines.wake(self.owner("who stays"), 86400.0)
        for _ in range(10_000):
            due = self.owner("a connection")
            self.deadlines.wake(due, 86400.0)
            self.deadlines.forget(due)
        self.assertEqual(len(self.deadlines), 1)
        self.assertLess(len(self.deadlines._heap), 1000)
        self.deadlines.stop()


class Properties(SynchronousTestCase):
    """Any order of calls."""

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["wake", "wake", "forget", "pass"]), st.integers(0, 9), st.floats(0, 20)
            ),
            max_size=60,
        )
    )
    def test_everyone_is_woken_at_the_earliest_time_it_asked_for(
        self, steps: list[tuple[str, int, float]]
    ) -> None:
        clock = Clock()
        deadlines = Deadlines(clock)
        wanted: dict[int, float] = {}
        early: list[int] = []

        def owner(number: int) -> Callable[[float], float]:
            def due(now: float) -> float:
                if wanted.pop(number, math.inf) > now:
                    early.append(number)
                return math.inf

            return due

        owners = [owner(number) for number in range(10)]
        for what, number, seconds in steps:
            if what == "wake":
                when = clock.seconds() + seconds
                wanted[number] = min(when, wanted.get(number, math.inf))
                deadlines.wake(owners[number], when)
            elif what == "forget":
                wanted.pop(number, None)
                deadlines.forget(owners[number])
            else:
                clock.pump([0.25] * int(seconds * 4))
            self.assertEqual(len(deadlines), len(wanted))
            self.assertLessEqual(len(clock.getDelayedCalls()), 1)
        clock.pump([0.25] * 100)
        self.assertEqual((early, wanted), ([], {}))


class RunningClock(Clock):
    """A clock that goes on while it is looked at, as the real one does."""

    def seconds(self) -> float:
        self.rightNow += 0.01
        return self.rightNow


class BetweenTwoLooks(SynchronousTestCase):
    """Time passes between the decision and the timer."""

    def test_a_deadline_that_passes_meanwhile_is_due_at_once(self) -> None:
        """Twisted refuses a negative delay, and what it raises would end the connection."""
        clock = RunningClock()
        deadlines = Deadlines(clock)
        woken: list[float] = []

        def due(now: float) -> float:
            woken.append(now)
            return float("inf")

        deadlines.wake(due, clock.seconds())
        clock.advance(0)
        self.assertEqual(len(woken), 1)


class AlwaysLate(SynchronousTestCase):
    """A machine without a second to spare needs its deadlines most."""

    def test_one_grace_for_each_stall(self) -> None:
        clock = Clock()
        deadlines = Deadlines(clock)
        woken: list[float] = []

        def due(now: float) -> float:
            woken.append(now)
            return now + 5.0

        deadlines.wake(due, 5.0)
        for _ in range(30):
            clock.advance(2.1)
        self.assertGreater(len(woken), 5)
