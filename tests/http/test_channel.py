"""The hardened HTTP channel against heads, bodies and numbers that are wrong, on a fake clock."""

from __future__ import annotations

import json

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.support.sockets import split_head
from voiceingest.gate import Gate
from voiceingest.http.channel import GuardedChannel
from voiceingest.limits import BODY_MAX_BYTES, CLOSE_ABORT_S, HEAD_MAX_BYTES
from voiceingest.metrics import Metrics


class Transport(StringTransport):
    """A transport that can be cut."""

    aborted = False

    def abortConnection(self) -> None:
        """Note it."""
        self.aborted = True
        self.disconnecting = True


class Root(Resource):
    """Answers with what it saw of the head."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Request] = []
        self.later = False

    def render(self, request: Request) -> bytes | int:
        """Answer, or later."""
        self.seen.append(request)
        return NOT_DONE_YET if self.later else b"hello"


class Channel(SynchronousTestCase):
    """A site of one resource; ``connect`` gives a new connection."""

    def setUp(self) -> None:
        """Make the site."""
        self.clock = Clock()
        self.metrics = Metrics()
        self.gate = Gate(100, 3)
        self.unanswered: set[GuardedChannel] = set()
        self.root = Root()
        self.site = Site(self.root, reactor=self.clock, timeout=60)
        self.site.protocol = lambda: GuardedChannel(
            self.gate, self.clock, 10.0, self.metrics, self.unanswered
        )

    def connect(self, host: str = "192.0.2.1") -> tuple[GuardedChannel, Transport]:
        """A new connection from ``host``."""
        address = IPv4Address("TCP", host, 40000)
        channel = self.site.buildProtocol(address)
        transport = Transport(peerAddress=address)
        channel.makeConnection(transport)
        return channel, transport

    def refusal(self, transport: Transport) -> tuple[bytes, str]:
        """The status line and the code of an answer."""
        head, body = split_head(transport.value())
        return head.splitlines()[0], json.loads(body)["code"]

    def close(self, channel: GuardedChannel) -> None:
        """End TCP."""
        channel.connectionLost(Failure(ConnectionDone()))


class Unanswered(Channel):
    """Which connections a shutdown waits for."""

    def test_from_its_beginning_to_its_answer(self) -> None:
        """The answer may come later; then the connection is free for the next request."""
        self.root.later = True
        channel, _ = self.connect()
        self.assertEqual(self.unanswered, {channel})
        channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(self.unanswered, {channel})
        self.root.seen[0].finish()
        self.assertEqual(self.unanswered, set())
        channel.dataReceived(b"GET / HTTP/1.1\r\n")
        self.assertEqual(self.unanswered, {channel})
        self.close(channel)
        self.assertEqual(self.unanswered, set())

    def test_an_answer_that_ends_the_connection_is_waited_for(self) -> None:
        """Until it has been sent."""
        channel, transport = self.connect()
        channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.unanswered, {channel})
        self.close(channel)
        self.assertEqual(self.unanswered, set())

    def test_who_says_nothing_and_goes(self) -> None:
        """A health check that only connects."""
        channel, _ = self.connect()
        self.close(channel)
        self.assertEqual(self.unanswered, set())

    def test_a_websocket_is_answered(self) -> None:
        """What it does from there on is its stream's."""
        channel, _ = self.connect()
        heard: list[bytes] = []
        protocol = Protocol()
        protocol.dataReceived = heard.append  # type: ignore[method-assign]
        channel.hand_over(protocol, lambda: heard.append(b"begun"))
        channel.dataReceived(b"more")
        self.assertEqual(self.unanswered, set())
        self.assertEqual(heard, [b"begun", b"more"])


