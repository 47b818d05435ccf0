"""An HTTP client that asks nobody: what was asked is kept, what is answered is the test's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred, fail, succeed

from voiceingest.errors import UpstreamFailed


@dataclass
class Answer:
    """The head of an answer, and its body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def read(self, max_bytes: int) -> Deferred[bytes]:
        """The whole body, if it is not too large."""
        return succeed(self.body) if len(self.body) <= max_bytes else fail(UpstreamFailed())

    def stream(self, take: Callable[[bytes], None]) -> Deferred[None]:
        """Nobody streams here."""
        raise AssertionError("it streams")


@dataclass
class Asked:
    """One request."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float
    outcome: Deferred[Any]

    @property
    def form(self) -> dict[str, str]:
        """Its fields."""
        return dict(parse_qsl(self.body.decode(), strict_parsing=True, keep_blank_values=True))

    def answer(self, body: Any = None, status: int = 200, **headers: str) -> None:
        """Answer it with a document, or with bytes as they are."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.outcome.callback(Answer(status, raw, named))


class Http:
    """An ``IHttpClient`` whose requests wait until they are answered."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.cancelled = 0

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> Deferred[Any]:
        """Keep what is asked."""
        outcome: Deferred[Any] = Deferred(lambda _: self._cancel())
        self.asked.append(Asked(method, url, dict(headers), body, timeout_s, outcome))
        return outcome

    def _cancel(self) -> None:
        self.cancelled += 1
