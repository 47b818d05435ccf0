"""One GET of a JSON Web Key Set: bounded in time and size, no redirect, TLS verified.

The endpoint is the operator's choice and still not trusted: a slow, endless or confused one
costs one connection for ``timeout_s`` and at most ``limits.JWKS_MAX_BYTES`` of memory.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IPolicyForHTTPS, IResponse

from .. import __version__
from ..errors import SettingsError
from ..limits import HEAD_MAX_BYTES, JWKS_MAX_BYTES

_OK: Final = 200


class FetchFailed(Exception):
    """A fetch gave no document; ``result`` is one of timeout, http_status, too_big, connect.

    ``detail`` is for the log: a status code or the name of an exception, nothing the peer wrote.
    """

    def __init__(self, result: str, detail: str = "") -> None:
        super().__init__(result, detail)
        self.result = result
        self.detail = detail


class JwksEndpoint:
    """Where the key set is fetched from."""

    def __init__(
        self, url: str, reactor: Any, timeout_s: float, policy: IPolicyForHTTPS | None = None
    ) -> None:
        """Take the address; ``policy`` replaces the platform's trust. Raises: ``SettingsError``."""
        self.host = checked_host(url)
        self._url = url.encode("ascii")
        self._reactor = reactor
        self._timeout_s = timeout_s
        self._policy = policy or BrowserLikePolicyForHTTPS()

    def fetch(self) -> Deferred[bytes]:
        """Fetch the document.

        Raises: ``FetchFailed``. Cancelling it closes the connection.
        """
        connection = _OneConnection(self._reactor)
        agent = Agent(self._reactor, self._policy, connectTimeout=self._timeout_s, pool=connection)
        headers = Headers({"Accept": ["application/json"], "User-Agent": [f"voiceingest/{__version__}"]})
        request: Deferred[Any] = agent.request(b"GET", self._url, headers)
        request.addCallback(_body)
        request.addTimeout(self._timeout_s, self._reactor, lambda *_: Failure(FetchFailed("timeout")))
        request.addErrback(_named)
        return request.addBoth(connection.cut)


def checked_host(url: str) -> str:
    """Return the host of a key set's URL. Raises: ``SettingsError`` for one not to be asked.

    Whoever can answer for the address decides who is let in: so ``https:``, except where the
    packets do not leave the machine.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not url.isascii() or not url.isprintable() or " " in url:
        raise SettingsError(["jwt_jwks_url: is not a URL"])
    if parts.username is not None or parts.fragment:
        raise SettingsError(["jwt_jwks_url: holds a user name or a fragment"])
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise SettingsError(["jwt_jwks_url: only https: is taken, except on the loopback interface"])
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _OneConnection(HTTPConnectionPool):
    """The pool of one request: it keeps nothing, but knows the connection and can cut it.

    A response only lets go of its connection politely, and over TLS that waits for the peer to
    agree: one that goes on sending would be read for ever.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor, persistent=False)
        self._connection: Protocol | None = None
        self._take: Callable[[bytes], None]
        self._room = JWKS_MAX_BYTES + 2 * HEAD_MAX_BYTES

    def getConnection(self, key: Any, endpoint: Any) -> Deferred[Any]:
        """Open the connection (hook of ``Agent``)."""
        opening: Deferred[Any] = super().getConnection(key, endpoint)
        return opening.addCallback(self._opened)

    def _opened(self, connection: Protocol) -> Protocol:
        self._connection = connection
        self._take = connection.dataReceived
        connection.dataReceived = self._count  # type: ignore[method-assign]
        return connection

    def _count(self, data: bytes) -> None:
        """Heads have no bound in Twisted's client, nor have informational answers before the real one."""
        self._take(data)
        self._room -= len(data)
        if self._room < 0:
            self.cut(None)

    def cut(self, outcome: Any) -> Any:
        """Close the connection at once, whatever it is doing; pass the outcome on."""
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abortConnection()  # type: ignore[attr-defined]
        return outcome


class _Body(Protocol):
    """Collects a body up to ``JWKS_MAX_BYTES``; ``whole`` fires once."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred()
        self._chunks: list[bytes] = []
        self._room = JWKS_MAX_BYTES

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece, or give up."""
        self._room -= len(data)
        if self._room >= 0:
            self._chunks.append(data)
        elif not self.whole.called:
            self._chunks.clear()
            self.whole.errback(FetchFailed("too_big"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Hand over what came; a body without a length ends with its connection."""
        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._chunks))
        else:
            self.whole.errback(reason)


def _body(response: IResponse) -> Deferred[bytes]:
    # Every other status is a refusal, a redirect too: it would take the choice of the host from
    # the operator.
    if response.code != _OK:
        raise FetchFailed("http_status", str(response.code))
    if response.length is not UNKNOWN_LENGTH and response.length > JWKS_MAX_BYTES:
        raise FetchFailed("too_big")
    body = _Body()
    response.deliverBody(body)
    return body.whole


def _named(failure: Failure) -> Failure:
    """Name what went wrong; a fetch that was cancelled stays cancelled."""
    if failure.check(FetchFailed, CancelledError):
        return failure
    if failure.check(ConnectTimeout):
        return Failure(FetchFailed("timeout"))
    # ResponseNeverReceived and its like carry the reasons inside; the first one says it.
    inner = getattr(failure.value, "reasons", None)
    cause = inner[0].type if inner else failure.type
    return Failure(FetchFailed("connect", getattr(cause, "__name__", "")))
