"""A whole conversation: a caller, Deepgram, a model and a voice, each over a real socket.

Nobody here watches a clock: every step waits for the one before it, and the only speech there is is
made of tones, so the test knows to the sample what the caller has heard.
"""

from __future__ import annotations

import asyncio
import math
from array import array
from typing import Any, Final

from tests.support.daemon import Daemon
from tests.support.deepgram import FakeDeepgram
from tests.support.llm import FakeLlm, Gate
from tests.support.speak import FakeSpeak, spoken
from voiceingest.aio import as_future

from .case import asynchronous, metric
from .exotel import ExotelCaller
from .test_voicebot import VoicebotCase

RATE: Final = 8000
QUESTION: Final = "what are your opening hours"
# Forty milliseconds a character: the first sentence sounds for two seconds, the second for ten.
FIRST: Final = "We are open on weekdays from nine to five o'clock."
SECOND: Final = "On Saturdays we open at ten and close at two. " * 5
CHUNK_MS: Final = 200


def voice(seconds: float, amplitude: int = 9000) -> bytes:
    """Somebody speaks."""
    step = 2 * math.pi * 300 / RATE
    return array("h", (int(amplitude * math.sin(step * n)) for n in range(int(seconds * RATE)))).tobytes()


def words_of(pcm: bytes) -> str:
    """What Deepgram understands of a tone."""
    return QUESTION if max(array("h", pcm), default=0) > 5000 else ""