class Heads(Channel):
    """What stands before the empty line."""

    def test_an_ordinary_request(self) -> None:
        """It is answered, and another on the same connection."""
        channel, transport = self.connect()
        for _ in range(2):
            transport.clear()
            channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertTrue(transport.value().startswith(b"HTTP/1.1 200"))
        self.close(channel)
        self.assertEqual(self.gate.total, 0)

    def test_control_bytes_are_refused(self) -> None:
        """Finding 4: each of them is a line break or worse to some other parser."""
        for byte in (0x00, 0x01, 0x0B, 0x0C, 0x0D, 0x0A, 0x1C, 0x1D, 0x1E, 0x1F, 0x7F, 0x85):
            with self.subTest(byte):
                channel, transport = self.connect(f"192.0.2.{byte}")
                channel.dataReceived(
                    b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b"
                    + bytes([byte])
                    + b"Authorization: Bearer x\r\n\r\n"
                )
                self.assertEqual(self.refusal(transport), (b"HTTP/1.1 400 Bad Request", "bad_request"))
                self.assertEqual(self.root.seen, [])
                self.close(channel)

    def test_control_bytes_in_the_request_line(self) -> None:
        """The path is part of the head."""
        channel, transport = self.connect()
        channel.dataReceived(b"GET /\x0bX HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(self.refusal(transport)[1], "bad_request")

    def test_folded_lines_are_refused(self) -> None:
        """RFC 9112 section 5.2: a server may refuse them, and does."""
        channel, transport = self.connect()
        channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n")
        self.assertEqual(self.refusal(transport)[1], "bad_request")

    def test_a_head_without_end(self) -> None:
        """Finding 1: one line or many, cut at the limit, and what still comes is not kept."""
        line = b"X-A: " + b"a" * 1000 + b"\r\n"
        heads = {"lines": line * 20, "one line": b"X-A: " + b"a" * 2 * HEAD_MAX_BYTES, "request line": b""}
        for name, rest in heads.items():
            with self.subTest(name):
                channel, transport = self.connect()
                start = (
                    b"GET /" + b"a" * 2 * HEAD_MAX_BYTES if name == "request line" else b"GET / HTTP/1.1\r\n"
                )
                channel.dataReceived(start + rest)
                self.assertEqual(
                    self.refusal(transport), (b"HTTP/1.1 431 Request Header Fields Too Large", "head_too_big")
                )
                for _ in range(100):
                    channel.dataReceived(line * 10)
                self.assertLess(len(channel._buffer), 4 * HEAD_MAX_BYTES)
                self.assertEqual(self.root.seen, [])
                self.close(channel)

    def test_twisted_s_own_refusals_carry_a_code(self) -> None:
        """Pins the private name that is overridden."""
        for wrong in (
            b"GARBAGE\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ):
            channel, transport = self.connect()
            channel.dataReceived(wrong)
            self.assertEqual(self.refusal(transport), (b"HTTP/1.1 400 Bad Request", "bad_request"), wrong)
            self.close(channel)


class Bodies(Channel):
    """What stands behind it."""

    def test_too_long_by_its_length(self) -> None:
        """413 before a byte of it is read."""
        channel, transport = self.connect()
        channel.dataReceived(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (BODY_MAX_BYTES + 1)
        )
        self.assertEqual(self.refusal(transport), (b"HTTP/1.1 413 Content Too Large", "frame_too_big"))

    def test_too_long_by_its_chunks(self) -> None:
        """Stock twisted.web writes it to disk without end."""
        channel, transport = self.connect()
        channel.dataReceived(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(70):
            channel.dataReceived(b"400\r\n" + bytes(1024) + b"\r\n")
        self.assertEqual(self.refusal(transport)[1], "frame_too_big")
        self.assertEqual(self.root.seen, [])

    def test_a_length_of_many_digits(self) -> None:
        """int() raises beyond 4300 of them, which stock twisted.web lets escape."""
        channel, transport = self.connect()
        channel.dataReceived(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")
        self.assertEqual(self.refusal(transport)[1], "frame_too_big")

    def test_one_that_fits(self) -> None:
        """It reaches the resource."""
        channel, transport = self.connect()
        channel.dataReceived(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BODY_MAX_BYTES
            + bytes(BODY_MAX_BYTES)
        )
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 200"))


class UnreadAnswers(Channel):
    """Who does not read is not read from, and not for long."""

    def test_no_more_questions_are_taken(self) -> None:
        """Stock twisted.web buffers answers without end: 65 MiB in 10 s from one socket."""
        channel, transport = self.connect()
        transport.producer.pauseProducing()
        self.assertEqual(transport.producerState, "paused")
        self.clock.advance(9.9)
        self.assertFalse(transport.aborted)
        self.clock.advance(0.2)
        self.assertTrue(transport.aborted)
        self.close(channel)

    def test_reading_again_in_time(self) -> None:
        channel, transport = self.connect()
        channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        transport.producer.pauseProducing()
        self.clock.advance(5)
        transport.producer.resumeProducing()
        self.assertEqual(transport.producerState, "producing")
        self.clock.advance(20)
        self.assertFalse(transport.aborted)
        self.close(channel)


class Deadline(Channel):
    """Finding 11: the timeout of twisted.web starts anew with every byte."""

    def test_a_dripped_head_is_cut_in_time(self) -> None:
        """10 s from the connection, whatever drips."""
        channel, transport = self.connect()
        for byte in b"GET / HTTP/1":
            channel.dataReceived(bytes([byte]))
            self.clock.advance(0.9)
        self.assertEqual(self.refusal(transport), (b"HTTP/1.1 408 Request Timeout", "handshake_timeout"))
        self.clock.advance(CLOSE_ABORT_S)
        self.assertTrue(transport.aborted)

    def test_silence_is_cut(self) -> None:
        """No byte, or a TLS handshake that never ends: no answer is owed."""
        _, transport = self.connect()
        self.clock.advance(10.1)
        self.assertTrue(transport.aborted)
        self.assertEqual(self.metrics.connections_refused["handshake_timeout"], 1)

    def test_a_dripped_body_is_cut_in_time(self) -> None:
        """The deadline is for the whole request."""
        channel, transport = self.connect()
        channel.dataReceived(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(12):
            channel.dataReceived(b"a")
            self.clock.advance(0.9)
        self.assertEqual(self.refusal(transport)[1], "handshake_timeout")

    def test_each_request_has_its_own(self) -> None:
        """A kept connection may be idle; its next request is timed from its first line."""
        channel, transport = self.connect()
        channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.clock.advance(30)
        transport.clear()
        channel.dataReceived(b"GET / HTTP/1.1\r\n")
        self.clock.advance(10.1)
        self.assertEqual(self.refusal(transport)[1], "handshake_timeout")

    def test_a_slow_answer_is_ours(self) -> None:
        """The peer is not blamed for it."""
        self.root.later = True
        channel, transport = self.connect()
        channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.clock.advance(60)
        self.assertFalse(transport.aborted)
        self.root.seen[0].finish()
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 200"))
        self.close(channel)


class Numbers(Channel):
    """Connections are counted from the first moment."""

    def test_too_many_from_one_address(self) -> None:
        """Told 429 with Retry-After once the head is there; another address is let in."""
        held = [self.connect()[0] for _ in range(3)]
        channel, transport = self.connect()
        channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(
            self.refusal(transport), (b"HTTP/1.1 429 Too Many Requests", "too_many_from_address")
        )
        self.assertIn(b"Retry-After: 5", transport.value())
        other, transport = self.connect("198.51.100.1")
        other.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 200"))
        for one in (*held, channel, other):
            self.close(one)
        self.assertEqual(self.gate.total, 0)

    def test_too_many_in_all(self) -> None:
        """Told 503; far past the cap nobody is told anything."""
        self.gate = Gate(4, 0)
        channels = [self.connect(f"192.0.2.{i}") for i in range(5)]
        channels[4][0].dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(
            self.refusal(channels[4][1]), (b"HTTP/1.1 503 Service Unavailable", "too_many_connections")
        )
        more = [self.connect(f"198.51.100.{i}") for i in range(20)]
        self.assertTrue(more[-1][1].aborted)
        for channel, _ in channels + more:
            self.close(channel)
        self.assertEqual(self.gate.total, 0)

    def test_a_caller_behind_the_proxy_protocol_is_counted_as_itself(self) -> None:
        """Its address is only known once the PROXY header has been read, before the first byte here."""
        self.gate = Gate(0, 1)
        first, _ = self.connect("10.0.0.1")
        second, transport = self.connect("10.0.0.1")
        transport.peerAddr = IPv4Address("TCP", "203.0.113.7", 40000)
        second.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 200"))
        third, transport = self.connect("10.0.0.1")
        transport.peerAddr = IPv4Address("TCP", "203.0.113.7", 40001)
        third.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(self.refusal(transport)[1], "too_many_from_address")
        for one in (first, second, third):
            self.close(one)
        self.assertEqual(self.gate.total, 0)

    def test_no_limits(self) -> None:
        """0 = off."""
        self.gate = Gate(0, 0)
        for _ in range(200):
            channel, transport = self.connect()
        channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 200"))
