"""One HTTP/1.1 connection of the public site, hardened.

What stock ``twisted.web`` leaves open (figures in ``docs/explanation/security.md``) is shut here:
an absolute deadline for the whole request, control bytes and folded lines in the head, bodies
without end, connections without number.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from ..errors import FrameTooBig, HandshakeTimeout, HeadTooBig, HttpRefusal, PeerTooSlow, VoiceIngestError
from ..gate import Gate, plain_text
from ..interfaces import IClock, IDelayedCall
from ..limits import BODY_MAX_BYTES, CLOSE_ABORT_S, HEAD_MAX_BYTES
from ..metrics import Metrics
from .answers import new_request_id
from .head import CONTROL_BYTES

# 2^63 has 19 digits; leading noughts are allowed, within reason.
_LENGTH_MAX_DIGITS: Final = 18

_REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


def peer_address(transport: Any) -> str:
    """The IP address of the far end, ``unix`` for a Unix socket."""
    host = getattr(transport.getPeer(), "host", None)
    return "unix" if host is None else plain_text(host.partition("%")[0])


class GuardedChannel(HTTPChannel):
    """A connection until its request is answered or it becomes a WebSocket."""

    site: Any  # set by Site.buildProtocol
    transport: Any
    _networkProducer: Any

    totalHeadersSize = HEAD_MAX_BYTES
    MAX_LENGTH = HEAD_MAX_BYTES

    def __init__(
        self,
        gate: Gate,
        clock: IClock,
        handshake_timeout_s: float,
        metrics: Metrics,
        unanswered: set[GuardedChannel],
        open_at_once: Callable[[GuardedChannel, bytes], bool] = lambda channel, data: False,
    ) -> None:
        """``unanswered`` holds the connections that have, or may have, a request without an answer.

        ``open_at_once`` is given the first bytes, and tells whether it has handed the connection over.
        """
        super().__init__()
        self.gate = gate
        self._unanswered = unanswered
        self._open_at_once = open_at_once
        self.verdict: Any = None  # of an upgrade, found before there was a request to answer
        self.address = ""
        self._clock = clock
        self._handshake_timeout_s = handshake_timeout_s
        self._metrics = metrics
        self._refusal: VoiceIngestError | None = None
        self._deadline: IDelayedCall | None = None
        self._unread: IDelayedCall | None = None
        self._body_bytes = 0
        self._head_lines = 0
        self._done = False
        self._is_new = True
        self._socket: IProtocol | None = None

    # --- its life

    def connectionMade(self) -> None:
        """Count it in and give it a deadline. Twisted's hook."""
        self.address = peer_address(self.transport)
        self._refusal = self.gate.enter(self.address)
        super().connectionMade()
        if self._refusal is not None and self.gate.flooded:
            self._metrics.connections_refused["flooded"] += 1
            self.transport.abortConnection()
            return
        self._arm()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Count it out. Twisted's hook."""
        self.gate.leave(self.address)
        self._unanswered.discard(self)
        self._disarm()
        self._read_on()
        super().connectionLost(reason)
        if self._socket is not None:
            self._socket.connectionLost(reason)
            self._socket = None

    def client_address(self, forwarded_for: list[str]) -> tuple[str, VoiceIngestError | None]:
        """The address of this request's caller behind a trusted proxy, counted there; its refusal if any."""
        address = self.gate.client_address(peer_address(self.transport), forwarded_for)
        if address == self.address:
            return address, None
        before, self.address = self.address, address
        return address, self.gate.move(before, address)

    def hand_over(self, socket: IProtocol, begin: Callable[[], object], rest: bytes = b"") -> None:
        """Let ``socket`` have the connection, ``begin``, and let it have what was read ahead."""
        self._unanswered.discard(self)
        self.setTimeout(None)
        self._disarm()
        self._read_on()
        self._networkProducer.unregisterProducer()
        self._networkProducer.resumeProducing()
        self.requests.clear()
        self._socket = socket
        read_ahead, self._dataBuffer = b"".join(self._dataBuffer) + rest, []
        socket.makeConnection(self.transport)
        begin()
        self.dataReceived = socket.dataReceived  # type: ignore[method-assign]
        if read_ahead:
            socket.dataReceived(read_ahead)

    # --- back-pressure

    def pauseProducing(self) -> None:
        """The peer does not read its answers: take no more of its questions. Twisted's hook."""
        # Stock twisted.web reads on, and buffers answers without end (65 MiB in 10 s from one socket).
        super().pauseProducing()
        self._networkProducer.pauseProducing()
        if self._unread is None:
            self._unread = self._clock.callLater(self._handshake_timeout_s, self._not_read)

    def resumeProducing(self) -> None:
        """The peer reads again. Twisted's hook."""
        self._read_on()
        super().resumeProducing()

    @property
    def is_unread(self) -> bool:
        """Whether the peer leaves answers unread."""
        return self._unread is not None

    def _read_on(self) -> None:
        if self._unread is not None and self._unread.active():
            self._unread.cancel()
        self._unread = None

    def _not_read(self) -> None:
        self._unread = None
        self._done = True
        self._metrics.connections_refused[PeerTooSlow.code] += 1
        self.transport.abortConnection()

    # --- reading

    def dataReceived(self, data: bytes) -> None:
        """Nothing is kept of what comes after a refusal. Twisted's hook."""
        if self._is_new:
            self._is_new = False
            self._look_again()
            if self._refusal is None and not self._done and self._open_at_once(self, data):
                return
        if not self._done:
            super().dataReceived(data)

    def _look_again(self) -> None:
        """Behind ``haproxy:`` the address is that of the caller only once its PROXY header is read."""
        address = peer_address(self.transport)
        if address != self.address:
            self._refusal = self.gate.move(self.address, address)
            self.address = address

    def lineReceived(self, line: bytes) -> None:
        """A line of the head. Twisted's hook."""
        if self._done:
            return
        if len(line.translate(None, CONTROL_BYTES)) != len(line):
            self.turn_away(HttpRefusal("the request head holds a control byte"))
            return
        if line[:1] in (b" ", b"\t"):
            self.turn_away(HttpRefusal("the request head holds a folded line"))
            return
        if self._receivedHeaderSize + len(line) > HEAD_MAX_BYTES:
            self.turn_away(HeadTooBig())
            return
        if self._deadline is None:
            self._arm()
        self._head_lines += 1 if line else 0
        if not line and self._head_lines and self._refusal is not None:
            self.turn_away(self._refusal)
            return
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line without end. Twisted's hook."""
        self.turn_away(HeadTooBig())

    def rawDataReceived(self, data: bytes) -> None:
        """A piece of a body, or what follows it. Twisted's hook."""
        if self._socket is not None:
            self._socket.dataReceived(data)
            return
        if self._done:
            return
        if not self._handlingRequest:
            self._body_bytes += len(data)
            if self._body_bytes > BODY_MAX_BYTES:
                self.turn_away(FrameTooBig("the body is larger than the limit"))
                return
        super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        """The head is whole. Twisted's hook."""
        if self.length is not None and self.length > BODY_MAX_BYTES:
            self.turn_away(FrameTooBig("the body is larger than the limit"))
            return
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """The request is whole. Twisted's hook."""
        if self._done:
            return
        self._disarm()
        self._body_bytes = self._head_lines = 0
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """The answer is written. Twisted's hook."""
        # Where the connection ends with it, it is still to be sent.
        if self.persistent:
            self._unanswered.discard(self)
        super().requestDone(request)

    # --- refusing

    def turn_away(self, error: VoiceIngestError) -> None:
        """Answer before there is a request to answer, and close."""
        if self._done:
            return
        self._done = True
        self._metrics.connections_refused[error.code] += 1
        request_id = new_request_id()
        body = json.dumps({"code": error.code, "message": error.message, "request_id": request_id}).encode()
        head = [
            b"HTTP/1.1 %d %s" % (error.http_status, _REASONS.get(error.http_status, b"Refused")),
            b"Content-Type: application/json; charset=utf-8",
            b"Content-Length: %d" % len(body),
            b"Cache-Control: no-store",
            b"Connection: close",
            b"X-Request-Id: " + request_id.encode(),
        ]
        if error.http_status in (429, 503):
            head.append(b"Retry-After: 5")
        self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
        self._disarm()
        self._deadline = self._clock.callLater(CLOSE_ABORT_S, self.transport.abortConnection)
        self.loseConnection()

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        # int() refuses more than 4300 digits with an exception that nobody above would catch.
        if header == b"Content-Length" and len(data) > _LENGTH_MAX_DIGITS:
            self.turn_away(FrameTooBig("the body is larger than the limit"))
            return False
        return bool(super()._maybeChooseTransferDecoder(header, data))

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Where twisted.web writes a bare 400; ours carries a code. A test pins the name.
        self.turn_away(HttpRefusal())

    def _arm(self) -> None:
        self._unanswered.add(self)
        self._deadline = self._clock.callLater(self._handshake_timeout_s, self._too_late)

    def _disarm(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self._head_lines == 0 and not self._buffer:
            # Not a byte of a request, or not even TLS: there is nobody to explain it to.
            self._done = True
            self._metrics.connections_refused[HandshakeTimeout.code] += 1
            self.transport.abortConnection()
            return
        self.turn_away(HandshakeTimeout())
