"""The question before a call: Exotel asks a web server for the URL of the WebSocket.

``GET`` with the call in the query, answered by ``{"url": "wss://..."}``. The query may hold a token
and is never shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from ... import __version__
from ..failures import CommandFailed, UsageFailed
from ..target import Trust, client_tls, connection_failed

TIMEOUT_S: Final = 10.0
BODY_MAX_BYTES: Final = 16 * 1024


@implementer(IPolicyForHTTPS)
class _Policy:
    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Hook of ``Agent``: the TLS of a connection."""
        return client_tls(hostname.decode("ascii"), self._trust)


class _Body(Protocol):
    """Collects a body up to a bound."""

    def __init__(self, done: Deferred[bytes]) -> None:
        self._done = done
        self._parts = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """A part has come."""
        self._parts += data[: BODY_MAX_BYTES + 1 - len(self._parts)]
        if len(self._parts) > BODY_MAX_BYTES and self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is all there, or as much as there will be."""
        if not self._done.called:
            self._done.callback(bytes(self._parts))


async def ask(
    reactor: Any, url: str, trust: Trust, query: Mapping[str, str], authorization: str | None = None
) -> str:
    """The URL a webhook answers with.

    Raises: ``UsageFailed`` for what is no URL, ``ConnectionFailed`` where nobody answers,
    ``CommandFailed`` for an answer that Exotel could do nothing with.
    """
    asked, label = _spelled(url, query)
    headers = {"User-Agent": [f"voiceingest/{__version__}"], "Accept": ["application/json"]}
    if authorization is not None:
        headers["Authorization"] = [authorization]
    agent = Agent(reactor, _Policy(trust), connectTimeout=TIMEOUT_S)
    request: Deferred[Any] = agent.request(b"GET", asked.encode(), Headers(headers))
    request.addCallback(_with_body)
    request.addTimeout(TIMEOUT_S, reactor, lambda *_: Failure(ConnectTimeout()))
    try:
        status, body = await request
    except (CancelledError, CommandFailed):
        raise
    except ResponseFailed as problem:
        raise connection_failed(_reason(problem), label) from problem
    except Exception as problem:
        raise connection_failed(problem, label) from problem
    return _read(status, body, label)


def _spelled(url: str, query: Mapping[str, str]) -> tuple[str, str]:
    """The whole URL, and what may be shown of it."""
    hint = "such as https://voice.example.com/api/v1/exotel/voice/connect"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise UsageFailed("the webhook's URL cannot be read", hint=hint) from problem
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host or not (url.isascii() and url.isprintable()):
        raise UsageFailed("the webhook's URL begins with http:// or https://", hint=hint)
    shown = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{shown}" + (f":{port}" if port else "")
    path = parts.path or "/"
    pairs = "&".join(part for part in (parts.query, urlencode(query)) if part)
    return f"{origin}{path}?{pairs}", origin + path


def _with_body(response: Any) -> Deferred[tuple[int, bytes]]:
    done: Deferred[bytes] = Deferred()
    response.deliverBody(_Body(done))
    return done.addCallback(lambda body: (int(response.code), body))


def _reason(problem: ResponseFailed) -> BaseException | None:
    """What a failed request was about, below Twisted's wrapping."""
    reasons = getattr(problem, "reasons", None) or []
    return reasons[0].value if reasons else None


def _read(status: int, body: bytes, label: str) -> str:
    if status != 200:
        hint = "is the token in its query the one it wants?" if status in (401, 403) else None
        raise CommandFailed(f"{label} answered with HTTP {status}, and Exotel wants 200", hint=hint)
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    url = answer.get("url") if isinstance(answer, dict) else None
    if not isinstance(url, str):
        raise CommandFailed(f'{label} did not answer with {{"url": "wss://..."}}')
    return url
