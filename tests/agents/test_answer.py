"""One answer: what is spoken when, and what was heard of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.support.agents import FakeCall
from tests.support.case import SynchronousTestCase
from voiceingest.agents.answer import (
    QUEUED_MAX_MS,
    TRANSITIONS,
    Answer,
    AnswerState,
    AnswerStep,
)
from voiceingest.errors import UpstreamFailed


class FakeVoice:
    """Speaks when the test says so; ``speaking`` holds what is being spoken."""

    def __init__(self) -> None:
        self.spoken: list[str] = []
        self.cancelled: list[str] = []
        self.take: Callable[[bytes], None]
        self.over: Deferred[None]

    def speak(self, sentence: str, take: Callable[[bytes], None]) -> Deferred[None]:
        self.spoken.append(sentence)
        self.take = take
        self.over = Deferred(lambda _: self.cancelled.append(sentence))
        return self.over

    def sound(self) -> None:
        self.take(self.spoken[-1].encode("utf-16-le"))

    def finish(self) -> None:
        self.sound()
        self.over.callback(None)


class AnswerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.call = FakeCall()
        self.voice = FakeVoice()
        self.told: list[str] = []
        names = (f"s{number}" for number in itertools.count(1))
        self.answer = Answer(self.call, self.voice, self, names.__next__)  # type: ignore[arg-type]

    def sentence_heard(self, text: str, *, whole: bool) -> None:
        self.told.append(text if whole else f"{text} (part)")

    def voice_failed(self, failure: Failure) -> None:
        failure.trap(UpstreamFailed)
        self.told.append("failed")

    def answer_over(self) -> None:
        self.told.append("over")


class SpeakingTests(AnswerCase):
    def test_one_after_the_other_and_the_audio_as_it_comes(self) -> None:
        self.answer.say("One.")
        self.answer.say("Two.")
        self.assertEqual((self.voice.spoken, self.answer.state), (["One."], AnswerState.SILENT))
        self.voice.sound()
        self.assertEqual(self.answer.state, AnswerState.SOUNDING)
        self.assertEqual(self.call.words(), ["say One."])
        self.voice.over.callback(None)
        self.assertEqual(self.voice.spoken, ["One.", "Two."])
        self.voice.finish()
        self.assertEqual(self.call.words(), ["say One.", "mark s1", "say Two.", "mark s2"])

    def test_two_are_ahead_and_no_more(self) -> None:
        for text in ("1.", "2.", "3.", "4."):
            self.answer.say(text)
        self.voice.finish()
        self.voice.finish()
        self.assertEqual(self.voice.spoken, ["1.", "2."])
        self.answer.played("s1")
        self.assertEqual(self.voice.spoken, ["1.", "2.", "3."])
        self.voice.finish()
        self.answer.played("s2")
        self.assertEqual(self.voice.spoken, ["1.", "2.", "3.", "4."])
        self.assertEqual(self.told, ["1.", "2."])

    def test_none_is_begun_while_much_waits_to_be_heard(self) -> None:
        self.answer.say("1.")
        self.answer.say("2.")
        self.call.queued_ms = QUEUED_MAX_MS + 1
        self.voice.finish()
        self.assertEqual(self.voice.spoken, ["1."])
        self.call.queued_ms = QUEUED_MAX_MS
        self.answer.played("s1")
        self.assertEqual(self.voice.spoken, ["1.", "2."])

    def test_a_queue_nothing_waits_for_holds_nothing_up(self) -> None:
        self.call.queued_ms = QUEUED_MAX_MS + 1
        self.answer.say("1.")
        self.assertEqual(self.voice.spoken, ["1."])

    def test_over_when_all_is_heard(self) -> None:
        self.answer.say("1.")
        self.answer.finish()
        self.voice.finish()
        self.assertEqual(self.told, [])
        self.answer.played("s1")
        self.assertEqual((self.told, self.answer.state), (["1.", "over"], AnswerState.OVER))
        self.answer.say("2.")
        self.answer.finish()
        self.answer.played("s1")
        self.assertEqual((self.told, self.voice.spoken), (["1.", "over"], ["1."]))

    def test_over_when_there_was_nothing_to_say(self) -> None:
        self.answer.finish()
        self.assertEqual(self.told, ["over"])

    def test_a_mark_stands_for_those_before_it_and_a_strange_one_for_none(self) -> None:
        self.answer.say("1.")
        self.answer.say("2.")
        self.voice.finish()
        self.voice.finish()
        self.answer.played("s9")
        self.assertEqual(self.told, [])
        self.answer.played("s2")
        self.assertEqual(self.told, ["1.", "2."])


class CutTests(AnswerCase):
    def test_before_a_sound(self) -> None:
        self.answer.say("1.")
        self.answer.say("2.")
        take = self.voice.take
        self.assertEqual(self.answer.cut(), "")
        self.assertEqual((self.voice.cancelled, self.answer.state), (["1."], AnswerState.OVER))
        take(b"ab")
        self.assertEqual((self.call.told, self.told, self.voice.spoken), ([], [], ["1."]))
        self.assertEqual(self.answer.cut(), "")

    def test_in_the_middle_of_a_sentence(self) -> None:
        self.answer.say("1.")
        self.voice.sound()
        self.assertEqual(self.answer.cut(), "1.")
        self.assertEqual((self.voice.cancelled, self.told), (["1."], []))

    def test_a_sentence_that_was_made_ahead_was_not_heard(self) -> None:
        for text in ("1.", "2.", "3."):
            self.answer.say(text)
        self.voice.finish()
        self.voice.sound()
        self.assertEqual(self.answer.cut(), "1.")
        self.assertEqual(self.voice.cancelled, ["2."])
        self.answer.played("s1")
        self.assertEqual(self.told, [])

    def test_after_the_first_was_heard(self) -> None:
        self.answer.say("1.")
        self.answer.say("2.")
        self.voice.finish()
        self.voice.finish()
        self.answer.played("s1")
        self.assertEqual(self.answer.cut(), "2.")
        self.assertEqual(self.told, ["1."])

    def test_between_two_sentences(self) -> None:
        self.answer.say("1.")
        self.voice.finish()
        self.answer.played("s1")
        self.answer.say("2.")
        self.assertEqual(self.answer.cut(), "")

    def test_while_the_next_is_being_written(self) -> None:
        self.answer.say("1.")
        self.voice.finish()
        self.answer.played("s1")
        self.assertEqual(self.answer.cut(), "")


class FailureTests(AnswerCase):
    def test_the_rest_is_dropped_and_what_is_there_is_heard(self) -> None:
        for text in ("1.", "2.", "3."):
            self.answer.say(text)
        self.voice.finish()
        self.voice.over.errback(UpstreamFailed())
        self.assertEqual((self.told, self.voice.spoken), (["failed"], ["1.", "2."]))
        self.answer.say("4.")
        self.answer.played("s1")
        self.assertEqual((self.told, self.voice.spoken), (["failed", "1.", "over"], ["1.", "2."]))

    def test_cut_off_in_the_middle(self) -> None:
        self.answer.say("1.")
        self.voice.sound()
        self.voice.over.errback(UpstreamFailed())
        self.assertEqual(self.call.words(), ["say 1.", "mark s1"])
        self.answer.played("s1")
        self.assertEqual(self.told, ["failed", "1. (part)", "over"])

    def test_at_once(self) -> None:
        self.answer.say("1.")
        self.voice.over.errback(UpstreamFailed())
        self.assertEqual((self.told, self.answer.state), (["failed", "over"], AnswerState.OVER))

    def test_a_cancelled_voice_is_no_failure(self) -> None:
        self.answer.say("1.")
        self.answer.cut()
        self.assertTrue(self.voice.over.called)
        self.assertEqual(self.told, [])


class TableTests(SynchronousTestCase):
    def test_nothing_follows_the_end(self) -> None:
        for state in AnswerState:
            for step in AnswerStep:
                self.assertEqual((state, step) in TRANSITIONS, state is not AnswerState.OVER)
