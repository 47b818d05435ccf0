"""What is left out of Autobahn's beginning of a connection, and that nothing else is."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket import protocol as autobahn
from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.support.case import SynchronousTestCase
from tests.websocket.test_protocol import ACCEPT, KEY, Session, Transport
from voiceingest.deadlines import Deadlines
from voiceingest.metrics import Metrics
from voiceingest.websocket import HardenedFactory, HardenedProtocol, SocketRules
from voiceingest.websocket.quiet import OPTIONS, first_values


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
        self.connect(self.factory).accept(KEY)
        self.assertEqual(printed, [])

    def test_what_autobahn_begins_with_is_there(self) -> None:
        """All of it, also what it may add one day; of the class where it cannot be changed."""
        stock = WebSocketServerProtocol()
        first = first_values(type(self.socket), self.factory)
        self.assertGreater(len(first), 25)
        changing = {"send_queue", "trafficStats", "utf8validator"}
        for name, value in first.items():
            if name not in changing:
                self.assertEqual((name, getattr(self.socket, name)), (name, value))
        # Nobody waits for these, and our own ``onOpen`` and ``onMessage`` take their place.
        unused = {"is_closed", "is_open", "_valid_events", "_results", "_transport_details"}
        self.assertEqual(set(vars(stock)), unused)
        self.assertEqual(set(first) & set(vars(self.socket)), set())

    def test_what_changes_is_each_ones_own(self) -> None:
        other = self.connect(self.factory)
        for name in ("utf8validator", "trafficStats"):
            own = getattr(self.socket, name)
            self.assertIs(getattr(self.socket, name), own)
            self.assertIsNot(getattr(other, name), own)
        self.socket.accept(KEY)
        self.assertEqual((self.socket.state, other.state), (other.STATE_OPEN, other.STATE_CONNECTING))

    def test_the_answer_is_that_of_autobahn(self) -> None:
        """Byte for byte, as its own handshake writes it."""
        for subprotocol in (None, "voice.v1"):
            transport, stock_transport = Transport(), Transport()
            self.connect(self.factory, transport, subprotocol).accept(KEY)
            stock: Any = self.connect(self.factory, stock_transport, subprotocol)
            stock._wskey, stock.websocket_extensions = KEY, []
            stock.websocket_protocols = [subprotocol]
            self.patch(autobahn.txaio, "resolve", lambda *_: None)
            self.patch(WebSocketServerProtocol, "_onOpen", lambda _: None)
            stock.succeedHandshake((subprotocol, {"X-Request-Id": "id-1"}))
            self.assertEqual(transport.value(), stock_transport.value())

    def test_an_error_of_tls_is_left_to_autobahn(self) -> None:
        """Which logs it."""
        said: list[Any] = []
        self.patch(WebSocketServerProtocol, "connectionLost", lambda _, reason: said.append(reason))
        for reason in (ConnectionLost(), ConnectionAborted(), ConnectionDone(), SSL.Error()):
            self.connect(self.factory).connectionLost(Failure(reason))
        self.assertEqual([type(reason.value) for reason in said], [SSL.Error])

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
