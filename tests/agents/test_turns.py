"""When a caller has finished."""

from __future__ import annotations

from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.agents import turns
from voiceingest.agents.turns import Turns
from voiceingest.call_interfaces import Transcript

PATIENCE_S = 3.0


class TurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[str] = []
        self.turns = Turns(self.clock, PATIENCE_S, lambda: self.told.append("…"), self.told.append)

    def hear(self, text: str, *, final: bool = True, ends: bool = False) -> None:
        self.turns.transcript(Transcript(text, 0, 100, final, ends))

    def test_finals_are_gathered_until_the_turn_ends(self) -> None:
        self.hear("I", final=False)
        self.hear("I want")
        self.hear(" tea ", ends=True)
        self.assertEqual(self.told, ["…", "…", "…", "I want tea"])
        self.clock.advance(100)
        self.assertEqual(len(self.told), 4)

    def test_the_end_may_come_by_itself_and_twice(self) -> None:
        self.hear("", ends=True)
        self.hear("Tea")
        self.hear("", ends=True)
        self.hear("", ends=True)
        self.assertEqual(self.told, ["…", "Tea"])

    def test_no_end_is_heard(self) -> None:
        self.hear("Tea")
        self.clock.advance(PATIENCE_S - 1)
        self.hear("and", final=False)
        self.clock.advance(PATIENCE_S - 1)
        self.assertEqual(self.told, ["…", "…"])
        self.clock.advance(1)
        self.assertEqual(self.told, ["…", "…", "Tea"])

    def test_words_that_are_taken_back(self) -> None:
        self.hear("uh", final=False)
        self.hear("", ends=True)
        self.assertEqual(self.told, ["…", ""])
        self.hear("uh", final=False)
        self.clock.advance(PATIENCE_S)
        self.assertEqual(self.told, ["…", "", "…", ""])

    def test_expected_and_nothing_comes(self) -> None:
        self.turns.expect()
        self.clock.advance(PATIENCE_S)
        self.turns.expect()
        self.hear("", ends=True)
        self.clock.advance(PATIENCE_S)
        self.assertEqual(self.told, ["", ""])

    def test_keys(self) -> None:
        for digit in "12":
            self.turns.digit(digit)
            self.clock.advance(turns.KEYS_PAUSE_S - 0.1)
        self.assertEqual(self.told, ["…", "…"])
        self.clock.advance(0.1)
        self.assertEqual(self.told.pop(), "[pressed 12]")
        self.turns.digit("5")
        self.turns.digit("#")
        self.assertEqual(self.told.pop(), "[pressed 5#]")
        for _ in range(turns.KEYS_MAX_COUNT):
            self.turns.digit("7")
        self.assertEqual(self.told.pop(), f"[pressed {'7' * turns.KEYS_MAX_COUNT}]")

    def test_words_and_keys_in_their_order(self) -> None:
        self.hear("My number is")
        self.turns.digit("1")
        self.hear("and")
        self.turns.digit("2")
        self.hear("that", ends=True)
        self.assertEqual(self.told[-1], "My number is [pressed 1] and [pressed 2] that")

    def test_a_caller_without_end_is_answered(self) -> None:
        self.patch(turns, "TURN_MAX_CHARS", 10)
        self.hear("x" * 10)
        self.assertEqual(self.told, ["…"])
        self.hear("y")
        self.assertEqual(self.told, ["…", "…", "x" * 10 + " y"])

    def test_ten_minutes_are_a_turn(self) -> None:
        """The patch above does not say how long one may be."""
        self.hear("word " * 1600)
        self.assertEqual(self.told, ["…"])
        self.hear("and on")
        self.assertEqual(len(self.told), 3)

    def test_stopped(self) -> None:
        self.hear("Tea")
        self.turns.stop()
        self.clock.advance(100)
        self.assertEqual(self.told, ["…"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
