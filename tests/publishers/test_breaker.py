from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.publishers.breaker import TRANSITIONS, Breaker, BreakerState, BreakerStep


class BreakerTests(SynchronousTestCase):
    def test_every_step_of_the_table(self) -> None:
        for (before, step), after in TRANSITIONS.items():
            breaker = Breaker()
            breaker.state = before
            breaker.step(step)
            self.assertIs(breaker.state, after)
            opened = after is BreakerState.OPEN and before is not BreakerState.OPEN
            self.assertEqual(breaker.opens, int(opened))

    def test_what_a_bus_cannot_do_is_in_no_table(self) -> None:
        for state, step in (
            (BreakerState.OPEN, BreakerStep.ANSWERED),
            (BreakerState.CLOSED, BreakerStep.UP),
            (BreakerState.HALF_OPEN, BreakerStep.UP),
        ):
            breaker = Breaker()
            breaker.state = state
            self.assertRaises(KeyError, breaker.step, step)

    @given(st.lists(st.sampled_from(BreakerStep)))
    def test_it_is_closed_only_after_an_answer_on_this_connection(self, steps: list[BreakerStep]) -> None:
        breaker, answered = Breaker(), False
        for step in steps:
            if (breaker.state, step) not in TRANSITIONS:
                continue
            breaker.step(step)
            answered = step is BreakerStep.ANSWERED or (answered and step is not BreakerStep.DOWN)
            self.assertEqual(breaker.state is BreakerState.CLOSED, answered)
