"""A hardened connection against a peer that is slow, rude, silent or wrong, on a fake clock."""

from __future__ import annotations

import gc
import struct
import weakref
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.sockets import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    ServerFrame,
    frame,
    server_frames,
    split_head,
)
from voiceingest.deadlines import Deadlines
from voiceingest.errors import VoiceIngestError
from voiceingest.limits import CLOSE_ABORT_S
from voiceingest.metrics import Metrics
from voiceingest.websocket import HardenedFactory, HardenedProtocol, SocketRules

# RFC 6455 section 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


class Session:
    """Writes down what it hears."""

    transport_name = "ingest"

    def __init__(self, socket: HardenedProtocol) -> None:
        self.socket = socket
        self.heard: list[Any] = []
        self.fails = False

    def opened(self) -> None:
        """Note it."""
        self.heard.append("opened")

    def text(self, payload: bytes) -> None:
        """Note it."""
        self.heard.append(("text", payload))

    def binary(self, payload: bytes) -> None:
        """Note it, or fail when told to."""
        if self.fails:
            raise RuntimeError("secret dsn postgres://u:pw@h/db\r\nX-Injected: 1")
        self.heard.append(("binary", payload))

    def refused(self, error: VoiceIngestError) -> None:
        """Say it, as a dialect would."""
        self.heard.append(("refused", error.code))
        self.socket.send_text(b'{"event":"error","code":"%s"}' % error.code.encode())

    def lost(self, code: int) -> None:
        """Note it."""
        self.heard.append(("lost", code))


class Transport(StringTransport):
    """A transport whose peer reads, or does not."""

    aborted = False

    def abortConnection(self) -> None:
        """Note it."""
        self.aborted = True
        self.disconnecting = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """A TCP transport has it."""


class Connection(SynchronousTestCase):
    """An open connection for each test."""

    rules = SocketRules(max_message_bytes=4096, realtime_factor=8.0)

    def setUp(self) -> None:
        """Connect and shake hands."""
        self.clock = Clock()
        self.metrics = Metrics()
        self.deadlines = Deadlines(self.clock)
        factory = HardenedFactory(self.rules, self.clock, self.deadlines, self.metrics)
        sessions: list[Session] = []
        self.socket = factory.build(
            "192.0.2.1", "id-1", None, lambda socket: sessions.append(Session(socket)) or sessions[0]
        )
        self.session = sessions[0]
        self.transport = Transport()
        self.socket.makeConnection(self.transport)
        self.socket.accept(KEY)
        head, _ = split_head(self.transport.value())
        self.assertTrue(head.startswith(b"HTTP/1.1 101"), head)
        self.head = head
        self.transport.clear()

    def read(self, *frames: bytes) -> None:
        """Let the connection read."""
        self.socket.dataReceived(b"".join(frames))

    def written(self) -> list[ServerFrame]:
        """What it has written since the last look."""
        frames = list(server_frames(self.transport.value()))
        self.transport.clear()
        return frames

    def lose(self) -> None:
        """End TCP."""
        self.socket.connectionLost(Failure(ConnectionDone()))

    def binaries(self) -> list[bytes]:
        """The audio that was heard."""
        return [said[1] for said in self.session.heard if said[0] == "binary"]


class Leaving(Connection):
    """A connection that is gone is freed at once: garbage may be collected in an hour, and adds up."""

    def free(self) -> Any:
        """Forget the connection, as whoever knew it does; what is left of it."""
        left = weakref.ref(self.socket)
        del self.socket, self.session.socket
        return left()

    def setUp(self) -> None:
        """No garbage is collected."""
        gc.disable()
        self.addCleanup(gc.enable)
        super().setUp()

    def test_it_does_not_hold_itself(self) -> None:
        """As Autobahn's own would, by an ``is_closed`` that is fired with the connection."""
        self.transport.unregisterProducer()
        self.lose()
        self.assertIsNone(self.free())

    def test_its_transport_does_not_hold_it(self) -> None:
        """TLS keeps the producer that is registered with it; what is below tells it of its end."""
        self.transport.producer.stopProducing()
        self.assertIsNone(self.transport.producer)
        self.lose()
        self.assertIsNone(self.free())

    def test_what_twisted_leaves_of_a_cut_is_collected(self) -> None:
        """An error of OpenSSL holds itself by its frames, and the connection with it."""
        error: list[Any] = [self.socket]
        error.append(error)
        del error
        self.transport.producer.stopProducing()
        self.socket.connectionLost(Failure(ConnectionLost()))
        self.assertIsNone(self.free())

    def test_nor_after_both_have_closed(self) -> None:
        """Autobahn has dropped the connection by then."""
        self.read(frame(CLOSE, struct.pack("!H", 1000)))
        self.lose()
        self.assertIsNone(self.free())