class ConversationTests(VoicebotCase):
    """The done-when of the voicebot, step by step."""

    async def start_talking(self) -> tuple[Daemon, FakeDeepgram, FakeLlm, FakeSpeak]:
        """A daemon whose calls the pipeline answers, and the services that it asks."""
        deepgram, llm, speak = FakeDeepgram(self), FakeLlm(self), FakeSpeak(self)
        deepgram.recognise = words_of
        speak.key = deepgram.key
        await deepgram.start()
        daemon = await self.start_voicebot(
            VOICEBOT_AGENT="pipeline", DEEPGRAM_URL=deepgram.url, DEEPGRAM_API_KEY=deepgram.key,
            DEEPGRAM_SPEAK_URL=speak.url, LLM_URL=llm.url, LLM_API_KEY=llm.key,
        )  # fmt: skip
        return daemon, deepgram, llm, speak

    async def pieces(self, caller: ExotelCaller, pcm: bytes) -> None:
        """Speak in messages of 100 ms, in real time: Deepgram takes little more."""
        for at in range(0, len(pcm), 1600):
            caller.speak(pcm[at : at + 1600])
            await asyncio.sleep(0.1)

    @asynchronous
    async def test_asked_answered_interrupted(self) -> None:
        daemon, deepgram, llm, speak = await self.start_talking()
        consumer = await self.consume()
        last_words, gate = Gate(), Gate()
        llm.will_say(f"{FIRST} ", SECOND, last_words, "Goodbye.")
        llm.will_say("Of course.", gate)
        caller = await self.dial(daemon)
        caller.begin(RATE)
        await self.pieces(caller, voice(2.0))

        # What was said is on the events channel, and asked of the model.
        transcript = await consumer.event("call-1", "transcript")
        self.assertEqual(transcript["text"], QUESTION)
        asked = await as_future(llm.next())
        self.assertEqual(asked.messages[-1], {"role": "user", "content": asked.messages[-1]["content"]})
        self.assertIn(QUESTION, asked.messages[-1]["content"])

        # The answer sounds while the model still writes.
        await caller.until(lambda: len(caller.heard()) >= 6400, "the answer")
        self.assertFalse(last_words.is_open)
        first_audio = spoken(FIRST, RATE)
        await caller.until(lambda: caller.events("mark"), "the end of the first sentence")
        self.assertTrue(caller.heard().startswith(first_audio), "the first sentence differs")
        caller.tell("mark", mark=caller.events("mark")[0]["mark"])
        said = await consumer.event("call-1", "agent_said")
        self.assertEqual((said["text"], said["whole"]), (FIRST, True))

        # The caller interrupts the second one: silence on the wire at once, and nothing more follows.
        before = caller.heard_chunks()
        await self.pieces(caller, bytes(8000))
        await self.pieces(caller, voice(0.5))
        await caller.event("clear")
        order = [one["event"] for one in caller.told]
        self.assertEqual(order[order.index("clear") :].count("media"), 0, order)
        barge_in = await consumer.event("call-1", "barge_in")
        self.assert_position(caller, barge_in["position_ms"], first_audio, before)
        cut = (await self.events(consumer, "agent_said", 2))[1]
        self.assertFalse(cut["whole"])
        await as_future(asked.asked.gone)

        # The next question is asked with what was heard, and not with what was written.
        await self.pieces(caller, voice(2.0))
        again = await as_future(llm.next())
        answers = [one["content"] for one in again.messages if one["role"] == "assistant"]
        self.assertEqual(len(answers), 1)
        self.assertTrue(answers[0].startswith(FIRST), answers)
        self.assertNotIn("Goodbye", answers[0])
        gate.open()
        await caller.until(lambda: self.padded("Of course.") in caller.heard(), "the second answer")
        caller.hang_up()
        self.assertEqual(await caller.closed(), 1000)
        exposition = await self.metrics(daemon)
        self.assertEqual(metric(exposition, "voiceingest_barge_ins_total"), 1)
        # From the detection to the write: the issue allows 50 ms.
        within = 'voiceingest_barge_in_latency_seconds_bucket{le="0.05"}'
        self.assertEqual(metric(exposition, within), 1)
        self.assertEqual((llm.complaints, speak.complaints), ([], []))
        for text in (QUESTION, FIRST, "Of course", deepgram.key, llm.key, "call-1"):
            self.assertNotIn(text, daemon.output)

    def assert_position(
        self, caller: ExotelCaller, position_ms: float, first_audio: bytes, before: list[bytes]
    ) -> None:
        """Right to one chunk: no more than was sent, and what the echoed mark says at least."""
        self.assertLessEqual(position_ms, len(caller.heard()) / 16 + CHUNK_MS)
        self.assertGreaterEqual(position_ms, len(first_audio) / 16)
        # What was sent before the caller spoke up has been heard, but for the lead and a chunk.
        heard_ms = sum(len(chunk) for chunk in before) / 16
        self.assertGreaterEqual(position_ms, heard_ms - 2 * CHUNK_MS - 200)

    async def events(self, consumer: Any, name: str, count: int) -> list[dict[str, Any]]:
        """The first ``count`` events of a name."""

        def found() -> list[dict[str, Any]]:
            named = [one for one in consumer.events("call-1") if one["event"] == name]
            return named[:count] if len(named) >= count else []

        events: list[dict[str, Any]] = await consumer.until(found, f"{count} {name}")
        return events

    def padded(self, text: str) -> bytes:
        """A sentence as it is sent: to the next multiple of 320 bytes."""
        pcm = spoken(text, RATE)
        return pcm + bytes(-len(pcm) % 320)

    @asynchronous
    async def test_services_that_fail_cost_an_answer_and_not_the_call(self) -> None:
        daemon, deepgram, llm, _ = await self.start_talking()
        consumer = await self.consume()
        llm.will_refuse(429)
        llm.will_say("Hello.")
        caller = await self.dial(daemon)
        caller.begin(RATE)
        await self.pieces(caller, voice(2.0))
        await as_future(llm.next())
        error = await consumer.event("call-1", "error")
        self.assertEqual((error["code"], error["source"]), ("upstream_busy", "llm"))
        # The transcriber's connection dies in between, too.
        deepgram.drop_all()
        await self.pieces(caller, voice(2.0))
        await as_future(llm.next())
        await caller.until(lambda: self.padded("Hello.") in caller.heard(), "an answer after all")
        # Two ways out of the daemon: what is heard may be ahead of what is on the bus.
        await self.published(consumer, "call-1", 40)
        self.assertEqual([seq for seq, _ in consumer.frames("call-1")], [*range(1, 41)])
        caller.hang_up()
        self.assertEqual(await caller.closed(), 1000)
