"""Deepgram's voice, which speaks every text in its own deterministic way, when the test lets it.

    speak = FakeSpeak(self)                   # DEEPGRAM_SPEAK_URL=speak.url, DEEPGRAM_API_KEY=speak.key
    speak.will(gate); speak.will(429); speak.will(CUT)   # one for each request; else it just speaks
    ... (await speak.next()).text, speak.asked, speak.complaints, spoken(text, 8000) ...

A :class:`Gate` is waited at when half of the audio is written. ``STALL`` and ``CUT`` do their wrong
there too; ``GARBAGE`` is a page of HTML in place of audio.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections import deque
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

from twisted.internet.defer import Deferred, DeferredQueue, ensureDeferred

from .far_service import CUT, GARBAGE, STALL, Asked, FarService, Gate
from .servers import ITest

__all__ = ["CUT", "GARBAGE", "STALL", "FakeSpeak", "Gate", "SpeakAsked", "spoken"]

_PATH: Final = "/v1/speak"
_RATES: Final = ("8000", "16000", "24000", "32000", "48000")
# Odd: samples are cut in half on the way.
_PIECE_BYTES: Final = 1001
_MS_PER_CHARACTER: Final = 40


def spoken(text: str, sample_rate: int) -> bytes:
    """What :class:`FakeSpeak` says for a text: PCM16LE, 40 ms for each character, never silent."""
    seed = crc32(text.encode())
    count = len(text) * _MS_PER_CHARACTER * sample_rate // 1000
    samples = array("h", (500 + (seed + 7919 * number) % 20_000 for number in range(count)))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


@dataclass(frozen=True)
class SpeakAsked:
    """One request; ``asked.gone`` fires when its connection is closed."""

    text: str
    sample_rate: int
    asked: Asked


class FakeSpeak:
    """The voice; ``key`` is the one it wants, ``complaints`` is what was wrong with requests."""

    def __init__(self, test: ITest, key: str = "dg-key") -> None:
        self.key = key
        self.asked: list[SpeakAsked] = []
        self.complaints: list[str] = []
        self._scripts: deque[Any] = deque()
        self._waiting: DeferredQueue[SpeakAsked] = DeferredQueue()
        self.service = FarService(test, self._answer)
        self.url = self.service.url(_PATH)

    def will(self, step: Gate | int | str | None) -> None:
        """What happens at the next request nobody has written for yet; a number is a refusal."""
        self._scripts.append(step)

    def next(self) -> Deferred[SpeakAsked]:
        """The next request that nobody has waited for yet."""
        return self._waiting.get()

    @property
    def texts(self) -> list[str]:
        """Everything it was given to say."""
        return [asked.text for asked in self.asked]

    # --- the service

    def _answer(self, asked: Asked) -> None:
        status, complaint, text = self._checked(asked)
        if complaint:
            self.complaints.append(complaint)
            asked.document(_error(complaint), status, Content_Type="application/json")
            return
        request = SpeakAsked(text, int(asked.query["sample_rate"]), asked)
        self.asked.append(request)
        step = self._scripts.popleft() if self._scripts else None
        if isinstance(step, int):
            asked.document(_error("refused"), step, Content_Type="application/json")
        elif step is GARBAGE:
            asked.document(b"<html></html>", 200, Content_Type="text/html")
        else:
            ensureDeferred(self._speak(request, step))
        self._waiting.put(request)

    def _checked(self, asked: Asked) -> tuple[int, str, str]:
        """What the real one would say of a request."""
        if (asked.method, asked.path) != ("POST", _PATH):
            return 404, f"{asked.method} {asked.path}", ""
        if asked.headers.get("authorization") != f"Token {self.key}":
            return 401, "the key is wrong", ""
        query = asked.query
        if set(query) != {"model", "encoding", "sample_rate", "container"} or not query["model"]:
            return 400, f"query {sorted(query)}", ""
        if (query["encoding"], query["container"]) != ("linear16", "none"):
            return 400, "not PCM without a container", ""
        if query["sample_rate"] not in _RATES:
            return 400, "no such rate", ""
        body = json.loads(asked.body)
        if set(body) != {"text"} or not 1 <= len(body["text"].strip()) <= 2000:
            return 400, "no text, or too long", ""
        return 200, "", body["text"]

    async def _speak(self, request: SpeakAsked, step: Any) -> None:
        asked, pcm = request.asked, spoken(request.text, request.sample_rate)
        asked.head(Content_Type=f"audio/l16;rate={request.sample_rate};channels=1", dg_request_id="r-1")
        half = len(pcm) // 2 | 1
        for first, last in ((0, half), (half, len(pcm))):
            for at in range(first, last, _PIECE_BYTES):
                asked.chunk(pcm[at : min(at + _PIECE_BYTES, last)])
            if first == 0 and isinstance(step, Gate):
                await step.opened()
            elif step is STALL:
                return
            elif step is CUT:
                asked.close()
                return
        asked.finish()


def _error(text: str) -> bytes:
    return json.dumps({"err_code": "ERROR", "err_msg": text, "request_id": "r-1"}).encode()
