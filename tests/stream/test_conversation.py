"""What the model is reminded of."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.stream.conversation import CUT, Conversation

FEW = settings(max_examples=150, deadline=None)


def told(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in conversation.messages()]


def conversation(**bounds: Any) -> Conversation:
    return Conversation(**{"instructions": "", "max_turns": 20, "max_chars": 1000, **bounds})


class TurnTests(SynchronousTestCase):
    def test_question_and_answer(self) -> None:
        talk = conversation(instructions="Be brief.")
        self.assertFalse(talk.awaits_answer)
        talk.heard("Hello ")
        talk.heard(" are you there?")
        talk.heard("  ")
        self.assertTrue(talk.awaits_answer)
        talk.answering()
        self.assertTrue(talk.awaits_answer)
        talk.spoke("Yes.")
        talk.spoke("How can I help?")
        self.assertFalse(talk.awaits_answer)
        self.assertEqual(
            told(talk),
            [
                ("system", "Be brief."),
                ("user", "Hello are you there?"),
                ("assistant", "Yes. How can I help?"),
            ],
        )

    def test_an_answer_nobody_heard_is_none(self) -> None:
        talk = conversation()
        talk.heard("One")
        talk.answering()
        talk.interrupted()
        talk.heard("two")
        self.assertEqual(told(talk), [("user", "One two")])

    def test_cut_off(self) -> None:
        for said, kept in (("Sure.", "Sure…"), ("Is it?", "Is it…"), ("Sure", "Sure…"), ("Sure…", "Sure…")):
            talk = conversation()
            talk.heard("Hi")
            talk.answering()
            talk.spoke(said)
            talk.interrupted()
            talk.interrupted()
            talk.heard("Stop")
            self.assertEqual(told(talk), [("user", "Hi"), ("assistant", kept), ("user", "Stop")])
        self.assertEqual(CUT, "…")

    def test_what_is_heard_late_has_the_place_of_its_answer(self) -> None:
        talk = conversation()
        talk.heard("Hi")
        talk.answering()
        talk.spoke("One.")
        talk.heard("OK")
        talk.spoke("Two.")
        self.assertEqual(told(talk), [("user", "Hi"), ("assistant", "One. Two."), ("user", "OK")])
        self.assertTrue(talk.awaits_answer)

    def test_a_greeting_comes_first(self) -> None:
        talk = conversation()
        talk.spoke("Welcome.")
        talk.heard("Hi")
        self.assertEqual(told(talk), [("assistant", "Welcome."), ("user", "Hi")])


class BoundTests(SynchronousTestCase):
    def test_the_oldest_turns_go_and_the_instructions_stay(self) -> None:
        talk = conversation(instructions="i" * 500, max_turns=2, max_chars=100)
        for number in range(5):
            talk.heard(f"q{number}")
            talk.answering()
            talk.spoke(f"a{number}")
        self.assertEqual(told(talk), [("system", "i" * 500), ("user", "q4"), ("assistant", "a4")])

    def test_a_question_survives_the_answer_that_has_begun(self) -> None:
        talk = conversation(max_turns=1)
        talk.heard("q")
        talk.answering()
        self.assertEqual(told(talk), [("user", "q")])

    def test_characters(self) -> None:
        talk = conversation(max_chars=10)
        talk.heard("12345")
        talk.answering()
        talk.spoke("abcdef")
        self.assertEqual(told(talk), [("assistant", "abcdef")])
        talk.heard("x" * 15 + "end")
        self.assertEqual(told(talk), [("user", "xxxxxxxend")])

    @FEW
    @given(
        st.integers(1, 5),
        st.integers(10, 50),
        st.lists(st.tuples(st.sampled_from("hasi"), st.text("ab. ", max_size=20)), max_size=40),
    )
    def test_always(self, turns: int, chars: int, steps: list[tuple[str, str]]) -> None:
        talk = conversation(max_turns=turns, max_chars=chars)
        for step, text in steps:
            if step == "h":
                talk.heard(text)
            elif step == "a":
                talk.answering()
            elif step == "s":
                talk.spoke(text)
            else:
                talk.interrupted()
            messages = talk.messages()
            self.assertLessEqual(len(messages), turns)
            # A blank where turns of one side are joined, a mark where one was cut.
            self.assertLessEqual(sum(len(m["content"]) for m in messages), chars + 2 * turns)
            roles = [message["role"] for message in messages]
            self.assertTrue(all(one != other for one, other in itertools.pairwise(roles)))
            self.assertLessEqual(len(talk._turns), 2 * turns + 2)
