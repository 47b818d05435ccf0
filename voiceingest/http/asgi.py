"""An application of ASGI 3 as a resource of the site: FastAPI's today, python-socketio's to come.

The specification is https://asgi.readthedocs.io/en/latest/specs/www.html (spec_version 2.5). No lifespan, no
WebSockets: those never go through here. What one request does is in ``asgi_exchange``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from ..aio import as_deferred
from ..errors import Draining, FrameTooBig, InternalError, Overloaded, VoiceIngestError
from ..limits import BODY_MAX_BYTES
from ..metrics import Metrics
from .answers import answer_error, request_id
from .asgi_exchange import CallerGone, Exchange
from .channel import GuardedChannel, peer_address
from .resource import ENDPOINT, body_size

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# Requests that are worked on at once, those whose caller has left included; each takes some 20 KiB.
TASKS_MAX_COUNT: Final = 2048

# How long an application may take before its answer begins.
PATIENCE_S: Final = 60.0


class AsgiResource(Resource):
    """Every path it is put at is the application's.

    When a caller leaves, its task is cancelled; ``finishes`` are the methods whose work is done all the
    same (a device that asks to be revoked and hangs up is revoked). ``quiet`` are errors that only say
    that the caller has left. ``state`` is in every ``scope["state"]``, with ``request_id`` and ``route``.
    """

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        app: AsgiApp,
        metrics: Metrics,
        *,
        root_path: str = "",
        finishes: Collection[str] = (),
        quiet: tuple[type[Exception], ...] = (),
        patience_s: float = PATIENCE_S,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._app = app
        self._metrics = metrics
        self._root_path = root_path
        self._finishes = frozenset(name.encode() for name in finishes)
        self._quiet: tuple[type[Exception], ...] = (CallerGone, *quiet)
        self._patience_s = patience_s
        self._state = dict(state or {})
        self._running: set[Deferred[None]] = set()
        self._is_closed = False

    @property
    def running(self) -> int:
        """How many requests are worked on."""
        return len(self._running)

    def close(self) -> Deferred[None]:
        """Cancel whatever is worked on, answer nothing more; fires when the last task has ended."""
        self._is_closed = True
        waiting = [_when(asked) for asked in self._running]
        for asked in list(self._running):
            asked.cancel()
        return DeferredList(waiting).addCallback(lambda _: None)

    def render(self, request: Request) -> int:
        """Let the application answer one request. Twisted's hook."""
        self._admit(request)
        scope = self._scope(request)
        exchange = Exchange(request)
        asked = as_deferred(self._serve(scope, exchange))
        self._running.add(asked)
        asked.addErrback(lambda failure: failure.trap(CancelledError) and None)
        asked.addBoth(lambda _: self._running.discard(asked))
        finishes = request.method in self._finishes

        def lost(_: Failure) -> None:
            exchange.lose()
            if not finishes:
                asked.cancel()

        request.notifyFinish().addErrback(lost)
        return NOT_DONE_YET

    def _admit(self, request: Request) -> None:
        """Raises: ``VoiceIngestError``, which the site answers."""
        if self._is_closed:
            raise Draining
        if len(self._running) >= TASKS_MAX_COUNT:
            raise Overloaded
        if request.content is not None and body_size(request.content) > BODY_MAX_BYTES:
            raise FrameTooBig("the body is larger than the limit")

    async def _serve(self, scope: MutableMapping[str, Any], exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(self._patience_s) as patience:
                exchange.when_begun = lambda: patience.reschedule(None)
                await self._app(scope, exchange.receive, exchange.send)
            if not exchange.is_over:
                raise RuntimeError("the application returned and its answer was not complete")
        except asyncio.CancelledError:
            # By close(); where the caller has left, nothing is answered.
            self._refuse(exchange, Draining())
            raise
        except VoiceIngestError as error:
            self._refuse(exchange, error)
        except Exception as error:
            if not (exchange.is_gone and isinstance(error, self._quiet)):
                self._log.failure(
                    "a request failed",
                    Failure(),
                    event="http_failed",
                    route=scope["state"]["route"],
                    request_id=scope["state"]["request_id"],
                )
            self._refuse(exchange, InternalError())

    def _refuse(self, exchange: Exchange, error: VoiceIngestError) -> None:
        if exchange.is_over:
            return
        self._metrics.errors[error.code, ENDPOINT] += 1
        if exchange.has_begun:
            exchange.cut()
        else:
            answer_error(exchange.request, error)

    def _scope(self, request: Request) -> MutableMapping[str, Any]:
        """What the application is told of a request. Raises: ``TooManyFromAddress``."""
        channel = cast(GuardedChannel, request.channel)
        headers = request.requestHeaders
        forwarded_for = [line.decode("latin-1") for line in headers.getRawHeaders(b"X-Forwarded-For", [])]
        address, refusal = channel.client_address(forwarded_for)
        if refusal is not None:
            raise refusal
        peer = peer_address(channel.transport)
        host = request.getHost()
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": request.clientproto.partition(b"/")[2].decode("latin-1"),
            "method": request.method.decode("latin-1"),
            "scheme": _scheme(request, is_behind_proxy=channel.gate.is_proxy(peer)),
            "path": unquote_to_bytes(request.path).decode("utf-8", "replace"),
            "raw_path": request.path,
            "query_string": request.uri.partition(b"?")[2],
            "root_path": self._root_path,
            "headers": [
                (name.lower(), value) for name, values in headers.getAllRawHeaders() for value in values
            ],
            # The port of a caller behind a proxy is not known.
            "client": (address, getattr(request.client, "port", 0) if address == peer else 0),
            "server": (getattr(host, "host", "unix"), getattr(host, "port", None)),
            "state": {
                **self._state,
                "request_id": request_id(request),
                "route": vars(request).get("route", "unmatched"),
            },
            "extensions": {},
        }


def _scheme(request: Request, *, is_behind_proxy: bool) -> str:
    said = request.requestHeaders.getRawHeaders(b"X-Forwarded-Proto", [])
    if is_behind_proxy and len(said) == 1 and said[0] in (b"http", b"https"):
        return said[0].decode("ascii")
    return "https" if request.isSecure() else "http"


def _when(asked: Deferred[None]) -> Deferred[None]:
    """Fires with ``asked``, and leaves what it says to those who come after."""
    ended: Deferred[None] = Deferred()

    def pass_on(result: Any) -> Any:
        ended.callback(None)
        return result

    asked.addBoth(pass_on)
    return ended
