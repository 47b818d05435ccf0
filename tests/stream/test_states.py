"""The table of states: complete, sound, and drawn as it is."""

from __future__ import annotations

import re
from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from voiceingest.errors import PeerError
from voiceingest.stream.states import REFUSALS, TRANSITIONS, ImpossibleStep, State, Step, mermaid, next_state

PEER_STEPS = (Step.START, Step.FRAME, Step.STOP, Step.AUTH)


def reachable(start: State) -> set[State]:
    """Every state that can be got to from ``start``, itself included."""
    found, todo = {start}, [start]
    while todo:
        state = todo.pop()
        for (before, _), after in TRANSITIONS.items():
            if before is state and after not in found:
                found.add(after)
                todo.append(after)
    return found


class EveryPair(SynchronousTestCase):
    """The product of all states and all steps."""

    def test_a_pair_is_a_transition_a_refusal_or_impossible(self) -> None:
        for pair in product(State, Step):
            if pair in TRANSITIONS:
                self.assertIs(next_state(*pair), TRANSITIONS[pair], pair)
            elif pair in REFUSALS:
                refusal = self.assertRaises(REFUSALS[pair], next_state, *pair)
                self.assertIs(type(refusal), REFUSALS[pair], pair)
            else:
                self.assertRaises(ImpossibleStep, next_state, *pair)

    def test_no_pair_is_in_both_tables(self) -> None:
        self.assertEqual(TRANSITIONS.keys() & REFUSALS.keys(), set())

    def test_whatever_the_peer_says_and_whenever_it_is_foreseen(self) -> None:
        foreseen = TRANSITIONS.keys() | REFUSALS.keys()
        self.assertEqual(set(product(State, PEER_STEPS)) - foreseen, set())

    def test_only_the_peer_is_refused_and_no_refusal_closes(self) -> None:
        for (_, step), error in REFUSALS.items():
            self.assertIn(step, PEER_STEPS)
            self.assertTrue(issubclass(error, PeerError))
            self.assertFalse(error.closes, error.code)

    def test_an_impossible_step_is_our_bug_and_not_the_peers_error(self) -> None:
        self.assertFalse(issubclass(ImpossibleStep, PeerError))
        error = self.assertRaises(ImpossibleStep, next_state, State.LIVE, Step.FLUSHED)
        self.assertIn("FLUSHED", str(error))


class Shape(SynchronousTestCase):
    """The table as a graph."""

    def test_every_state_is_reached_and_can_end(self) -> None:
        self.assertEqual(reachable(State.WAITING), set(State))
        for state in State:
            self.assertIn(State.ENDED, reachable(state), state)

    def test_the_end_is_final(self) -> None:
        self.assertEqual(reachable(State.ENDED), {State.ENDED})

    def test_the_peer_may_go_at_any_time(self) -> None:
        for state in State:
            self.assertIs(next_state(state, Step.GONE), State.ENDED)

    def test_every_state_but_the_end_can_be_cut(self) -> None:
        for state in set(State) - {State.ENDED}:
            self.assertIs(next_state(state, Step.CUT), State.ENDED)


class Drawing(SynchronousTestCase):
    """What the documentation shows."""

    def test_it_has_every_transition_and_nothing_else(self) -> None:
        lines = mermaid().splitlines()
        self.assertEqual(lines[0], "stateDiagram-v2")
        arrows = [re.fullmatch(r"    (\S+) --> ([^:\s]+)(?:: (\S+))?", line) for line in lines[1:]]
        self.assertNotIn(None, arrows)
        drawn = [found.groups() for found in arrows if found is not None]
        table = [
            (before.value, after.value, step.value)
            for (before, step), after in TRANSITIONS.items()
            if before is not State.ENDED
        ]
        self.assertEqual(drawn, [("[*]", "waiting", None), *table, ("ended", "[*]", None)])

    def test_it_ends_with_a_line_break(self) -> None:
        self.assertTrue(mermaid().endswith("]\n"))
