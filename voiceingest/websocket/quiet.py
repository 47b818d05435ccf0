"""Autobahn's connection, begun by a handshake that somebody else has read.

Stock Autobahn reads the request by itself, and prepares lines of a log that nobody sees: it copies 29
options and 35 values to begin with from the factory and its source to each connection, prints them in
columns, with where they are from; it describes the transport, its thread and its certificate; it colours
its own names. That was half of a handshake, and two kilobytes of each connection. The answer to the
request is written here (RFC 6455 section 4.2.2); what Autobahn does besides is left as it is.
"""

from __future__ import annotations

import gc
from base64 import b64encode
from functools import cached_property
from hashlib import sha1
from types import NoneType
from typing import Any, Final, TypeVar

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket import protocol as autobahn
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.error import ConnectionClosed, ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

# Autobahn's list of what it looks for on a connection and, where that has none, on its factory.
OPTIONS: Final = tuple(WebSocketServerProtocol.CONFIG_ATTRS)

# What a connection may share with all others until it has one of its own: it cannot be changed.
_UNCHANGING: Final = (NoneType, bool, int, float, str, bytes)

# RFC 6455 section 1.3.
_MAGIC: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Unheard:
    """In place of the Deferreds of a connection that nobody waits for."""

    def callback(self, result: object) -> None:
        """It has happened."""


class QuietProtocol(WebSocketServerProtocol):
    """Its options and first values are of its class: :func:`with_options` makes one for a factory."""

    CONFIG_ATTRS: list[str] = []  # noqa: RUF012 - Autobahn's name and type; nothing is left to be copied

    factory: Any
    transport: Any
    peer = "a caller"  # for Autobahn's own lines; ours name who is allowed to be named
    websocket_version = 13
    is_open = is_closed = Unheard()
    inside_message = False
    current_frame: Any = None
    # Made when they are asked for: text that is not ASCII or comes in pieces; Autobahn's own count.
    utf8validator: Any = cached_property(lambda _: Utf8Validator())
    trafficStats: Any = cached_property(lambda _: autobahn.TrafficStats())
    send_queue: Any = ()  # of ``sendData``, which is ours: an empty deque is 760 bytes

    def __init__(self) -> None:
        """Autobahn's makes two Deferreds, a description of the transport and a list of events."""

    def connectionMade(self) -> None:
        """The transport is there, and TCP_NODELAY set by the channel it comes from. Twisted's hook."""
        self.factory.countConnections += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone. Twisted's hook."""
        if isinstance(reason.value, ConnectionClosed):
            self._connectionLost(reason)  # what the adapter's connectionLost does between two log lines
        else:
            super().connectionLost(reason)

    def shake_hands(self, key: str, subprotocol: str | None, headers: str) -> None:
        """Answer a request that has been checked; the connection is open then.

        ``key`` is its ``Sec-WebSocket-Key``, ``subprotocol`` one that was offered, ``headers`` whole lines.
        No extension is agreed on.
        """
        self.websocket_protocol_in_use = subprotocol
        accept = b64encode(sha1((key + _MAGIC).encode("ascii"), usedforsecurity=False).digest()).decode()
        agreed = "" if subprotocol is None else f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
        answer = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
            f"{headers}{agreed}Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        self.transport.write(answer.encode("utf-8"))
        # What is asked for with every frame is found faster on the connection itself.
        self.data, self.current_frame, self.inside_message = b"", None, False
        self.state = self.STATE_OPEN
        self.onOpen()

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write, whole and in turn: nothing of ours is sent in pieces or waited for. Autobahn's hook."""
        self.transport.write(data)

    def processHandshake(self) -> None:
        """What comes before is no request: there has been one. Autobahn's hook."""
        raise RuntimeError("bytes before the handshake")

    def _connectionLost(self, reason: Any) -> None:
        super(autobahn.WebSocketServerProtocol, self)._connectionLost(reason)
        self.factory.countConnections -= 1
        if reason.check(ConnectionLost):
            # Where TLS was cut, Twisted has caught an error whose frames hold it, and itself by them: the
            # whole of OpenSSL's state, until garbage is collected. What is that young is collected in 20 us.
            gc.collect(0)


Connection = TypeVar("Connection", bound=QuietProtocol)


def with_options(protocol: type[Connection], factory: WebSocketServerFactory) -> type[Connection]:
    """``protocol`` as a class of its own that has the options of ``factory``, as they stand now.

    What Autobahn sets on a connection that is made, and that cannot be changed but by setting it anew, is
    of the class too.
    """
    options = {name: getattr(factory, name) for name in OPTIONS}
    # What is called would otherwise be a method, and be given the connection.
    called = {name: staticmethod(option) for name, option in options.items() if callable(option)}
    made = type(protocol.__name__, (protocol,), {"__module__": protocol.__module__, **options, **called})
    for name, value in first_values(made, factory).items():
        if isinstance(value, _UNCHANGING):
            setattr(made, name, value)
    return made


def first_values(protocol: type[QuietProtocol], factory: WebSocketServerFactory) -> dict[str, Any]:
    """What Autobahn sets on a connection of ``factory`` that is made."""
    connection = protocol.__new__(protocol)
    connection.factory = factory
    autobahn.WebSocketProtocol._connectionMade(connection)  # noqa: SLF001 - it is what is looked at
    values = dict(vars(connection))
    del values["factory"]
    return values
