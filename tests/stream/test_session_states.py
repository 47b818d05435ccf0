"""The table of a session's states: every pair there is, and what is not in it."""

from __future__ import annotations

from typing import Final

from tests.support.case import SynchronousTestCase
from voiceingest.errors import IllegalMove
from voiceingest.stream import SessionState, SessionStep, next_session_state
from voiceingest.stream.session_states import session_mermaid

# The table once more, as the contract tells it: pending -> active -> completed | error | expired.
ALLOWED: Final = {
    ("pending", "start"): "active",
    ("pending", "end"): "completed",
    ("pending", "fail"): "error",
    ("pending", "expire"): "expired",
    ("pending", "edit"): "pending",
    ("active", "end"): "completed",
    ("active", "fail"): "error",
    ("active", "expire"): "expired",
    ("active", "edit"): "active",
}


class SessionStateTests(SynchronousTestCase):
    def test_every_pair(self) -> None:
        for state in SessionState:
            for step in SessionStep:
                led_to = ALLOWED.get((state.value, step.value))
                if led_to is None:
                    with self.assertRaises(IllegalMove):
                        next_session_state(state, step)
                else:
                    self.assertEqual(next_session_state(state, step).value, led_to)

    def test_what_is_over_stays_over(self) -> None:
        self.assertEqual([state.value for state in SessionState if state.is_open], ["pending", "active"])
        for state in SessionState:
            reachable = any((state, step) in ALLOWED_STATES for step in SessionStep)
            self.assertEqual(state.is_open, reachable)

    def test_the_drawing_has_every_move_and_nothing_else(self) -> None:
        first, *arrows = session_mermaid().splitlines()
        moves = [f"    {before} --> {after}: {step}" for (before, step), after in ALLOWED.items()]
        ends = [f"    {state} --> [*]" for state in ("completed", "error", "expired")]
        self.assertEqual((first, arrows), ("stateDiagram-v2", ["    [*] --> pending", *moves, *ends]))


ALLOWED_STATES: Final = {(SessionState(state), SessionStep(step)) for state, step in ALLOWED}
