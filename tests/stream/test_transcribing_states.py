from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.stream.states import ImpossibleStep
from voiceingest.stream.transcribing_states import TRANSITIONS, Hearing, Turn, next_hearing


class TransitionTests(SynchronousTestCase):
    def test_every_pair_is_in_the_table_or_raises(self) -> None:
        for state in Hearing:
            for turn in Turn:
                if (expected := TRANSITIONS.get((state, turn))) is not None:
                    self.assertIs(next_hearing(state, turn), expected)
                else:
                    self.assertRaises(ImpossibleStep, next_hearing, state, turn)

    def test_every_state_is_reached_and_can_end(self) -> None:
        reached = {Hearing.IDLE, *TRANSITIONS.values()}
        self.assertEqual(reached, set(Hearing))
        self.assertTrue(all(TRANSITIONS[state, Turn.END] is Hearing.OVER for state in Hearing))

    def test_a_refusal_is_for_good(self) -> None:
        leaving = {turn for state, turn in TRANSITIONS if state is Hearing.REFUSED}
        self.assertEqual(leaving, {Turn.END})
