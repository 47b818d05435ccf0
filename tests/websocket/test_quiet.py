"""What is left out of Autobahn's beginning of a connection, and that nothing else is."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket import protocol as autobahn
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.support.case import SynchronousTestCase
from tests.websocket.test_protocol import ACCEPT, KEY, Session, Transport
from voiceingest.deadlines import Deadlines
from voiceingest.metrics import Metrics
from voiceingest.websocket import HardenedFactory, HardenedProtocol, SocketRules
from voiceingest.websocket.quiet import OPTIONS


class QuietTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.factory = self.make(4096)
        self.socket = self.connect(self.factory)

    @staticmethod
    def make(max_message_bytes: int) -> HardenedFactory:
        clock = Clock()
        rules = SocketRules(max_message_bytes=max_message_bytes)
        return HardenedFactory(rules, clock, Deadlines(clock), Metrics())

    @staticmethod
    def connect(
        factory: HardenedFactory, transport: Any = None, subprotocol: str | None = None
    ) -> HardenedProtocol:
        socket = factory.build("192.0.2.1", "id-1", subprotocol, Session)
        socket.makeConnection(transport or Transport())
        return socket

    def test_every_option_of_the_factory_is_that_of_its_connections(self) -> None:
        """Also those that Autobahn may add one day; they are of the class, and copied to nobody."""
        self.assertEqual(set(OPTIONS), set(WebSocketServerProtocol.CONFIG_ATTRS))
        self.assertGreater(len(OPTIONS), 20)
        for name in OPTIONS:
            self.assertEqual(getattr(self.socket, name), getattr(self.factory, name), name)
        self.assertEqual(set(OPTIONS) & set(vars(self.socket)), set())

    def test_two_factories_keep_their_own(self) -> None:
        other = self.connect(self.make(8192))
        sizes = [one.maxMessagePayloadSize for one in (self.socket, other)]  # type: ignore[attr-defined]
        self.assertEqual(sizes, [4096, 8192])

    def test_nothing_is_printed_in_columns(self) -> None:
        """The figure this module is there for: a fourth of a handshake was ``pformat``."""
        printed: list[Any] = []
        self.patch(autobahn, "pformat", lambda value: printed.append(value) or "")
        self.connect(self.factory)
        self.assertEqual(printed, [[]])

    def test_a_subprotocol_is_named_in_the_answer(self) -> None:
        transport = Transport()
        self.connect(self.factory, transport, "voice.v1").accept(KEY)
        self.assertIn(b"\r\nSec-WebSocket-Protocol: voice.v1\r\n", transport.value())
        self.assertIn(b"\r\nSec-WebSocket-Accept: %b\r\n" % ACCEPT, transport.value())

    def test_a_transport_without_nagle(self) -> None:
        """A Unix socket."""
        self.connect(self.factory, StringTransport()).accept(KEY)

    def test_bytes_before_the_handshake_are_no_request(self) -> None:
        """Autobahn's own parser is never asked: it reads heads as others do not."""
        with self.assertRaises(RuntimeError):
            self.socket.dataReceived(b"GET / HTTP/1.1\r\n\r\n")

    def test_connections_are_counted_in_and_out(self) -> None:
        self.assertEqual(self.factory.countConnections, 1)
        self.socket.accept(KEY)
        self.socket.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.factory.countConnections, 0)
