"""The WebSocket of a call: JSON text both ways, written at once, and a goodbye."""

from __future__ import annotations

import os
from typing import Any, Final, Protocol

from ..link import ILinkOwner, Link
from ..target import Trust
from ..wsclient import IngestProtocol, client_factory
from ..wsframe import KEY_BYTES, encode_text
from .address import Address
from .incoming import MESSAGE_MAX_BYTES

NORMAL: Final = 1000

# How long a bot may take to answer a goodbye: it may have a few hundred to say at once.
GOODBYE_S: Final = 5.0


class ILineOwner(ILinkOwner, Protocol):
    """Who is told what happens on a line."""

    def heard_binary(self) -> None:
        """A binary message has come."""


class LineProtocol(IngestProtocol):
    """Autobahn's side: binary messages are told too, and text goes past its slow way of sending."""

    def send_text(self, payload: bytes) -> None:
        """Send one text message; only while ``takes_messages``."""
        self._autobahn.transport.write(encode_text(payload, os.urandom(KEY_BYTES)))

    def say_goodbye(self) -> None:
        """Begin the closing handshake."""
        self._autobahn.sendClose(NORMAL)

    def dataReceived(self, data: bytes) -> None:
        """Twisted's hook: bytes have come. Autobahn's own formats a line of a log that is off."""
        self._dataReceived(data)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Autobahn's hook: a message has come."""
        if isBinary:
            self._autobahn.client.heard_binary()
        else:
            self.client.heard(payload)


class Line(Link):
    """A connection to ``address``. It queues nothing: what a bot does not read is not sent."""

    _owner: ILineOwner
    _protocol: LineProtocol | None

    def __init__(self, reactor: Any, address: Address, trust: Trust, owner: ILineOwner) -> None:
        super().__init__(reactor, address.target, trust, None, owner)
        self._address = address

    def _factory(self) -> Any:
        return client_factory(
            self,
            self._reactor,
            self._address.target,
            self._address.authorization,
            LineProtocol,
            MESSAGE_MAX_BYTES,
        )

    def insist(self, payload: bytes) -> None:
        """Send one message, whether or not what was sent before has been read."""
        if self._protocol is not None and self.takes_messages:
            self._protocol.send_text(payload)

    def send_text(self, payload: bytes) -> bool:
        """Send one message; false where nothing is taken now."""
        if self._protocol is None or not self.takes_frames:
            return False
        self._protocol.send_text(payload)
        return True

    def say_goodbye(self) -> None:
        """Close in order; a far end that does not answer is hung up on."""
        if self._protocol is not None and self.takes_messages:
            self._protocol.say_goodbye()
        self.retire(GOODBYE_S)

    def heard_binary(self) -> None:
        """A binary message has come."""
        self._owner.heard_binary()
