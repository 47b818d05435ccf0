"""A sentence spoken, and each way not to."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from tests.support.agents import FakeAsked, FakeHttp, agent_context
from tests.support.case import SynchronousTestCase
from voiceingest.agents import voice
from voiceingest.agents.voice import Voice
from voiceingest.errors import UpstreamFailed, UpstreamRefused


class VoiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.http = FakeHttp()
        self.pieces: list[bytes] = []

    def speak(self, rate: int = 8000) -> tuple[Deferred[None], FakeAsked]:
        self.context = agent_context(
            self.http, self.clock, deepgram_speak_model="aura-x", speech_timeout_s=4
        )
        over = Voice(self.context, rate).speak("Say “hi”.", self.pieces.append)
        return over, self.http.asked[-1]

    def counted(self) -> dict[str, int]:
        return dict(self.context.metrics.speak_requests)

    def test_what_is_asked(self) -> None:
        for rate in (8000, 16000, 24000):
            _, asked = self.speak(rate)
            parts = urlsplit(asked.url)
            self.assertEqual(parts[:3], ("https", "api.deepgram.com", "/v1/speak"))
            self.assertEqual(
                parse_qs(parts.query),
                {
                    "model": ["aura-x"],
                    "encoding": ["linear16"],
                    "sample_rate": [str(rate)],
                    "container": ["none"],
                },
            )
            self.assertEqual(asked.headers["Authorization"], "Token dg-key")
            self.assertEqual(json.loads(asked.body), {"text": "Say “hi”."})
            self.assertEqual(asked.timeout_s, 4)

    def test_samples_are_whole_however_they_come(self) -> None:
        over, asked = self.speak()
        self.clock.advance(0.5)
        asked.answer(content_type="audio/l16;rate=8000")
        asked.write(b"a")
        self.assertEqual(self.context.metrics.speak_first_audio.count, 0)
        for piece in (b"bc", b"", b"d", b"efg", b"h"):
            asked.write(piece)
        asked.write(b"i")
        self.assertNoResult(over)
        asked.end()
        self.successResultOf(over)
        self.assertEqual(b"".join(self.pieces), b"abcdefgh")
        self.assertTrue(all(len(piece) % 2 == 0 and piece for piece in self.pieces))
        first = self.context.metrics.speak_first_audio
        self.assertEqual((first.count, first.sum), (1, 0.5))
        self.assertEqual(self.counted(), {"ok": 1})

    def test_failures(self) -> None:
        self.patch(voice, "_SENTENCE_MAX_S", 1)
        for spoil, error in (
            (lambda asked: asked.fail(), UpstreamFailed),
            (lambda asked: (asked.answer(401), asked.end()), UpstreamRefused),
            (lambda asked: (asked.answer(), asked.fail()), UpstreamFailed),
            (lambda asked: (asked.answer(), asked.end()), UpstreamFailed),
            (lambda asked: (asked.answer(), asked.write(b"a"), asked.end()), UpstreamFailed),
            (lambda asked: (asked.answer(), asked.write(bytes(16_001))), UpstreamFailed),
            (lambda asked: (asked.answer(content_type="application/json"), asked.end()), UpstreamFailed),
            (lambda asked: (asked.answer(content_type="text/html"), asked.end()), UpstreamFailed),
        ):
            over, asked = self.speak()
            spoil(asked)
            self.failureResultOf(over, error)
            self.assertEqual(self.counted(), {"failed": 1})
        self.assertEqual(self.pieces, [])

    def test_as_long_as_may_be(self) -> None:
        self.patch(voice, "_SENTENCE_MAX_S", 1)
        over, asked = self.speak()
        asked.answer()
        asked.write(bytes(16_000))
        asked.end()
        self.successResultOf(over)

    def test_cancelled(self) -> None:
        for begin in (
            lambda asked: None,
            lambda asked: asked.answer(),
            lambda asked: (asked.answer(), asked.write(b"ab")),
            lambda asked: asked.answer(content_type="text/html"),
        ):
            over, asked = self.speak()
            begin(asked)
            over.cancel()
            self.failureResultOf(over, CancelledError)
            self.assertTrue(asked.is_cancelled)
            self.assertEqual(self.counted(), {"cancelled": 1})
