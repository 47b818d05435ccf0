"""An OpenAI-compatible model that says what the test wrote for it, when the test lets it.

    llm = FakeLlm(self)                                  # LLM_URL=llm.url, LLM_API_KEY=llm.key
    gate = Gate()
    llm.will_say("Hello there. ", gate, "How are you?")  # waits at the gate until gate.open()
    llm.will_refuse(429)                                 # and so on, one for each request
    ... (await llm.next()).messages, llm.asked, llm.complaints ...

Without a script it answers ``You said: <the last words of the user>.`` Steps of an answer are words, a
:class:`Gate`, or something wrong: ``STALL``, ``CUT``, ``GARBAGE``.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredQueue, ensureDeferred

from .far_service import CUT, GARBAGE, STALL, Asked, FarService, Gate
from .servers import ITest

__all__ = ["CUT", "GARBAGE", "STALL", "FakeLlm", "Gate", "LlmAsked"]

_PATH: Final = "/v1/chat/completions"


@dataclass(frozen=True)
class LlmAsked:
    """One request: what the model was told; ``asked.gone`` fires when its connection is closed."""

    messages: list[dict[str, str]]
    body: dict[str, Any]
    asked: Asked


class FakeLlm:
    """The model; ``key`` is the one it wants, ``complaints`` is what was wrong with requests."""

    def __init__(self, test: ITest, key: str = "llm-key") -> None:
        self.key = key
        self.asked: list[LlmAsked] = []
        self.complaints: list[str] = []
        self._scripts: deque[tuple[Any, ...] | int] = deque()
        self._waiting: DeferredQueue[LlmAsked] = DeferredQueue()
        self.service = FarService(test, self._answer)
        self.url = self.service.url("/v1")

    def will_say(self, *steps: str | Gate) -> None:
        """The next answer nobody has written yet."""
        self._scripts.append(steps)

    def will_refuse(self, status: int) -> None:
        """Instead of it, a refusal."""
        self._scripts.append(status)

    def next(self) -> Deferred[LlmAsked]:
        """The next request that nobody has waited for yet."""
        return self._waiting.get()

    # --- the service

    def _answer(self, asked: Asked) -> None:
        status, complaint, body = self._checked(asked)
        if complaint:
            self.complaints.append(complaint)
            asked.document(_error(complaint), status, Content_Type="application/json")
            return
        request = LlmAsked(body["messages"], body, asked)
        self.asked.append(request)
        script = self._scripts.popleft() if self._scripts else (_echo(request),)
        if isinstance(script, int):
            asked.document(_error("refused"), script, Content_Type="application/json")
        else:
            ensureDeferred(self._write(asked, script))
        self._waiting.put(request)

    def _checked(self, asked: Asked) -> tuple[int, str, dict[str, Any]]:
        """What a real one would say of a request."""
        if (asked.method, asked.path) != ("POST", _PATH):
            return 404, f"{asked.method} {asked.path}", {}
        if asked.headers.get("authorization") != f"Bearer {self.key}":
            return 401, "the key is wrong", {}
        if asked.headers.get("content-type") != "application/json":
            return 415, "no JSON", {}
        body = json.loads(asked.body)
        if set(body) != {"model", "messages", "max_tokens", "stream"} or body["stream"] is not True:
            return 400, f"fields {sorted(body)}", {}
        roles = [message["role"] for message in body["messages"]]
        if not roles or roles[-1] != "user" or any(not message["content"] for message in body["messages"]):
            return 400, f"roles {roles}", {}
        return 200, "", body

    async def _write(self, asked: Asked, steps: tuple[Any, ...]) -> None:
        asked.head(Content_Type="text/event-stream; charset=utf-8")
        asked.chunk(_event({"role": "assistant", "content": ""}))
        for step in steps:
            if isinstance(step, Gate):
                await step.opened()
            elif step is STALL:
                return
            elif step is CUT:
                asked.close()
                return
            elif step is GARBAGE:
                asked.chunk(b"data: <html>\n\n")
            else:
                for word in step.replace(" ", " \0").split("\0"):
                    asked.chunk(_event({"content": word}))
        asked.chunk(_event({}, "stop"))
        asked.chunk(b'data: {"choices":[],"usage":{"total_tokens":9}}\n\ndata: [DONE]\n\n')
        asked.finish()


def _echo(request: LlmAsked) -> str:
    return f"You said: {request.messages[-1]['content']}."


def _event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "fake", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _error(text: str) -> bytes:
    return json.dumps({"error": {"message": text, "type": "invalid_request_error"}}).encode()
