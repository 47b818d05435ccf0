"""Calls in every way they can go, and what the daemon tells of it: each metric moves, no secret shows."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import urlsplit

from tests.support.daemon import Daemon
from tests.support.deepgram import FakeDeepgram
from tests.support.exotel_api import FakeExotel, refusal
from tests.support.llm import FakeLlm
from tests.support.sockets import TEXT, frame
from tests.support.speak import FakeSpeak
from voiceingest.aio import as_future
from voiceingest.metrics import CALL_FAMILIES

from .case import asynchronous
from .exotel import ExotelCaller
from .test_conversation import QUESTION, voice, words_of
from .test_observability import MetricsTests
from .test_voicebot import CONNECT, TOKEN, WEBHOOK_TOKEN, VoicebotCase

CALLER: Final = "09876543210"
CALLEE: Final = "+919812345678"
DIGIT: Final = "7"
ANSWER: Final = "A sentence that nobody but the caller is to see. " * 6


class CallMetricsTests(VoicebotCase):
    """One daemon lives through all of it."""

    moved = MetricsTests.moved

    @asynchronous
    async def test_every_family_of_calls_moves_and_nothing_personal_shows(self) -> None:
        self.scrapes: list[str] = []
        self.deepgram, self.llm, self.speak = FakeDeepgram(self), FakeLlm(self), FakeSpeak(self)
        self.deepgram.recognise = words_of
        self.speak.key = self.deepgram.key
        self.exotel = FakeExotel(self)
        await self.deepgram.start()
        daemon = await self.start_voicebot(
            VOICEBOT_AGENT="pipeline", DEEPGRAM_URL=self.deepgram.url, DEEPGRAM_API_KEY=self.deepgram.key,
            DEEPGRAM_SPEAK_URL=self.speak.url, LLM_URL=self.llm.url, LLM_API_KEY=self.llm.key,
            VOICEBOT_PLAYBACK_MAX_S="5", LOG_LEVEL="debug", WEBHOOK_BASE_URL="http://127.0.0.1:1",
            **self.exotel.settings(),
        )  # fmt: skip
        await self.scrape(daemon)
        await self.a_call_with_an_answer_that_is_cut(daemon)
        await self.a_call_that_says_odd_things(daemon)
        await self.a_call_that_deepgram_fails(daemon)
        await self.a_webhook_and_calls_that_are_placed(daemon)
        await self.scrape(daemon)
        still = {family.name for family in CALL_FAMILIES if not self.moved(family.name)}
        self.assertEqual(still, set())
        self.assert_nothing_shows(daemon)

    async def scrape(self, daemon: Daemon) -> None:
        self.scrapes.append(await self.metrics(daemon))

    async def speak_for(self, caller: ExotelCaller, pcm: bytes) -> None:
        for at in range(0, len(pcm), 1600):
            caller.speak(pcm[at : at + 1600])
            await asyncio.sleep(0.1)

    async def a_call_with_an_answer_that_is_cut(self, daemon: Daemon) -> None:
        """Longer than what may wait, its first mark is echoed, and the caller speaks over the rest."""
        self.llm.will_say("Yes. ", ANSWER)
        caller = await self.dial(daemon, "moves-1")
        caller.begin(8000)
        await self.speak_for(caller, voice(2.0))
        await caller.until(lambda: caller.events("mark"), "a mark")
        caller.tell("mark", mark=caller.events("mark")[0]["mark"])
        await self.scrape(daemon)
        await caller.until(lambda: len(caller.heard()) > 20_000, "the long sentence")
        await self.speak_for(caller, bytes(8000))
        await self.speak_for(caller, voice(0.5))
        await caller.event("clear")
        caller.tell("dtmf", dtmf={"digit": DIGIT, "duration": "100"})
        caller.hang_up()
        await caller.closed()

    async def a_call_that_says_odd_things(self, daemon: Daemon) -> None:
        """Holes, half samples, a rate that is said twice, and words nobody knows."""
        path = "/voicebot/ws?sample-rate=16000"
        caller = await self.dial(daemon, "moves-2", path, Authorization=f"Bearer {TOKEN}")
        caller.begin(8000)
        caller.send(frame(TEXT, b"{"))
        caller.speak(b"abc")
        caller.tell("whatever")
        caller._sequence += 5
        caller.speak(bytes(320))
        caller.hang_up()
        await caller.closed()

    async def a_call_that_deepgram_fails(self, daemon: Daemon) -> None:
        """The model refuses, then Deepgram does: what was said is nowhere to be read."""
        self.llm.will_refuse(500)
        caller = await self.dial(daemon, "moves-3")
        caller.begin(8000)
        await self.speak_for(caller, voice(2.0))
        await as_future(daemon.wait_for_log("answer_failed"))
        self.deepgram.refuse = (401, "INVALID_AUTH")
        self.deepgram.drop_all()
        await self.speak_for(caller, voice(1.0))
        await self.deepgram.until(lambda: self.deepgram.sessions[-1].refused, "a refusal")
        caller.abort()

    async def a_webhook_and_calls_that_are_placed(self, daemon: Daemon) -> None:
        """One is placed and its end is told twice; one is refused."""
        asked = f"{CONNECT}?token={WEBHOOK_TOKEN}&CallSid=moves-4&CallFrom={CALLER}"
        self.assertEqual((await self.get(daemon.port, asked)).status, 200)
        placed = await self.place(daemon)
        self.assertEqual(placed.status, 202, placed.body)
        url = urlsplit(self.exotel.calls[0].form["StatusCallback"])
        end = {"CallSid": "moves-5", "Status": "completed", "EventType": "terminal", "To": CALLEE}
        told = json.dumps(end)
        for _ in range(2):
            answer = await self.get(
                daemon.port, f"{url.path}?{url.query}", "POST", told.encode(), Content_Type="application/json"
            )
            self.assertEqual(answer.status, 200, answer.body)
        self.exotel.script(refusal(403))
        self.assertEqual((await self.place(daemon)).status, 502)

    async def place(self, daemon: Daemon) -> Any:
        body = json.dumps({"to": CALLEE}).encode()
        return await self.get(daemon.admin_port, "/call", "POST", body, Content_Type="application/json")

    def assert_nothing_shows(self, daemon: Daemon) -> None:
        """At the most verbose level."""
        secrets = [self.deepgram.key, self.llm.key, TOKEN, WEBHOOK_TOKEN]
        secrets += ["canary-api-key", "canary-api-token"]
        personal = [CALLER, CALLER[1:], CALLEE[1:], "moves-1", "moves-3", QUESTION, "A sentence that nobody"]
        shown = daemon.output + "".join(self.scrapes)
        for text in (*secrets, *personal, "ticket=", f'"{DIGIT}"'):
            self.assertNotIn(text, shown)
        self.assertNotIn("Traceback", daemon.output)