class Reading(Connection):
    """The straight line and Autobahn's state machine, mixed."""

    def test_the_key_is_answered(self) -> None:
        """By the example of RFC 6455 section 1.3; no extension and no subprotocol that was not asked for."""
        first, *lines = self.head.split(b"\r\n")
        self.assertEqual(first, b"HTTP/1.1 101 Switching Protocols")
        names = {b"Upgrade: WebSocket", b"Connection: Upgrade", b"X-Request-Id: id-1"}
        self.assertEqual(set(lines), names | {b"Sec-WebSocket-Accept: " + ACCEPT})

    def test_head_says_nothing_about_us(self) -> None:
        """Finding 13: no ``Server: AutobahnPython/...``."""
        self.assertNotIn(b"server", self.head.lower())

    def test_mixed_traffic_keeps_its_order(self) -> None:
        """Audio, text, fragments and pings in one read and cut anywhere."""
        stream = b"".join(
            [
                frame(BINARY, b"aa"),
                frame(TEXT, b"{}"),
                frame(BINARY, b"bb"),
                frame(BINARY, b"c", fin=False),
                frame(PING, b"p"),
                frame(CONTINUATION, b"c"),
                frame(BINARY, b"dd" * 200),
                frame(TEXT, b"[]"),
            ]
        )
        expected = [
            ("binary", b"aa"),
            ("text", b"{}"),
            ("binary", b"bb"),
            ("binary", b"cc"),
            ("binary", b"dd" * 200),
            ("text", b"[]"),
        ]
        for cut in (1, 2, 3, 7, 50, len(stream)):
            del self.session.heard[:]
            for at in range(0, len(stream), cut):
                self.read(stream[at : at + cut])
            self.assertEqual(self.session.heard, expected, cut)
            self.assertEqual([said.opcode for said in self.written()], [PONG])
            self.clock.advance(1)

    def test_too_big_is_1009_with_an_error(self) -> None:
        """Finding 6: declared, fragmented or whole; nothing of it is heard, a reset is not sent."""
        self.read(frame(BINARY, bytes(4096)), frame(BINARY, bytes(4097)))
        error, close = self.written()
        self.assertIn(b"frame_too_big", error.payload)
        self.assertEqual(close.close_code, 1009)
        self.assertEqual([len(audio) for audio in self.binaries()], [4096])
        self.assertFalse(self.transport.aborted)

    def test_a_terabyte_declared_takes_no_memory(self) -> None:
        """Finding 6: the length alone is enough."""
        self.read(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"mask")
        self.assertEqual(self.written()[-1].close_code, 1009)
        self.read(bytes(100_000))
        self.assertLess(len(self.socket.data), 1000)

    def test_fragments_past_the_limit(self) -> None:
        """Finding 6: the sum counts."""
        self.read(frame(BINARY, bytes(3000), fin=False), frame(CONTINUATION, bytes(3000)))
        self.assertEqual(self.written()[-1].close_code, 1009)

    def test_violations_close_with_a_frame(self) -> None:
        """Finding 8: 1002 and 1007 instead of a reset."""
        cases = {1002: frame(BINARY, b"ab", masked=False), 1007: frame(TEXT, b"\xff\xfe")}
        for code, wrong in cases.items():
            self.setUp()
            self.read(wrong)
            self.assertEqual(self.written()[-1].close_code, code)
            self.assertFalse(self.transport.aborted)

    def test_a_failing_session_is_1011_and_says_nothing(self) -> None:
        """Findings 3 and 7: our bug is ours; neither a reset nor its text goes out."""
        self.session.fails = True
        self.read(frame(BINARY, b"ab"))
        frames = self.written()
        self.assertEqual(frames[-1].close_code, 1011)
        self.assertNotIn(b"postgres", b"".join(said.payload for said in frames))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_nothing_is_heard_after_our_close(self) -> None:
        """What comes after the close frame is not taken."""
        self.socket.close(1001, "draining")
        self.read(frame(BINARY, b"ab"), frame(TEXT, b"{}"))
        self.assertEqual(self.session.heard, ["opened"])


