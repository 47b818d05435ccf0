"""Autobahn's connection, begun by a handshake that somebody else has read.

Stock Autobahn reads the request by itself, and prepares lines of a log that nobody sees: it copies 29
options from the factory to each connection and prints them in columns, with where they are from; it
describes the transport, its thread and its certificate; it colours its own names. That was half of a
handshake, and a kilobyte of each connection. What it does besides is left as it is.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, TypeVar

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket import protocol as autobahn

# Autobahn's list of what it looks for on a connection and, where that has none, on its factory.
OPTIONS: Final = tuple(WebSocketServerProtocol.CONFIG_ATTRS)


class QuietProtocol(WebSocketServerProtocol):
    """Its options are of its class: :func:`with_options` makes one for a factory."""

    CONFIG_ATTRS: list[str] = []  # noqa: RUF012 - Autobahn's name and type; nothing is left to be copied

    factory: Any
    transport: Any
    send_queue: Any
    tcpNoDelay: bool
    peer = "a caller"  # for Autobahn's own lines; ours name who is allowed to be named
    websocket_version = 13

    def connectionMade(self) -> None:
        """The transport is there. Twisted's hook."""
        with suppress(AttributeError, OSError):
            # A Unix socket has no such thing.
            self.transport.setTcpNoDelay(self.tcpNoDelay)
        self._connectionMade()

    def shake_hands(self, key: str, subprotocol: str | None, headers: dict[str, str]) -> None:
        """Answer a request that has been checked, by RFC 6455 section 4.2; the connection is open then.

        ``key`` is its ``Sec-WebSocket-Key``, ``subprotocol`` one that was offered. No extension is agreed on.
        """
        self._wskey = key
        self.websocket_protocols = [] if subprotocol is None else [subprotocol]
        self.websocket_extensions: list[Any] = []
        self.succeedHandshake((subprotocol, headers))

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write, whole and in turn: nothing of ours is sent in pieces or waited for. Autobahn's hook."""
        self.transport.write(data)

    def processHandshake(self) -> None:
        """What comes before is no request: there has been one. Autobahn's hook."""
        raise RuntimeError("bytes before the handshake")

    def _connectionMade(self) -> None:
        super(autobahn.WebSocketServerProtocol, self)._connectionMade()
        self.send_queue = ()  # of ``sendData``, which is ours: an empty deque is 760 bytes
        self.factory.countConnections += 1

    def _connectionLost(self, reason: Any) -> None:
        super(autobahn.WebSocketServerProtocol, self)._connectionLost(reason)
        self.factory.countConnections -= 1


Connection = TypeVar("Connection", bound=QuietProtocol)


def with_options(protocol: type[Connection], factory: WebSocketServerFactory) -> type[Connection]:
    """``protocol`` as a class of its own that has the options of ``factory``, as they stand now."""
    options = {name: getattr(factory, name) for name in OPTIONS}
    # What is called would otherwise be a method, and be given the connection.
    called = {name: staticmethod(option) for name, option in options.items() if callable(option)}
    return type(protocol.__name__, (protocol,), {"__module__": protocol.__module__, **options, **called})
