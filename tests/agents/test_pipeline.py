"""Whole conversations in plain calls: every service waits until the test lets it go on."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock

from tests.support.agents import FakeAsked, FakeCall, FakeHttp, agent_context
from tests.support.case import SynchronousTestCase
from voiceingest.agents.pipeline import Pipeline, problems
from voiceingest.call_interfaces import Transcript
from voiceingest.config import Settings

CHAT, SPEAK = "/chat/completions", "/speak"
PATIENCE_S = 3.0


class PipelineCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.http = FakeHttp()
        self.call = FakeCall()

    def begin(self, **settings: Any) -> None:
        self.context = agent_context(self.http, self.clock, **{"llm_instructions": "Be brief.", **settings})
        self.agent = Pipeline(self.context)
        self.agent.begin(self.call)

    # --- the caller

    def hear(self, text: str, *, final: bool = True, ends: bool = True) -> None:
        self.agent.transcript(Transcript(text, 0, 100, final, ends))

    # --- the services

    def model(self) -> FakeAsked:
        """The one request to the model that is open."""
        (asked,) = self.http.open(CHAT)
        return asked

    def voice(self) -> FakeAsked:
        """The one request to the voice that is open."""
        (asked,) = self.http.open(SPEAK)
        return asked

    def write(self, text: str) -> None:
        """The model writes."""
        asked = self.model()
        if asked.body_over is None:
            asked.answer()
        asked.write(b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n")

    def finish_writing(self) -> None:
        asked = self.model()
        asked.write(b"data: [DONE]\n\n")
        asked.end()

    def sentence(self) -> str:
        """What the voice is to speak."""
        return str(json.loads(self.voice().body)["text"])

    def sound(self) -> None:
        """The voice speaks, and has not finished."""
        asked, text = self.voice(), self.sentence()
        if asked.body_over is None:
            asked.answer()
        asked.write(text.encode("utf-16-le"))

    def speak(self) -> None:
        """The voice speaks a whole sentence."""
        asked = self.voice()
        self.sound()
        asked.end()

    # --- what is there to see

    def messages(self) -> list[tuple[str, str]]:
        """What the model was told last, without the instructions."""
        body = json.loads([asked for asked in self.http.asked if CHAT in asked.url][-1].body)
        first, *rest = body["messages"]
        self.assertEqual(first, {"role": "system", "content": "Be brief."})
        return [(message["role"], message["content"]) for message in rest]

    def counted(self, family: str) -> dict[str, int]:
        return dict(getattr(self.context.metrics, family))

    def errors(self) -> list[tuple[str, str]]:
        return [(f["source"], f["code"]) for event, f in self.call.events if event == "error"]

    def said(self) -> list[str]:
        return [
            fields["text"] if fields["whole"] else f"{fields['text']} (part)"
            for event, fields in self.call.events
            if event == "agent_said"
        ]

    def assert_quiet(self) -> None:
        """Nobody is asked for anything, and nothing is to happen by itself."""
        self.assertEqual(self.http.open(""), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TalkTests(PipelineCase):
    def test_the_first_audio_leaves_before_the_last_word_is_written(self) -> None:
        self.begin()
        self.hear("Hello,", ends=False)
        self.assertEqual(self.http.asked, [])
        self.hear("who is there?")
        self.assertEqual(self.messages(), [("user", "Hello, who is there?")])
        self.write("It is")
        self.write(" me. What")
        self.assertEqual(self.sentence(), "It is me.")
        self.sound()
        self.assertEqual(self.call.words(), ["say It is me."])
        self.assertTrue(self.model().is_open)
        self.voice().end()
        self.write(" is it?")
        self.finish_writing()
        self.speak()
        self.assertEqual(self.call.words(), ["say It is me.", "mark s1", "say What is it?", "mark s2"])
        self.assertEqual(self.said(), [])
        self.agent.played("s1")
        self.assertEqual(self.said(), ["It is me."])
        self.agent.played("s2")
        self.assertEqual(self.said(), ["It is me.", "What is it?"])
        self.assert_quiet()
        self.hear("Nothing.")
        self.assertEqual(self.messages()[1:], [("assistant", "It is me. What is it?"), ("user", "Nothing.")])
        self.assertEqual(self.counted("llm_requests"), {"ok": 1})
        self.assertEqual(self.counted("speak_requests"), {"ok": 2})

    def test_the_voice_is_asked_at_the_rate_of_the_call(self) -> None:
        for rate in (8000, 16000, 24000):
            self.call = FakeCall(rate)
            self.begin(llm_greeting="Welcome.")
            self.assertIn(f"sample_rate={rate}&", self.voice().url)
            self.agent.end("stopped")

    def test_a_greeting(self) -> None:
        self.begin(llm_greeting="Welcome. How can I help?")
        self.speak()
        self.speak()
        self.agent.played("s1")
        self.agent.played("s2")
        self.assert_quiet()
        self.hear("Hi")
        self.assertEqual(self.messages(), [("assistant", "Welcome. How can I help?"), ("user", "Hi")])

    def test_no_greeting(self) -> None:
        self.begin()
        self.assert_quiet()

    def test_keys_are_told_when_the_number_is_whole(self) -> None:
        self.begin()
        self.agent.dtmf("1")
        self.agent.dtmf("2")
        self.clock.advance(2)
        self.assertEqual(self.messages(), [("user", "[pressed 12]")])

    def test_an_end_of_turn_without_words_asks_nothing(self) -> None:
        self.begin()
        self.hear("")
        self.hear("uh", final=False, ends=False)
        self.hear("")
        self.assert_quiet()

    def test_a_repeated_end_of_turn_does_not_ask_again(self) -> None:
        self.begin()
        self.hear("Hi")
        self.hear("")
        self.assertEqual(len(self.http.asked), 1)
        self.assertTrue(self.model().is_open)

    def test_an_answer_with_nothing_to_speak(self) -> None:
        self.begin()
        self.hear("Hi")
        self.write("👍")
        self.finish_writing()
        self.assert_quiet()
        self.hear("Hello?")
        self.assertEqual(self.messages(), [("user", "Hi Hello?")])


class SpokenOnTests(PipelineCase):
    """The caller says more before the answer has begun to sound."""

    def spoken_on(self) -> None:
        self.hear("and cake", final=False, ends=False)
        self.assertEqual(self.http.open(""), [])
        self.hear("and cake")
        self.assertEqual(self.messages(), [("user", "Tea and cake")])
        self.write("Tea and cake. ")
        self.speak()
        self.assertEqual(self.call.words(), ["say Tea and cake.", "mark s1"])
        self.assertEqual(self.errors(), [])

    def setUp(self) -> None:
        super().setUp()
        self.begin()
        self.hear("Tea")

    def test_before_the_model_has_answered(self) -> None:
        self.spoken_on()
        self.assertTrue(self.http.asked[0].is_cancelled)
        self.assertEqual(self.counted("llm_requests"), {"cancelled": 1})

    def test_while_the_model_writes(self) -> None:
        self.write("Just")
        self.spoken_on()

    def test_before_the_voice_has_answered(self) -> None:
        self.write("Just tea. ")
        self.spoken_on()
        self.assertEqual(self.counted("speak_requests"), {"cancelled": 1, "ok": 1})

    def test_when_all_is_written_and_nothing_sounds(self) -> None:
        self.write("Just tea.")
        self.finish_writing()
        self.spoken_on()

    def test_words_that_are_taken_back(self) -> None:
        for end in (lambda: self.hear(""), lambda: self.clock.advance(PATIENCE_S)):
            self.hear("uh", final=False, ends=False)
            self.assertEqual(self.http.open(""), [])
            end()
            self.assertEqual(self.messages(), [("user", "Tea")])
            self.assertTrue(self.model().is_open)

    def test_a_greeting_is_not_dropped_for_a_noise_but_for_a_turn(self) -> None:
        self.agent.end("stopped")
        self.begin(llm_greeting="Welcome.")
        self.hear("uh", final=False, ends=False)
        self.assertEqual(self.sentence(), "Welcome.")
        self.hear("Hi")
        self.assertEqual(self.http.open(SPEAK), [])
        self.assertEqual(self.messages(), [("user", "Hi")])
        self.assertNotIn("clear", self.call.words())


class InterruptedTests(PipelineCase):
    def setUp(self) -> None:
        super().setUp()
        self.begin()
        self.hear("Tell me")

    def test_in_the_first_sentence(self) -> None:
        self.write("Once upon a time. There")
        self.sound()
        self.agent.interrupted()
        self.assert_quiet()
        self.assertEqual(self.said(), ["Once upon a time. (part)"])
        self.hear("Stop")
        self.assertEqual(
            self.messages(), [("user", "Tell me"), ("assistant", "Once upon a time…"), ("user", "Stop")]
        )
        self.assertEqual(self.counted("llm_requests"), {"cancelled": 1})
        self.assertEqual(self.counted("speak_requests"), {"cancelled": 1})

    def test_only_what_was_heard_is_remembered(self) -> None:
        self.write("One. Two. Three. Four.")
        self.finish_writing()
        self.speak()
        self.speak()
        self.agent.played("s1")
        self.sound()
        self.agent.interrupted()
        self.agent.played("s2")
        self.assert_quiet()
        self.assertEqual(self.said(), ["One.", "Two. (part)"])
        self.hear("Stop")
        self.assertEqual(self.messages()[1:], [("assistant", "One. Two…"), ("user", "Stop")])

    def test_when_nothing_sounds_and_nothing_is_said(self) -> None:
        self.agent.interrupted()
        self.assertEqual(self.http.open(""), [])
        self.clock.advance(PATIENCE_S)
        self.assertEqual(self.messages(), [("user", "Tell me")])
        self.assertTrue(self.model().is_open)

    def test_after_the_answer(self) -> None:
        self.write("One.")
        self.finish_writing()
        self.speak()
        self.agent.played("s1")
        self.agent.interrupted()
        self.assert_quiet()
        self.hear("Two?")
        self.assertEqual(self.messages()[1:], [("assistant", "One."), ("user", "Two?")])

    def test_a_turn_nobody_took_for_an_interruption(self) -> None:
        self.write("One. Two. ")
        self.speak()
        self.hear("stop please")
        self.assertEqual(self.call.words(), ["say One.", "mark s1", "clear"])
        self.assertEqual(
            self.messages(), [("user", "Tell me"), ("assistant", "One…"), ("user", "stop please")]
        )
        self.assertEqual(self.http.open(SPEAK), [])

    def test_a_turn_waits_where_the_caller_may_not_interrupt(self) -> None:
        self.agent.end("stopped")
        self.begin(voicebot_barge_in=False)
        self.hear("Tell me")
        self.write("One.")
        self.finish_writing()
        self.speak()
        self.hear("and more")
        self.hear("please")
        self.assertEqual(self.http.open(""), [])
        self.agent.played("s1")
        self.assertEqual(
            self.messages(), [("user", "Tell me"), ("assistant", "One."), ("user", "and more please")]
        )
        self.assertNotIn("clear", self.call.words())
        # Asked once: a failure is not asked again by itself.
        self.model().fail()
        self.assert_quiet()


class FailureTests(PipelineCase):
    def setUp(self) -> None:
        super().setUp()
        self.begin()
        self.hear("Hi")

    def assert_goes_on(self, source: str, code: str) -> None:
        """The failure is told once, and the next turn is answered."""
        self.assertEqual(self.errors(), [(source, code)])
        self.assertEqual(self.counted("agent_failures"), {f"{source}_{code}": 1})
        self.assert_quiet()
        self.hear("Hello?")
        self.assertEqual(self.messages()[-1][1].split()[-1], "Hello?")
        self.write("Yes. ")
        self.speak()
        self.assertEqual(self.call.words()[-2][-4:], "Yes.")

    def test_the_model(self) -> None:
        self.model().fail()
        self.assertEqual(self.call.told, [])
        self.assert_goes_on("llm", "upstream_failed")
        self.assertEqual(self.messages(), [("user", "Hi Hello?")])

    def test_the_model_refuses(self) -> None:
        for status, code in ((401, "upstream_refused"), (429, "upstream_busy"), (500, "upstream_failed")):
            self.call.events.clear()
            self.context.metrics.agent_failures.clear()
            asked = self.model()
            asked.answer(status)
            asked.end()
            self.assertEqual(self.errors(), [("llm", code)])
            self.hear("Again")

    def test_garbage_of_the_model(self) -> None:
        asked = self.model()
        asked.answer()
        asked.write(b"data: <html>\n\n")
        self.assert_goes_on("llm", "bad_json")

    def test_a_cut_answer_is_spoken_as_far_as_its_sentences_are_whole(self) -> None:
        self.write("One. Tw")
        self.model().end()
        self.speak()
        self.agent.played("s1")
        self.assertEqual(self.said(), ["One."])
        self.assert_goes_on("llm", "upstream_failed")
        self.assertEqual(self.messages()[1], ("assistant", "One."))
        self.assertNotIn("clear", self.call.words())

    def test_the_voice(self) -> None:
        self.write("One. Two")
        self.voice().fail()
        self.assert_goes_on("voice", "upstream_failed")
        self.assertEqual(self.counted("llm_requests"), {"cancelled": 1})

    def test_the_voice_in_the_middle_of_an_answer(self) -> None:
        self.write("One. Two. Three. ")
        self.speak()
        self.sound()
        self.voice().fail()
        self.agent.played("s1")
        self.agent.played("s2")
        self.assertEqual(self.said(), ["One.", "Two. (part)"])
        self.assert_goes_on("voice", "upstream_failed")

    def test_the_voice_refuses(self) -> None:
        self.write("One. ")
        asked = self.voice()
        asked.answer(402)
        asked.end()
        self.assert_goes_on("voice", "upstream_refused")

    def test_a_bug_is_logged_and_the_call_goes_on(self) -> None:
        self.model().head.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assert_goes_on("llm", "internal")


class EndTests(PipelineCase):
    def test_at_every_point(self) -> None:
        steps = (
            lambda: self.hear("Hi", ends=False),
            lambda: self.hear(""),
            lambda: self.write("One. Two. Three. Four"),
            self.sound,
            lambda: self.voice().end(),
            self.speak,
            self.finish_writing,
            lambda: self.agent.played("s1"),
            lambda: self.agent.dtmf("1"),
        )
        for count in range(len(steps) + 1):
            self.setUp()
            self.begin()
            for step in steps[:count]:
                step()
            told, events = list(self.call.told), list(self.call.events)
            self.agent.end("stopped")
            self.assert_quiet()
            self.assertEqual((self.call.told, self.call.events), (told, events), count)

    def test_before_anything_in_a_greeting(self) -> None:
        self.begin(llm_greeting="Welcome.")
        self.agent.end("disconnected")
        self.assert_quiet()

    def test_after_the_model_said_done_and_did_not_hang_up(self) -> None:
        self.begin()
        self.hear("Hi")
        self.write("One.")
        self.model().write(b"data: [DONE]\n\n")
        self.speak()
        self.agent.played("s1")
        self.assertEqual(len(self.http.open(CHAT)), 1)
        self.agent.end("stopped")
        self.assert_quiet()


class ProblemsTests(SynchronousTestCase):
    def test_each_in_a_line(self) -> None:
        self.assertEqual(problems(Settings(deepgram_api_key="k")), [])
        found = problems(Settings(llm_url="wss://llm.example/v1"))
        self.assertEqual([line.split(":")[0] for line in found], ["deepgram_api_key", "llm_url"])
