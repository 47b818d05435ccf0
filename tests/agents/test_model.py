"""A model that writes, and each way not to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from tests.support.agents import FakeAsked, FakeHttp, agent_context
from tests.support.case import SynchronousTestCase
from voiceingest.agents.model import Model
from voiceingest.errors import BadJson, UpstreamBusy, UpstreamFailed

MESSAGES = [{"role": "user", "content": "Hi"}]


def delta(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


class ModelCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.http = FakeHttp()
        self.words: list[str] = []

    def ask(self, **settings: Any) -> tuple[Deferred[None], FakeAsked]:
        self.context = agent_context(self.http, self.clock, **settings)
        take: Callable[[str], None] = self.words.append
        over = Model(self.context).answer(MESSAGES, take, lambda: self.words.append("(end)"))
        return over, self.http.asked[-1]

    def counted(self) -> dict[str, int]:
        return dict(self.context.metrics.llm_requests)


class RequestTests(ModelCase):
    def test_what_is_asked(self) -> None:
        url = "https://llm.example/v1/"
        _, asked = self.ask(llm_url=url, llm_model="m", llm_max_tokens=7, speech_timeout_s=4)
        self.assertEqual(asked.url, "https://llm.example/v1/chat/completions")
        self.assertEqual(asked.headers["Authorization"], "Bearer llm-key")
        self.assertEqual(asked.timeout_s, 4)
        self.assertEqual(
            json.loads(asked.body), {"model": "m", "messages": MESSAGES, "max_tokens": 7, "stream": True}
        )

    def test_without_a_key(self) -> None:
        _, asked = self.ask(llm_api_key=None)
        self.assertNotIn("Authorization", asked.headers)


class AnswerTests(ModelCase):
    def test_words_as_they_come(self) -> None:
        over, asked = self.ask()
        self.clock.advance(1.5)
        asked.answer()
        asked.write(delta("Hel"))
        self.clock.advance(2)
        asked.write(delta("lo"))
        self.assertEqual(self.words, ["Hel", "lo"])
        asked.write(b"data: [DONE]\n\n")
        self.assertEqual(self.words, ["Hel", "lo", "(end)"])
        self.assertNoResult(over)
        asked.end()
        self.successResultOf(over)
        self.assertEqual(self.counted(), {"ok": 1})
        first = self.context.metrics.llm_first_word
        self.assertEqual((first.count, first.sum), (1, 1.5))

    def test_what_comes_after_the_end_changes_nothing(self) -> None:
        for spoil in (FakeAsked.end, FakeAsked.fail, None):
            over, asked = self.ask()
            asked.answer()
            asked.write(delta("x") + b"data: [DONE]\n\n" + delta("y"))
            asked.write(b": ping\n\n")
            if spoil is None:
                over.cancel()
                self.assertTrue(asked.is_cancelled)
            else:
                spoil(asked)
            self.successResultOf(over)
            self.assertEqual(self.counted(), {"ok": 1})
        self.assertEqual(self.words, ["x", "(end)"] * 3)

    def test_failures(self) -> None:
        for spoil, error in (
            (lambda asked: asked.fail(), UpstreamFailed),
            (lambda asked: (asked.answer(429), asked.end()), UpstreamBusy),
            (lambda asked: (asked.answer(), asked.fail()), UpstreamFailed),
            (lambda asked: (asked.answer(), asked.end()), UpstreamFailed),
            (lambda asked: (asked.answer(), asked.write(delta("x")), asked.end()), UpstreamFailed),
            (lambda asked: (asked.answer(), asked.write(b"data: x\n\n")), BadJson),
            (lambda asked: (asked.answer(), asked.write(b"data: [DONE]\n\n")), UpstreamFailed),
        ):
            over, asked = self.ask()
            spoil(asked)
            self.failureResultOf(over, error)
            self.assertEqual(self.counted(), {"failed": 1})
        self.assertNotIn("(end)", self.words)

    def test_cancelled(self) -> None:
        for begin in (lambda asked: None, lambda asked: (asked.answer(), asked.write(delta("x")))):
            over, asked = self.ask()
            begin(asked)
            over.cancel()
            self.failureResultOf(over, CancelledError)
            self.assertTrue(asked.is_cancelled)
            self.assertEqual(self.counted(), {"cancelled": 1})
