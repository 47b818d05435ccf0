"""When somebody has finished speaking."""

from __future__ import annotations

from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.stream.turns import Heard, Turns
from voiceingest.wire.deepgram import Results


def told(text: str = "", **changes: Any) -> Results:
    """A final result without an end of a turn, unless ``changes`` say so."""
    fields = {"is_final": True, "speech_final": False, "from_finalize": False, "confidence": 0.5}
    return Results(text, 0.0, 1.0, **{**fields, **changes})


class TurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.turns = Turns()

    def hear(self, text: str = "", start: int = 0, end: int = 10, **changes: Any) -> Heard | None:
        return self.turns.heard(told(text, **changes), text, start, end)

    def test_speech_final_ends_a_turn(self) -> None:
        heard = self.hear("a", speech_final=True)
        self.assertEqual(heard, Heard("a", 0, 10, True, True, 0.5))
        self.assertIsNone(self.turns.utterance_ended(10), "it has been said")

    def test_the_end_of_an_utterance_ends_it_otherwise(self) -> None:
        heard = self.hear("a")
        self.assertFalse(heard is None or heard.ends_turn)
        self.assertEqual(self.turns.utterance_ended(10), Heard("", 10, 10, True, True, 0.0))
        self.assertIsNone(self.turns.utterance_ended(10))

    def test_an_interim_result_ends_nothing(self) -> None:
        heard = self.hear("a", is_final=False, speech_final=True)
        self.assertFalse(heard is None or heard.ends_turn)

    def test_silence_says_nothing(self) -> None:
        self.assertIsNone(self.hear(""))
        self.assertIsNone(self.hear("", speech_final=True))
        self.assertIsNone(self.turns.utterance_ended(10))

    def test_silence_can_be_the_end(self) -> None:
        self.hear("a")
        heard = self.hear("", 10, 20, speech_final=True)
        self.assertEqual(heard, Heard("", 10, 20, True, True, 0.5))

    def test_finalize_is_sent_in_a_silence(self) -> None:
        heard = self.hear("a", from_finalize=True)
        self.assertTrue(heard is not None and heard.ends_turn)

    def test_after_a_lost_connection_silence_is_the_end(self) -> None:
        self.hear("a")
        self.turns.lost()
        heard = self.hear("", 10, 20)
        self.assertTrue(heard is not None and heard.ends_turn)
        self.assertIsNone(self.hear("", 20, 30))

    def test_after_a_lost_connection_the_turn_may_go_on(self) -> None:
        self.hear("a")
        self.turns.lost()
        heard = self.hear("b", 10, 20)
        self.assertFalse(heard is None or heard.ends_turn)
        self.assertIsNone(self.hear("", 20, 30), "silence within a turn is not its end")

    def test_nothing_begins_before_what_was_said(self) -> None:
        self.hear("a", 5, 10, is_final=False)
        self.assertEqual(self.hear("b", 0, 4), Heard("b", 5, 5, True, False, 0.5))
