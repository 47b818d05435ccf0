"""The agent that talks, over real sockets: its model and its voice as services of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import deferLater

from tests.support.agents import FakeCall
from tests.support.case import TestCase
from tests.support.llm import CUT, GARBAGE, STALL, FakeLlm, Gate
from tests.support.speak import FakeSpeak, spoken
from voiceingest.agents.pipeline import Pipeline
from voiceingest.call_interfaces import AgentContext, Transcript
from voiceingest.config import Settings
from voiceingest.metrics import Metrics
from voiceingest.outward import HttpClient

RATE = 16000
# Only who is to be silent is waited for so long; everybody else has all the time there is.
STALL_S = 1.0


class PipelineCase(TestCase):
    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.llm, self.speak = FakeLlm(self), FakeSpeak(self)
        self.call = FakeCall(RATE)
        self.http = HttpClient(reactor)
        self.addCleanup(self.http.close)
        self.addCleanup(lambda: self.assertEqual(self.llm.complaints + self.speak.complaints, []))

    def begin(self, **settings: Any) -> None:
        given: Any = {
            "llm_url": self.llm.url,
            "llm_api_key": self.llm.key,
            "deepgram_speak_url": self.speak.url,
            "deepgram_api_key": self.speak.key,
            **settings,
        }
        self.metrics = Metrics()
        self.agent = Pipeline(AgentContext(Settings(**given), self.reactor, self.metrics, self.http))
        self.agent.begin(self.call)
        self.addCleanup(self.agent.end, "stopped")

    def hear(self, text: str) -> None:
        self.agent.transcript(Transcript(text, 0, 100, True, True))

    async def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            await deferLater(self.reactor, 0.002, lambda: None)

    async def marked(self, name: str) -> None:
        await self.until(lambda: ("mark", name) in self.call.told)

    def pcm(self) -> bytes:
        return b"".join(value for verb, value in self.call.told if verb == "say")

    def errors(self) -> list[tuple[str, str]]:
        return [(f["source"], f["code"]) for event, f in self.call.events if event == "error"]


class TalkTests(PipelineCase):
    async def test_the_first_audio_leaves_before_the_last_word_is_written(self) -> None:
        gate, middle = Gate(), Gate()
        self.llm.will_say("Good day. How ", gate, "are you?")
        self.speak.will(middle)
        self.begin()
        self.hear("Hello")
        await self.until(self.pcm)
        self.assertFalse(gate.is_open)
        # It sounds before it is whole.
        await self.until(lambda: len(self.pcm()) > 1000)
        self.assertLess(len(self.pcm()), len(spoken("Good day.", RATE)))
        middle.open()
        await self.marked("s1")
        self.assertEqual(self.pcm(), spoken("Good day.", RATE))
        gate.open()
        await self.marked("s2")
        self.assertEqual(self.pcm(), spoken("Good day.", RATE) + spoken("How are you?", RATE))
        self.assertEqual(self.speak.texts, ["Good day.", "How are you?"])

    async def test_a_conversation_on_two_connections(self) -> None:
        self.begin(llm_instructions="Be brief.", llm_greeting="Welcome.")
        await self.marked("s1")
        self.agent.played("s1")
        for number in range(2, 5):
            self.hear(f"Word {number}")
            await self.marked(f"s{number}")
            self.agent.played(f"s{number}")
        self.assertEqual(
            [message["content"] for message in self.llm.asked[-1].messages],
            [
                *("Be brief.", "Welcome.", "Word 2", "You said: Word 2."),
                *("Word 3", "You said: Word 3.", "Word 4"),
            ],
        )
        self.assertEqual((len(self.llm.service.connections), len(self.speak.service.connections)), (1, 1))
        self.assertEqual(self.metrics.llm_requests["ok"], 3)

    async def test_an_interruption_cuts_both_connections(self) -> None:
        self.llm.will_say("One. Two. ", Gate(), "Three.")
        self.speak.will(Gate())
        self.begin()
        self.hear("Count")
        await self.until(self.pcm)
        self.agent.interrupted()
        await self.llm.asked[0].asked.gone
        await self.speak.asked[0].asked.gone
        before = len(self.call.told)
        self.hear("Stop")
        await self.marked("s1")
        roles = [message["content"] for message in self.llm.asked[1].messages[1:]]
        self.assertEqual(roles, ["Count", "One…", "Stop"])
        self.assertEqual(self.speak.texts, ["One.", "You said: Stop."])
        said = b"".join(value for verb, value in self.call.told[before:] if verb == "say")
        self.assertEqual(said, spoken("You said: Stop.", RATE))

    async def test_the_end_of_the_call_cuts_both_connections(self) -> None:
        self.llm.will_say("One. Two. ", STALL)
        self.speak.will(STALL)
        self.begin()
        self.hear("Count")
        await self.until(self.pcm)
        self.agent.end("disconnected")
        await self.llm.asked[0].asked.gone
        await self.speak.asked[0].asked.gone
        self.assertEqual(self.errors(), [])


class FailureTests(PipelineCase):
    async def assert_goes_on(self, source: str, code: str) -> None:
        """The failure is told once, and the next turn is answered."""
        await self.until(self.errors)
        self.assertEqual(self.errors(), [(source, code)])
        self.call.events.clear()
        before = len(self.call.told)
        self.hear("Hello?")
        await self.until(lambda: any(verb == "mark" for verb, _ in self.call.told[before:]))
        self.assertTrue(self.speak.texts[-1].endswith("Hello?."), self.speak.texts)
        self.assertEqual(self.errors(), [])

    async def test_the_model(self) -> None:
        for script, code in (
            (401, "upstream_refused"),
            (429, "upstream_busy"),
            (500, "upstream_failed"),
            ((STALL,), "upstream_failed"),
            (("Half a sen", CUT), "upstream_failed"),
            ((GARBAGE,), "bad_json"),
        ):
            self.call = FakeCall(RATE)
            self.begin(speech_timeout_s=STALL_S if script == (STALL,) else 20)
            if isinstance(script, int):
                self.llm.will_refuse(script)
            else:
                self.llm.will_say(*script)
            self.hear("Hi")
            await self.assert_goes_on("llm", code)
            self.agent.end("stopped")

    async def test_the_voice(self) -> None:
        for step, code in (
            (401, "upstream_refused"),
            (429, "upstream_busy"),
            (500, "upstream_failed"),
            (STALL, "upstream_failed"),
            (CUT, "upstream_failed"),
            (GARBAGE, "upstream_failed"),
        ):
            self.call = FakeCall(RATE)
            self.begin(speech_timeout_s=STALL_S if step is STALL else 20)
            self.speak.will(step)
            self.hear("Hi")
            await self.until(self.errors)
            # What sounded of it has been heard.
            self.agent.played("s1")
            await self.assert_goes_on("voice", code)
            self.agent.end("stopped")

    async def test_wrong_keys(self) -> None:
        for wrong in ({"llm_api_key": "no"}, {"deepgram_api_key": "no"}):
            self.call = FakeCall(RATE)
            self.begin(**wrong)
            self.hear("Hi")
            await self.until(self.errors)
            self.assertEqual([code for _, code in self.errors()], ["upstream_refused"])
            self.assertEqual(self.llm.complaints + self.speak.complaints, ["the key is wrong"])
            self.llm.complaints.clear()
            self.speak.complaints.clear()
