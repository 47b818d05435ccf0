"""Autobahn's side of a client session: hooks that tell a listener, and nothing else."""

from __future__ import annotations

import json
import os
from typing import Any, Final, Protocol

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from .. import __version__
from .failures import UsageFailed
from .tally import Ending
from .target import Target
from .wsframe import KEY_BYTES, encode_binary

ANSWER_MAX_BYTES: Final = 16 * 1024
MESSAGE_MAX_BYTES: Final = 64 * 1024


class IListener(Protocol):
    """Who is told what happens on the connection."""

    def opened(self, protocol: IngestProtocol) -> None:
        """The upgrade is done."""

    def refused(self, code: str, message: str) -> None:
        """The upgrade was refused with an error code; ``ended`` follows."""

    def paused(self, paused: bool) -> None:
        """The connection has stopped, or begun again, to take bytes."""

    def heard(self, payload: bytes) -> None:
        """One text message of the server."""

    def ended(self, ending: Ending) -> None:
        """The connection is gone."""


@implementer(IPushProducer)
class IngestProtocol(WebSocketClientProtocol):
    """Autobahn's side: its hooks tell the client; what is not a hook sends."""

    client: IListener
    _failure: BaseException | None = None
    _http_status: int | None = None

    def send_message(self, payload: bytes) -> None:
        """Send one text message; only while ``takes_messages``."""
        self._autobahn.sendMessage(payload)

    def send_frame(self, audio: bytes) -> None:
        """Send one binary message; only while ``takes_messages``."""
        self._autobahn.transport.write(encode_binary(audio, os.urandom(KEY_BYTES)))

    @property
    def tls_version(self) -> str:
        """The version of TLS in use, empty without."""
        handle = self._autobahn.transport.getHandle()
        if not hasattr(handle, "get_protocol_version_name"):
            return ""
        return str(handle.get_protocol_version_name())

    @property
    def _autobahn(self) -> Any:
        # Autobahn is typed in part only, and its transport is more than an ITransport.
        return self

    def onOpen(self) -> None:
        """Autobahn's hook: the upgrade is done."""
        self._autobahn.transport.registerProducer(self, True)
        self.client.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Autobahn's hook: a message has come; the dialect has none that is binary."""
        if not isBinary:
            self.client.heard(payload)

    @property
    def takes_messages(self) -> bool:
        """Whether a message may be sent: not before the upgrade, not after a close frame."""
        return bool(self.state == self.STATE_OPEN)

    def processHandshake(self) -> None:
        """Autobahn's step: it drops the connection at the status line, but the body names the error."""
        status, body, complete = read_refusal(self.data)
        if status is not None and status != 101:
            if not complete:
                return
            self._refused(status, body)
        super().processHandshake()

    def _refused(self, status: int, body: bytes) -> None:
        self._http_status = status
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            return
        if isinstance(told, dict) and isinstance(told.get("code"), str):
            self.client.refused(told["code"], str(told.get("message")))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted's hook: the connection is gone, and ``onClose`` follows."""
        if self._http_status is None and self.state != self.STATE_OPEN:
            status, body, _ = read_refusal(self.data or b"")
            if status is not None and status != 101:
                self._refused(status, body)
        self._failure = reason.value
        super().connectionLost(reason)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Autobahn's hook: how it ended."""
        if self._http_status is not None:
            self.client.ended(Ending(http_status=self._http_status))
        else:
            self.client.ended(Ending(close_code=code or 1005, failure=None if wasClean else self._failure))

    def pauseProducing(self) -> None:
        """The transport holds more than its high-water mark."""
        self.client.paused(True)

    def resumeProducing(self) -> None:
        """The transport has written everything."""
        self.client.paused(False)

    def stopProducing(self) -> None:
        """The transport closes."""
        self.client.paused(True)


def read_refusal(answer: bytes) -> tuple[int | None, bytes, bool]:
    """The status and body of an HTTP answer so far, and whether it is all there. Pure."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return None, b"", False
    lines = head.split(b"\r\n")
    words = lines[0].split()
    if len(words) < 2 or not words[1].isdigit():
        return None, b"", False
    length = 0
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            length = min(int(value), ANSWER_MAX_BYTES)
    return int(words[1]), body[:length], len(body) >= length


def bearer(token: str | None) -> str | None:
    """The ``Authorization`` of a token. Raises: ``UsageFailed`` for one that fits in no header."""
    if token is not None and not (token.isascii() and token.isprintable()):
        raise UsageFailed("the token holds a character that no token has")
    return f"Bearer {token}" if token else None


def client_factory(
    client: IListener,
    reactor: Any,
    target: Target,
    authorization: str | None,
    protocol: type[IngestProtocol] | None = None,
    message_max_bytes: int = MESSAGE_MAX_BYTES,
) -> Any:
    """The factory of one session; ``authorization`` is the header of that name."""
    headers = {"Authorization": authorization} if authorization else {}
    factory: Any = WebSocketClientFactory(
        target.url, headers=headers, useragent=f"voiceingest/{__version__}", reactor=reactor
    )
    factory.noisy = False
    factory.protocol = type("_Bound", (protocol or IngestProtocol,), {"client": client})
    # No timer of Autobahn's: the client has a deadline of its own for everything it waits for.
    factory.setProtocolOptions(
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
        serverConnectionDropTimeout=0,
        maxFramePayloadSize=message_max_bytes,
        maxMessagePayloadSize=message_max_bytes,
        failByDrop=False,
        tcpNoDelay=True,
    )
    return factory
