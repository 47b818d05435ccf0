"""One connection to Deepgram: Autobahn's client, bounded, without a timer of its own.

What is written is never more than the transport's high-water mark and one message: it says when it is
full (``blocked``), and whoever owns it then writes nothing. The kernel's buffer is kept small, or a
peer that has stopped reading would be noticed minutes later. Every deadline is the owner's.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any, Final, Protocol

from autobahn.twisted.websocket import WebSocketClientProtocol
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as NobodyListens
from twisted.internet.error import DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ..limits import HEAD_MAX_BYTES
from ..websocket.frames import FIN_BINARY, FIN_TEXT, client_frame

_SEND_BUFFER_BYTES: Final = 64 * 1024
_REQUEST_ID_MAX_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended, or why there was none; ``reason`` is a short stable word."""

    reason: str
    http_status: int | None = None
    close_code: int | None = None


class ISocketOwner(Protocol):
    """Who is told what happens on a connection; after ``ended`` nothing is."""

    def opened(self, request_id: str) -> None:
        """The upgrade is done; ``request_id`` is what Deepgram calls the connection."""

    def heard(self, payload: bytes) -> None:
        """One text message of the peer."""

    def blocked(self, is_blocked: bool) -> None:
        """It has stopped, or begun again, to take bytes."""

    def ended(self, ending: Ending) -> None:
        """It is gone, or has not come about."""


class DeepgramSocket:
    """One connection, from its dialling to its end. Owners only write between ``opened`` and ``ended``."""

    def __init__(self, owner: ISocketOwner) -> None:
        self._owner: ISocketOwner | None = owner
        self._protocol: _Client | None = None
        self._connecting: Deferred[Any] | None = None

    def dial(self, endpoint: IStreamClientEndpoint, factory: Any) -> None:
        """Connect; called once, by :class:`~.dial.Dial`."""
        factory.protocol, factory.link = _Client, self
        self._connecting = connecting = endpoint.connect(factory)
        connecting.addCallbacks(self._connected, self._failed)

    def send(self, audio: bytes) -> None:
        """Send audio."""
        self._write(FIN_BINARY, audio)

    def say(self, text: bytes) -> None:
        """Send one of the three texts."""
        self._write(FIN_TEXT, text)

    def abort(self) -> None:
        """Hang up at once; the owner hears nothing more."""
        self._owner = None
        if self._protocol is not None:
            self._protocol.hang_up()
        elif self._connecting is not None:
            self._connecting.cancel()

    # --- from below

    def stands(self, protocol: _Client) -> None:
        """TCP stands."""
        self._protocol = protocol
        if self._owner is None:
            protocol.hang_up()

    def opened(self, request_id: str) -> None:
        """The upgrade is done."""
        if self._owner is not None:
            self._owner.opened(request_id)

    def heard(self, payload: bytes) -> None:
        """A text message came."""
        if self._owner is not None:
            self._owner.heard(payload)

    def blocked(self, is_blocked: bool) -> None:
        """The transport is full, or takes bytes again."""
        if self._owner is not None:
            self._owner.blocked(is_blocked)

    def ended(self, ending: Ending) -> None:
        """It is over; the first reason counts."""
        owner, self._owner = self._owner, None
        self._protocol = None
        if owner is not None:
            owner.ended(ending)

    def _write(self, first: int, payload: bytes) -> None:
        transport: Any = self._protocol and self._protocol.transport
        if transport:
            transport.write(client_frame(first, payload, os.urandom(4)))

    def _connected(self, _protocol: object) -> None:
        self._connecting = None

    def _failed(self, failure: Failure) -> None:
        self._connecting = None
        self.ended(Ending(_reason_of(failure.value)))


@implementer(IPushProducer)
class _Client(WebSocketClientProtocol):
    """Autobahn's side: its hooks tell the socket, and nothing else."""

    _request_id = ""

    @property
    def _link(self) -> DeepgramSocket:
        link: DeepgramSocket = self.factory.link
        return link

    def connectionMade(self) -> None:
        """Twisted's hook: TCP stands, and over TLS the handshake begins."""
        transport: Any = self.transport
        below = getattr(transport, "transport", transport)
        below.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        super().connectionMade()
        self._link.stands(self)

    def processHandshake(self) -> None:
        """Autobahn's step: of a refusal it keeps only a text, and it logs the text."""
        status = read_status(self.data)
        if status is None and len(self.data) > HEAD_MAX_BYTES:
            self._over(Ending("protocol"))
        elif status is not None and status != 101:
            self._over(Ending(f"http_{status}", http_status=status))
        else:
            super().processHandshake()

    def onConnect(self, response: Any) -> None:
        """Autobahn's hook: the upgrade was granted."""
        given = str(response.headers.get("dg-request-id", ""))[:_REQUEST_ID_MAX_CHARS]
        self._request_id = given if given.isascii() and given.isprintable() else ""

    def onOpen(self) -> None:
        """Autobahn's hook: messages may be sent."""
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self._link.opened(self._request_id)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Autobahn's hook: a message has come; Deepgram has none that is binary."""
        if not isBinary:
            self._link.heard(payload)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        """Autobahn's hook: the peer says goodbye. It is answered, and TCP is not waited for."""
        stopped: bool | None = super().onCloseFrame(code, reasonRaw)  # type: ignore[arg-type]
        self._over(Ending(f"closed_{code or 1005}", close_code=code or 1005))
        return stopped

    def failHandshake(self, reason: str) -> None:
        """Autobahn's step: the answer is no upgrade. It logs each; we count them and log one a minute."""
        self._over(Ending("protocol"))

    def _fail_connection(self, code: int = 1002, reason: str = "") -> None:
        """Autobahn's step: the peer breaks the protocol, or says too much at once."""
        self._over(Ending("protocol"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted's hook: TCP is gone."""
        self._link.ended(Ending(_reason_of(reason.value)))
        # As if it were a clean end: Autobahn logs an error of TLS for each attempt.
        super().connectionLost(connectionDone)

    def hang_up(self) -> None:
        """End TCP at once."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _over(self, ending: Ending) -> None:
        self._link.ended(ending)
        self.state = self.STATE_CLOSED  # what was read after that is not looked at
        self.hang_up()

    def pauseProducing(self) -> None:
        """The transport holds more than its high-water mark."""
        self._link.blocked(True)

    def resumeProducing(self) -> None:
        """The transport has written everything."""
        self._link.blocked(False)

    def stopProducing(self) -> None:
        """The transport closes."""


def read_status(answer: bytes) -> int | None:
    """The status of an HTTP answer whose head is all there, else ``None``. Pure."""
    head, end, _ = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split()
    if not end or len(words) < 2 or not words[1].isdigit() or len(words[1]) != 3:
        return None
    return int(words[1])


def _reason_of(problem: BaseException | None) -> str:
    if isinstance(problem, NobodyListens):
        return "connect_refused"
    if isinstance(problem, DNSLookupError):
        return "dns"
    if isinstance(problem, ConnectTimeout):
        return "timeout"
    return "tls" if isinstance(problem, SSL.Error | VerificationError) else "lost"