class Rates(Connection):
    """Frames are counted, not only bytes."""

    def test_empty_fragments_are_a_flood(self) -> None:
        """Finding 15: 1.6 million of them kept stock Autobahn busy for seconds."""
        self.read(frame(BINARY, b"", fin=False), frame(CONTINUATION, b"", fin=False) * 20_000)
        self.assertEqual(self.written()[-1].close_code, 4429)
        self.assertIn(("refused", "rate_limited"), self.session.heard)

    def test_a_ping_flood_is_a_flood(self) -> None:
        """Finding 5: each ping would cost a pong."""
        self.read(frame(PING, b"x" * 100) * 20_000)
        frames = self.written()
        self.assertLess(len(frames), 3000)
        self.assertEqual(frames[-1].close_code, 4429)

    def test_the_rest_of_a_flood_is_not_looked_at(self) -> None:
        """One read holds 10000 frames: parsing them all after the refusal stalls the neighbours."""
        begun: list[int] = []
        parsed = type(self.socket).onFrameBegin
        self.patch(type(self.socket), "onFrameBegin", lambda socket: (begun.append(1), parsed(socket)))
        self.read(frame(BINARY, b"", fin=False), frame(CONTINUATION, b"", fin=False) * 20_000)
        self.assertLess(len(begun), 3000)
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.pump([0.5] * (int(CLOSE_ABORT_S * 2) + 1))
        self.assertTrue(self.transport.aborted)

    def test_a_little_too_fast_is_paced(self) -> None:
        """Nothing is lost and nobody is thrown out: reading stops for a while."""
        self.read(*[frame(BINARY, b"ab")] * 600)
        self.assertEqual(len(self.binaries()), 600)
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.advance(0.4)
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.advance(0.2)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(self.metrics.streams_paced, 1)

    def test_factor_nought_is_off(self) -> None:
        """0 = off, as the settings say."""
        self.rules = SocketRules(max_message_bytes=4096, realtime_factor=0.0)
        self.setUp()
        self.read(*[frame(BINARY, b"ab")] * 20_000)
        self.assertEqual(len(self.binaries()), 20_000)
        self.assertEqual(self.transport.producerState, "producing")


