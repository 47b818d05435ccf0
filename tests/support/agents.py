"""What an agent stands between, in plain calls: a call that notes what it is told, services that wait.

    http, call = FakeHttp(), FakeCall()
    agent = Pipeline(agent_context(http, clock, LLM_MODEL="m"))
    agent.begin(call)
    asked = http.asked[-1]                      # a request: what was asked, and the way to its answer
    asked.answer(200); asked.write(b"..."); asked.end()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from voiceingest.audio import AudioFormat
from voiceingest.call_interfaces import AgentContext, CallFacts, IHttpAnswer
from voiceingest.config import Settings
from voiceingest.errors import UpstreamFailed
from voiceingest.metrics import Metrics

KEYS = {"deepgram_api_key": "dg-key", "llm_api_key": "llm-key"}


def agent_context(http: FakeHttp, clock: Clock | None = None, **settings: Any) -> AgentContext:
    """What agents are made with; ``settings`` are on top of both keys."""
    given: Any = {**KEYS, **settings}
    return AgentContext(Settings(**given), clock or Clock(), Metrics(), http)


class FakeCall:
    """A call (``ICall``): ``told`` is what it was told, in order."""

    def __init__(self, sample_rate: int = 8000) -> None:
        self.facts = CallFacts("call-1", "stream-1", "acme", AudioFormat(sample_rate))
        self.told: list[tuple[str, Any]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.queued_ms = 0.0

    def say(self, pcm: bytes) -> None:
        """Note it."""
        assert pcm and len(pcm) % 2 == 0, "not whole samples"
        self.told.append(("say", pcm))

    def flush(self) -> None:
        """Note it."""
        self.told.append(("flush", None))

    def mark(self, name: str) -> None:
        """Note it."""
        self.told.append(("mark", name))

    def clear(self) -> None:
        """Note it."""
        self.told.append(("clear", None))

    def hang_up(self) -> None:
        """Note it."""
        self.told.append(("hang_up", None))

    def publish_event(self, event: str, **fields: Any) -> None:
        """Note it."""
        self.events.append((event, fields))

    def words(self) -> list[str]:
        """What it was told, audio as text, runs of it joined: ``["One.", "mark s1", "clear"]``."""
        words: list[str] = []
        for verb, value in self.told:
            if verb != "say":
                words.append(f"{verb} {value}" if value else verb)
            elif words and words[-1].startswith("say "):
                words[-1] += value.decode("utf-16-le")
            else:
                words.append("say " + value.decode("utf-16-le"))
        return words


class FakeAsked:
    """One request, and the way to its answer."""

    def __init__(self, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> None:
        self.url = url
        self.headers = dict(headers)
        self.body = body
        self.timeout_s = timeout_s
        self.is_cancelled = False
        self.head: Deferred[IHttpAnswer] = Deferred(self._cancelled)
        self.body_over: Deferred[Any] | None = None
        self._take: Callable[[bytes], None]

    def answer(self, status: int = 200, **fields: str) -> None:
        """Give the head; ``_`` in the names of ``fields`` stands for ``-``."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        self.head.callback(_FakeAnswer(self, status, headers))

    def write(self, data: bytes) -> None:
        """Give a piece of the body; what the taker raises ends it, as in the client."""
        assert self.body_over is not None, "nobody takes the body"
        assert not self.body_over.called, "the body is over"
        try:
            self._take(data)
        except Exception as error:
            self.body_over.errback(error)

    def end(self) -> None:
        """The body is whole."""
        assert self.body_over is not None
        self.body_over.callback(None)

    def fail(self, message: str = "silent") -> None:
        """The service is silent, or gone."""
        (self.body_over or self.head).errback(UpstreamFailed(message))

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits."""
        return not (self.body_over or self.head).called

    def stream(self, take: Callable[[bytes], None]) -> Deferred[Any]:
        """Somebody takes the body."""
        assert self.body_over is None, "taken twice"
        self._take = take
        self.body_over = Deferred(self._cancelled)
        return self.body_over

    def _cancelled(self, _: Deferred[Any]) -> None:
        self.is_cancelled = True


class _FakeAnswer:
    def __init__(self, asked: FakeAsked, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._asked = asked

    def stream(self, take: Callable[[bytes], None]) -> Deferred[None]:
        """The body as it comes."""
        return self._asked.stream(take)

    def read(self, max_bytes: int) -> Deferred[bytes]:
        """The whole body."""
        whole = bytearray()

        def take(data: bytes) -> None:
            whole.extend(data)
            if len(whole) > max_bytes:
                raise UpstreamFailed("too large")

        return self._asked.stream(take).addCallback(lambda _: bytes(whole))


class FakeHttp:
    """Services that answer when the test says so (``IHttpClient``)."""

    def __init__(self) -> None:
        self.asked: list[FakeAsked] = []

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> Deferred[IHttpAnswer]:
        """Note a request."""
        assert method == "POST"
        self.asked.append(FakeAsked(url, headers, body, timeout_s))
        return self.asked[-1].head

    def open(self, path: str) -> list[FakeAsked]:
        """The requests of ``path`` somebody still waits for."""
        return [asked for asked in self.asked if path in asked.url and asked.is_open]
