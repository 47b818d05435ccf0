"""From a request to a WebSocket: everything that can be refused is refused here, in HTTP.

Autobahn is then given the key to answer and nothing else: what a caller wrote elsewhere in the head
cannot reach a second parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeAlias, cast

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import parse_qs
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from ..config import Settings
from ..errors import (
    Draining,
    HttpRefusal,
    InternalError,
    MethodNotAllowed,
    OriginRefused,
    Unauthenticated,
    UpgradeRequired,
    VoiceIngestError,
)
from ..interfaces import Claims, Handshake, IAdmission
from ..metrics import Metrics
from ..websocket import HardenedFactory, HardenedProtocol, ISocketSession
from .answers import answer_error, correlation_id, request_id
from .channel import GuardedChannel
from .head import Head
from .site import GuardedSite, SiteRequest

# RFC 6455 section 4.1: 16 random bytes in base64.
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")


# The values of a field, by its name.
_Lines: TypeAlias = Callable[[bytes], Sequence[bytes]]


class _Verdict(NamedTuple):
    """What was found about an upgrade: whose it is, or will be, or why it is refused."""

    claims: Deferred[Claims]
    handshake: Handshake
    subprotocol: str | None = None


class ISocketTransport(Protocol):
    """A dialect that is opened by a WebSocket."""

    name: str
    path: str

    def refuse_new(self) -> bool:
        """Whether no one new is taken."""

    def session(self, socket: HardenedProtocol, claims: Claims, handshake: Handshake) -> ISocketSession:
        """The session of an accepted connection."""


class UpgradeResource(Resource):
    """The path of one WebSocket dialect on the public site."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        transport: ISocketTransport,
        sockets: HardenedFactory,
        admission: IAdmission,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        super().__init__()
        self._transport = transport
        self._sockets = sockets
        self._admission = admission
        self._origins = frozenset(settings.allowed_origins)
        self._metrics = metrics

    def render(self, request: SiteRequest) -> int:
        """Decide about one request. Twisted's hook."""
        channel = cast(GuardedChannel, request.channel)
        verdict, channel.verdict = channel.verdict, None
        if verdict is None:
            try:
                self._check(request.method, request.clientproto, _lines_of(request))
                verdict = self._judge(channel, _lines_of(request), request.args)
            except VoiceIngestError as error:
                return self._refuse(request, error)
        claims = verdict.claims
        # A caller that leaves while its key is fetched withdraws the question.
        request.notifyFinish().addErrback(lambda _: claims.cancel())
        claims.addCallback(self._open, request, verdict)
        claims.addErrback(self._refused, request)
        return NOT_DONE_YET

    def open_at_once(self, channel: GuardedChannel, head: Head, data: bytes) -> bool:
        """Open the WebSocket where nothing stands against it and nothing has to be waited for.

        Else nothing has been written, the request is read again by ``twisted.web``, and ``render`` tells
        what was found: no token is counted or redeemed twice.
        """
        site = cast(GuardedSite, channel.site)
        started = site.reactor.seconds()
        try:
            self._check(b"GET", b"HTTP/1.1", head.lines)
        except VoiceIngestError:
            return False
        try:
            verdict = self._judge(channel, head.lines, parse_qs(head.query, 1) if head.query else {})
            claims = getattr(verdict.claims, "result", None)
            if not isinstance(claims, Claims):
                channel.verdict = verdict
                return False
            request_id = correlation_id(head.lines(b"X-Request-Id"))
            socket = self._socket(channel, request_id, claims, verdict)
        except Exception:
            # Refused, or a failure of ours.
            channel.verdict = _Verdict(fail(), Handshake(channel.address))
            return False
        site.answered("GET", self._transport.path, 101, started, request_id)
        key = head.fields[b"sec-websocket-key"].decode("ascii")
        channel.hand_over(socket, partial(socket.accept, key), data[head.size :])
        return True

    def _check(self, method: bytes, version: bytes, lines: _Lines) -> None:
        """Whether this is an upgrade, from a page of ours, and anybody is let in; nothing is counted yet."""
        if method != b"GET":
            raise MethodNotAllowed
        if b"websocket" not in _tokens(lines(b"Upgrade")) or b"upgrade" not in _tokens(lines(b"Connection")):
            raise UpgradeRequired
        if lines(b"Sec-WebSocket-Version") != [b"13"]:
            raise UpgradeRequired
        keys = lines(b"Sec-WebSocket-Key")
        if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
            raise HttpRefusal("Sec-WebSocket-Key is missing or malformed")
        if len(lines(b"Host")) != 1 or version != b"HTTP/1.1":
            raise HttpRefusal("one Host and HTTP/1.1 are required")
        origins = lines(b"Origin")
        if origins and (len(origins) > 1 or origins[0].decode("latin-1") not in self._origins):
            raise OriginRefused
        if self._transport.refuse_new():
            raise Draining

    def _judge(
        self, channel: GuardedChannel, lines: _Lines, query: Mapping[bytes, Sequence[bytes]]
    ) -> _Verdict:
        """Count the caller where it is, and look at what it has brought."""
        _, refusal = channel.client_address([line.decode("latin-1") for line in lines(b"X-Forwarded-For")])
        if refusal is not None:
            raise refusal
        handshake = _handshake(channel.address, lines, query)
        admission = self._admission.admit(handshake)
        return _Verdict(admission.claims, handshake, admission.subprotocol)

    def _open(self, claims: Claims, request: SiteRequest, verdict: _Verdict) -> None:
        channel = cast(GuardedChannel, request.channel)
        socket = self._socket(channel, request_id(request), claims, verdict)
        key = request.requestHeaders.getRawHeaders(b"Sec-WebSocket-Key", [])[0]
        request.upgraded()
        channel.hand_over(socket, partial(socket.accept, key.decode("ascii")))

    def _socket(
        self, channel: GuardedChannel, request_id: str, claims: Claims, verdict: _Verdict
    ) -> HardenedProtocol:
        socket = self._sockets.build(
            channel.address,
            request_id,
            verdict.subprotocol,
            lambda socket: self._transport.session(socket, claims, verdict.handshake),
        )
        self._log.info(
            "connection opened",
            event="connection_opened",
            address=channel.address,
            transport=self._transport.name,
            request_id=request_id,
        )
        return socket

    def _refused(self, failure: Failure, request: SiteRequest) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            return
        if not isinstance(error, VoiceIngestError):
            self._log.failure("an upgrade failed", failure, event="upgrade_failed")
            error = InternalError()
        self._refuse(request, error)

    def _refuse(self, request: Request, error: VoiceIngestError) -> int:
        self._metrics.connections_refused[error.code] += 1
        self._metrics.errors[error.code, self._transport.name] += 1
        channel = cast(GuardedChannel, request.channel)
        reason = error.reason if isinstance(error, Unauthenticated) else error.code
        self._log.info(
            "connection refused",
            event="connection_refused",
            code=error.code,
            reason=reason,
            address=channel.address,
            transport=self._transport.name,
            request_id=request_id(request),
        )
        headers = {"Allow": "GET"} if isinstance(error, MethodNotAllowed) else {}
        return answer_error(request, error, close=True, headers=headers)


def _handshake(address: str, lines: _Lines, query: Mapping[bytes, Sequence[bytes]]) -> Handshake:
    offered = [line.decode("latin-1").split(",") for line in lines(b"Sec-WebSocket-Protocol")]
    return Handshake(
        address,
        [line.decode("latin-1") for line in lines(b"Authorization")],
        [word.strip() for words in offered for word in words],
        {
            name.decode("latin-1"): [value.decode("latin-1") for value in values]
            for name, values in query.items()
        },
    )


def _lines_of(request: Request) -> _Lines:
    headers = request.requestHeaders
    return lambda name: headers.getRawHeaders(name, [])


def _tokens(lines: Sequence[bytes]) -> list[bytes]:
    return [word.strip().lower() for line in lines for word in line.split(b",")]
