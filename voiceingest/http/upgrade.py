"""From a request to a WebSocket: everything that can be refused is refused here, in HTTP.

Autobahn is then given the key to answer and nothing else: what a caller wrote elsewhere in the head
cannot reach a second parser.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final, Protocol, cast

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
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
from .answers import answer_error, request_id
from .channel import GuardedChannel
from .site import SiteRequest

# RFC 6455 section 4.1: 16 random bytes in base64.
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")


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
        try:
            self._check_upgrade(request)
            self._check_origin(request)
            if self._transport.refuse_new():
                raise Draining
            self._count_behind_proxy(request)
            handshake = _handshake(request)
            admission = self._admission.admit(handshake)
        except VoiceIngestError as error:
            return self._refuse(request, error)
        claims = admission.claims
        # A caller that leaves while its key is fetched withdraws the question.
        request.notifyFinish().addErrback(lambda _: claims.cancel())
        claims.addCallback(self._open, request, handshake, admission.subprotocol)
        claims.addErrback(self._refused, request)
        return NOT_DONE_YET

    def _check_upgrade(self, request: Request) -> None:
        if request.method != b"GET":
            raise MethodNotAllowed
        headers = request.requestHeaders
        if b"websocket" not in _tokens(headers, b"Upgrade") or b"upgrade" not in _tokens(
            headers, b"Connection"
        ):
            raise UpgradeRequired
        if headers.getRawHeaders(b"Sec-WebSocket-Version") != [b"13"]:
            raise UpgradeRequired
        keys = headers.getRawHeaders(b"Sec-WebSocket-Key", [])
        if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
            raise HttpRefusal("Sec-WebSocket-Key is missing or malformed")
        if len(headers.getRawHeaders(b"Host", [])) != 1 or request.clientproto != b"HTTP/1.1":
            raise HttpRefusal("one Host and HTTP/1.1 are required")

    def _check_origin(self, request: Request) -> None:
        origins = request.requestHeaders.getRawHeaders(b"Origin", [])
        if origins and (len(origins) > 1 or origins[0].decode("latin-1") not in self._origins):
            raise OriginRefused

    def _count_behind_proxy(self, request: Request) -> None:
        lines = [
            line.decode("latin-1") for line in request.requestHeaders.getRawHeaders(b"X-Forwarded-For", [])
        ]
        _, refusal = cast(GuardedChannel, request.channel).client_address(lines)
        if refusal is not None:
            raise refusal

    def _open(
        self, claims: Claims, request: SiteRequest, handshake: Handshake, subprotocol: str | None
    ) -> None:
        channel = cast(GuardedChannel, request.channel)
        socket = self._sockets.build(
            channel.address,
            request_id(request),
            subprotocol,
            lambda socket: self._transport.session(socket, claims, handshake),
        )
        key = request.requestHeaders.getRawHeaders(b"Sec-WebSocket-Key", [])[0]
        self._log.info(
            "connection opened",
            event="connection_opened",
            address=channel.address,
            transport=self._transport.name,
            request_id=socket.request_id,
        )
        request.upgraded()
        channel.hand_over(socket, partial(socket.accept, key.decode("ascii")))

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


def _handshake(request: Request) -> Handshake:
    headers = request.requestHeaders
    offered = [
        line.decode("latin-1").split(",") for line in headers.getRawHeaders(b"Sec-WebSocket-Protocol", [])
    ]
    return Handshake(
        cast(GuardedChannel, request.channel).address,
        [line.decode("latin-1") for line in headers.getRawHeaders(b"Authorization", [])],
        [word.strip() for words in offered for word in words],
        {
            name.decode("latin-1"): [value.decode("latin-1") for value in values]
            for name, values in request.args.items()
        },
    )


def _tokens(headers: Any, name: bytes) -> list[bytes]:
    return [word.strip().lower() for line in headers.getRawHeaders(name, []) for word in line.split(b",")]