class SlowPeer(Connection):
    """Finding 5: stock Autobahn buffers without bound for a peer that does not read."""

    def test_not_reading_stops_reading_then_cuts(self) -> None:
        """Paused at once, cut at the deadline, counted."""
        self.transport.producer.pauseProducing()
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.advance(self.rules.write_timeout_s - 0.1)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(0.2)
        self.assertTrue(self.transport.aborted)
        self.lose()
        self.assertEqual(self.session.heard[-1], ("lost", 4408))
        self.assertEqual(self.metrics.close_codes["4408"], 1)
        self.assertEqual(self.metrics.errors["slow_consumer", "ingest"], 1)

    def test_reading_again_in_time(self) -> None:
        """The deadline is for one stall, not for all of them together."""
        for _ in range(5):
            self.transport.producer.pauseProducing()
            self.clock.advance(self.rules.write_timeout_s - 1)
            self.transport.producer.resumeProducing()
            self.assertEqual(self.transport.producerState, "producing")
        self.assertFalse(self.transport.aborted)

    def test_an_unanswered_close_is_cut(self) -> None:
        """An abort timer runs after our close frame."""
        self.socket.close(1001, "draining")
        self.assertEqual(self.written()[-1].close_code, 1001)
        self.clock.advance(CLOSE_ABORT_S - 0.1)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(0.2)
        self.assertTrue(self.transport.aborted)

    def test_an_answered_close_ends_in_order(self) -> None:
        """No reset when both close frames have been seen; a peer that lingers is cut after all."""
        self.socket.close(4401, "token_expired")
        self.read(frame(CLOSE, struct.pack("!H", 4401)))
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(CLOSE_ABORT_S + 0.1)
        self.assertTrue(self.transport.aborted)
        self.lose()
        self.assertEqual(self.session.heard[-1], ("lost", 4401))

    def test_a_close_in_the_middle_of_a_message_ends_in_order_too(self) -> None:
        """What was read of it is not forgotten: its rest would be taken for another frame."""
        message = frame(BINARY, bytes(range(256)) * 8)
        self.read(message[:700])
        self.socket.close(1001, "draining")
        self.written()
        self.read(message[700:], frame(CLOSE, struct.pack("!H", 1001)))
        self.assertEqual((self.transport.disconnecting, self.transport.aborted), (True, False))
        self.assertTrue(self.socket.wasClean)
        self.assertEqual((self.binaries(), self.written()), ([], []))

    def test_the_peer_closes(self) -> None:
        """Its code is echoed and counted."""
        self.read(frame(CLOSE, struct.pack("!H", 1000)))
        self.assertEqual(self.written()[-1].close_code, 1000)
        self.lose()
        self.assertEqual(self.session.heard[-1], ("lost", 1000))
        self.assertEqual(len(self.deadlines), 0)

    def test_every_code_of_ours_can_be_sent(self) -> None:
        """Finding 7: stock ``sendClose`` raises for 1001-1015."""
        for code in (1000, 1001, 1009, 1011, 1013, 4400, 4429):
            self.setUp()
            self.socket.close(code, "why")
            self.assertEqual(self.written()[-1].close_code, code)


class Heartbeat(Connection):
    """Finding 14: any byte counts as a sign of life, and a dead peer is found."""

    rules = SocketRules(ping_interval_s=20, ping_timeout_s=20, write_timeout_s=1000)

    def test_a_silent_peer_is_pinged_and_cut(self) -> None:
        """interval + timeout, then gone."""
        self.clock.advance(19)
        self.assertEqual(self.written(), [])
        self.clock.advance(1.1)
        self.assertEqual([said.opcode for said in self.written()], [PING])
        self.clock.pump([1] * 19)
        self.assertFalse(self.transport.aborted)
        self.clock.pump([1] * 2)
        self.assertTrue(self.transport.aborted)

    def test_a_pong_or_a_dripped_frame_keeps_it(self) -> None:
        """Stock autoPing kills a frame that takes longer than interval + timeout to arrive."""
        whole = frame(BINARY, bytes(300))
        for byte in range(100):
            self.read(whole[byte : byte + 1])
            self.clock.advance(5)
        self.assertFalse(self.transport.aborted)
        self.assertEqual([said.opcode for said in self.written()], [])

    def test_pongs_keep_it(self) -> None:
        """A peer that only answers pings lives."""
        for _ in range(10):
            self.clock.pump([1] * 21)
            self.assertEqual([said.opcode for said in self.written()], [PING])
            self.read(frame(PONG))
        self.assertFalse(self.transport.aborted)

    def test_a_stopped_reactor_kills_nobody(self) -> None:
        """Scenario 33: after a long stall everybody may speak before being judged."""
        self.clock.advance(20.1)
        self.clock.advance(30)
        self.read(frame(PONG))
        self.clock.advance(2)
        self.assertFalse(self.transport.aborted)

    def test_off(self) -> None:
        """0: no pings."""
        self.rules = SocketRules(ping_interval_s=0)
        self.setUp()
        self.clock.pump([10] * 100)
        self.assertEqual(self.written(), [])
        self.assertFalse(self.transport.aborted)
