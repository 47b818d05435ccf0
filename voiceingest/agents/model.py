"""Asks a language model what to say next, and hands on its words as it writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from ..call_interfaces import AgentContext
from ..errors import UpstreamFailed
from ..stream import ChatReader
from ..wire import chat
from .asking import ask

_CUT: Final = "the model has not finished its answer"
_EMPTY: Final = "the model has written nothing"


class Model:
    """The model of the settings ``llm_*``, at an OpenAI-compatible API."""

    def __init__(self, context: AgentContext) -> None:
        settings = context.settings
        self._context = context
        self._url = f"{settings.llm_url.rstrip('/')}/chat/completions"
        self._headers = {"Accept": "text/event-stream"}
        if settings.llm_api_key is not None:
            self._headers["Authorization"] = f"Bearer {settings.llm_api_key.get_secret_value()}"

    def answer(
        self,
        messages: Sequence[Mapping[str, str]],
        take: Callable[[str], None],
        written: Callable[[], None],
    ) -> Deferred[None]:
        """Ask for one answer: ``take`` gets its words, ``written`` is called when it has them all.

        Fires when the request is over too, which says nothing more. Cancelling it cuts the request.
        Raises, where ``written`` was not called: ``UpstreamFailed``, ``UpstreamRefused``,
        ``UpstreamBusy``, ``BadJson``, ``BadField``.
        """
        settings = self._context.settings
        body = chat.request_body(settings.llm_model, messages, settings.llm_max_tokens)
        writing = _Writing(self._context, take, written)
        asking = ask(
            self._context.http,
            self._url,
            headers=self._headers,
            body=body,
            timeout_s=settings.speech_timeout_s,
        )
        over: Deferred[None] = asking.addCallback(lambda answer: answer.stream(writing.feed))
        return over.addCallback(writing.ended).addErrback(writing.failed)


class _Writing:
    """One answer as it is written."""

    def __init__(
        self, context: AgentContext, take: Callable[[str], None], written: Callable[[], None]
    ) -> None:
        self._clock = context.clock
        self._metrics = context.metrics
        self._take = take
        self._written = written
        self._reader = ChatReader()
        self._asked_at = context.clock.seconds()
        self._has_begun = False
        self._is_written = False

    def feed(self, data: bytes) -> None:
        for text in self._reader.feed(data):
            if not self._has_begun:
                self._has_begun = True
                self._metrics.llm_first_word.observe(self._clock.seconds() - self._asked_at)
            self._take(text)
        if self._reader.is_done and not self._is_written:
            if not self._has_begun:
                raise UpstreamFailed(_EMPTY)
            self._is_written = True
            self._metrics.llm_requests["ok"] += 1
            self._written()

    def ended(self, _: None) -> None:
        if not self._is_written:
            raise UpstreamFailed(_CUT)

    def failed(self, failure: Failure) -> None:
        if not self._is_written:
            self._metrics.llm_requests["cancelled" if failure.check(CancelledError) else "failed"] += 1
            failure.raiseException()
