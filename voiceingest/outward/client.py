"""Asks other people's services over HTTP: bounded in time, in heads and in connections.

A service is the operator's choice and still not trusted: a slow, endless or confused one costs one
connection until it has been silent for ``timeout_s``. Nothing it wrote gets into an error.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HostnameCachingHTTPSPolicy, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from .. import __version__
from ..call_interfaces import IHttpAnswer
from ..errors import UpstreamFailed
from .pool import Connection, Pool

# Hosts whose TLS context is kept: making one reads the platform's authorities again.
_HOSTS_MAX_COUNT: Final = 16

_LATE: Final = "a service the daemon asked was silent for too long"
_CUT: Final = "the answer of a service the daemon asked was cut off"
_TOO_BIG: Final = "the answer of a service the daemon asked is too large"
_UNREACHED: Final = "a service the daemon asked could not be reached, or did not speak HTTP"
_CLOSED: Final = "the daemon is shutting down and asks no more"


class HttpClient:
    """Sends requests (``IHttpClient``). What bounds their number is that a call asks a few at a time.

    ``policy`` replaces the platform's trust in certificates.
    """

    def __init__(self, reactor: Any, policy: IPolicyForHTTPS | None = None) -> None:
        self._reactor = reactor
        self._policy = HostnameCachingHTTPSPolicy(policy or BrowserLikePolicyForHTTPS(), _HOSTS_MAX_COUNT)
        self._pool = Pool(reactor)
        self._asked: set[_Exchange] = set()
        self._is_closed = False

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> Deferred[IHttpAnswer]:
        """Send one request, and never twice; see ``IHttpClient``."""
        if self._is_closed:
            return fail(UpstreamFailed(_CLOSED))
        exchange = _Exchange(self._reactor, self._pool, timeout_s, self._asked.discard)
        self._asked.add(exchange)
        fields = Headers({"User-Agent": [f"voiceingest/{__version__}"]})
        for name, value in headers.items():
            fields.setRawHeaders(name, [value])
        agent = Agent(self._reactor, self._policy, connectTimeout=timeout_s, pool=exchange)
        content = _Content(body) if body else None
        return exchange.begin(lambda: agent.request(method.encode(), url.encode(), fields, content))

    def close(self) -> Deferred[None]:
        """Cut everything, and ask no more; fires when no connection is left."""
        self._is_closed = True
        for exchange in list(self._asked):
            exchange.fail(_CLOSED)
        return self._pool.close()


class _Exchange:
    """One request and its answer: the pool of one ``Agent``, and who watches the silence.

    Twisted's response does not let its connection be cut, so it is taken note of here.
    """

    persistent = True

    def __init__(
        self, reactor: Any, pool: Pool, timeout_s: float, over: Callable[[_Exchange], None]
    ) -> None:
        self.is_over = False
        self._reactor = reactor
        self._pool = pool
        self._timeout_s = timeout_s
        self._over = over
        self._connection: Connection | None = None
        self._asking: Deferred[Any] = Deferred()
        # What is waited for: the head, then the body.
        self._outcome: Deferred[Any] | None = None
        self._heard_at = reactor.seconds()
        self._timer = reactor.callLater(timeout_s, self._check)

    def begin(self, ask: Callable[[], Deferred[IResponse]]) -> Deferred[IHttpAnswer]:
        """Send the request."""
        outcome = self._outcome = Deferred(self._cancelled)
        self._asking = maybeDeferred(ask)
        self._asking.addCallbacks(self._answered, lambda _: self.fail(_UNREACHED))
        return outcome

    def getConnection(self, key: Hashable, endpoint: Any) -> Deferred[Connection]:
        """Take or open a connection (hook of ``Agent``)."""
        return self._pool.take(key, endpoint).addCallback(self._opened)

    def _opened(self, connection: Connection) -> Connection:
        self._connection = connection
        connection.asked()
        return connection

    def _answered(self, response: IResponse) -> None:
        assert self._connection is not None and self._outcome is not None
        self._connection.is_in_head = False
        self.heard()
        outcome, self._outcome = self._outcome, None
        outcome.callback(_Answer(response, self))

    def deliver(self, response: IResponse, take: Callable[[bytes], None]) -> Deferred[None]:
        """Hand on the body as it comes."""
        if self.is_over:
            return fail(UpstreamFailed(_LATE))
        outcome = self._outcome = Deferred(self._cancelled)
        response.deliverBody(_Body(self, take))
        return outcome

    def heard(self) -> None:
        """The service is not silent."""
        self._heard_at = self._reactor.seconds()

    # --- the end

    def done(self) -> None:
        """The body is whole; its connection is idle, or else is to go."""
        if self.is_over:
            return
        self._end()
        if self._connection is not None and not self._connection.is_idle:
            self._connection.leave()
        if self._outcome is not None:
            self._outcome.callback(None)

    def fail(self, why: str | Failure) -> None:
        """Cut the connection; nothing more will come."""
        if self.is_over:
            return
        self._cut()
        if self._outcome is not None:
            self._outcome.errback(why if isinstance(why, Failure) else Failure(UpstreamFailed(why)))

    def lost(self) -> None:
        """The connection has ended before the body was known to be whole."""
        if self._connection is not None and self._connection.ended_well:
            self.done()
        else:
            self.fail(_CUT)

    def _cancelled(self, _: Deferred[Any]) -> None:
        self._outcome = None
        self._cut()

    def _cut(self) -> None:
        self._end()
        self._asking.cancel()
        if self._connection is not None:
            self._connection.abort()

    def _end(self) -> None:
        self.is_over = True
        self._over(self)
        if self._timer.active():
            self._timer.cancel()

    def _check(self) -> None:
        left_s = self._heard_at + self._timeout_s - self._reactor.seconds()
        if left_s > 0:
            self._timer = self._reactor.callLater(left_s, self._check)
        else:
            # So ends too whoever was given an answer and never took its body.
            self.fail(_LATE)


class _Answer:
    """The head of an answer (``IHttpAnswer``)."""

    def __init__(self, response: IResponse, exchange: _Exchange) -> None:
        self._response = response
        self._exchange = exchange
        self.status: int = response.code
        self.headers: Mapping[str, str] = {
            name.decode("latin-1").lower(): ", ".join(value.decode("latin-1") for value in values)
            for name, values in response.headers.getAllRawHeaders()
        }

    def read(self, max_bytes: int) -> Deferred[bytes]:
        """The whole body; see ``IHttpAnswer``."""
        whole = bytearray()

        def take(piece: bytes) -> None:
            whole.extend(piece)
            if len(whole) > max_bytes:
                raise UpstreamFailed(_TOO_BIG)

        return self.stream(take).addCallback(lambda _: bytes(whole))

    def stream(self, take: Callable[[bytes], None]) -> Deferred[None]:
        """The body as it comes; see ``IHttpAnswer``."""
        return self._exchange.deliver(self._response, take)


class _Body(Protocol):
    """Gets the body of an answer."""

    def __init__(self, exchange: _Exchange, take: Callable[[bytes], None]) -> None:
        self._exchange = exchange
        self._take = take

    def dataReceived(self, data: bytes) -> None:
        """Hand on a piece; what that raises is the outcome."""
        if self._exchange.is_over:
            return
        self._exchange.heard()
        try:
            self._take(data)
        except Exception:
            self._exchange.fail(Failure())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end; a body without a length ends with its connection."""
        if reason.check(ResponseDone):
            self._exchange.done()
        elif reason.check(PotentialDataLoss):
            self._exchange.lost()
        else:
            self._exchange.fail(_CUT)


@implementer(IBodyProducer)
class _Content:
    """The body of a request, written at once."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write it (hook of ``Agent``)."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It is all written."""

    def resumeProducing(self) -> None:
        """It is all written."""

    def stopProducing(self) -> None:
        """It is all written."""
