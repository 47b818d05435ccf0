"""Speaks a sentence through Deepgram: text over REST, the audio back as it is made.

Sources: developers.deepgram.com/docs/tts-media-output-settings and /reference/text-to-speech/
speak-request (read 2026-11-28): ``linear16`` without a container is PCM16LE from the first byte on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from ..call_interfaces import AgentContext, IHttpAnswer
from ..errors import UpstreamFailed
from .asking import ask

# No sentence takes longer to say.
_SENTENCE_MAX_S: Final = 120

_NO_AUDIO: Final = "the voice has answered with something that is no audio"
_ENDLESS: Final = "the voice does not come to an end"


class Voice:
    """The voice of the settings ``deepgram_speak_*``, at ``sample_rate`` samples per second."""

    def __init__(self, context: AgentContext, sample_rate: int) -> None:
        settings = context.settings
        self._context = context
        self._max_bytes = _SENTENCE_MAX_S * sample_rate * 2
        query = {
            "model": settings.deepgram_speak_model,
            "encoding": "linear16",
            "sample_rate": sample_rate,
            "container": "none",
        }
        self._url = f"{settings.deepgram_speak_url}?{urlencode(query)}"
        self._headers: dict[str, str] = {}
        if settings.deepgram_api_key is not None:
            self._headers["Authorization"] = f"Token {settings.deepgram_api_key.get_secret_value()}"

    def speak(self, sentence: str, take: Callable[[bytes], None]) -> Deferred[None]:
        """Speak one sentence: ``take`` gets its PCM16LE, whole samples. Cancelling it cuts it off.

        Raises: ``UpstreamFailed``, ``UpstreamRefused``, ``UpstreamBusy``.
        """
        speaking = _Speaking(self._context, take, self._max_bytes)
        asking = ask(
            self._context.http,
            self._url,
            headers=self._headers,
            body=json.dumps({"text": sentence}).encode(),
            timeout_s=self._context.settings.speech_timeout_s,
        )
        over: Deferred[None] = asking.addCallback(speaking.begin)
        return over.addCallback(speaking.ended).addErrback(speaking.failed)


class _Speaking:
    """One sentence as it is spoken."""

    def __init__(self, context: AgentContext, take: Callable[[bytes], None], max_bytes: int) -> None:
        self._clock = context.clock
        self._metrics = context.metrics
        self._take = take
        self._room = max_bytes
        self._asked_at = context.clock.seconds()
        self._has_begun = False
        # Half a sample, whose other half is still to come.
        self._half = b""

    def begin(self, answer: IHttpAnswer) -> Deferred[None]:
        # A message in place of audio would be heard as noise.
        if answer.headers.get("content-type", "").startswith(("application/json", "text/")):
            return answer.read(0).addBoth(_refuse)
        return answer.stream(self.feed)

    def feed(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room < 0:
            raise UpstreamFailed(_ENDLESS)
        data = self._half + data
        whole = len(data) & ~1
        self._half = data[whole:]
        if not whole:
            return
        if not self._has_begun:
            self._has_begun = True
            self._metrics.speak_first_audio.observe(self._clock.seconds() - self._asked_at)
        self._take(data[:whole])

    def ended(self, _: None) -> None:
        if not self._has_begun:
            raise UpstreamFailed(_NO_AUDIO)
        self._metrics.speak_requests["ok"] += 1

    def failed(self, failure: Failure) -> Failure:
        self._metrics.speak_requests["cancelled" if failure.check(CancelledError) else "failed"] += 1
        return failure


def _refuse(outcome: bytes | Failure) -> None:
    if isinstance(outcome, Failure) and outcome.check(CancelledError):
        outcome.raiseException()
    raise UpstreamFailed(_NO_AUDIO)
