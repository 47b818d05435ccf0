"""What a text or a binary message becomes, and what is written back, with a fake socket."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from voiceingest.auth.resume import ResumeTokens
from voiceingest.deadlines import Deadlines
from voiceingest.driver import House
from voiceingest.errors import InternalError, VoiceIngestError
from voiceingest.interfaces import Claims, Handshake, IStreamSink, StreamFacts
from voiceingest.metrics import Metrics
from voiceingest.registry import Registry
from voiceingest.stream import StreamRules
from voiceingest.transports.ingest_ws import IngestSession, IngestTransport

START = {
    "event": "start",
    "interaction_id": "call",
    "tenant_id": "acme",
    "sample_rate": 24000,
    "encoding": "pcm16",
}


HANDSHAKE = Handshake("192.0.2.1")


class FakeSocket:
    """What a session asks of a connection."""

    address = "192.0.2.1"
    request_id = "id-1"

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.paused: list[float] = []
        self.closed: list[tuple[int, str]] = []

    def send_text(self, payload: bytes) -> None:
        """Note it, as long as it is open."""
        if not self.closed:
            self.raw.append(payload)
            self.sent.append(json.loads(payload))

    def pause(self, seconds: float) -> None:
        """Note it."""
        self.paused.append(seconds)

    def close(self, code: int, reason: str) -> None:
        """Note it."""
        self.closed.append((code, reason))


class FakeLane:
    """Confirms every frame at once."""

    def __init__(self, sink: IStreamSink) -> None:
        self.sink = sink
        self.frames: list[bytes] = []
        self.events: list[str] = []

    def publish(self, seq: int, timestamp_ms: int, audio: bytes) -> None:
        """Take a frame and confirm it."""
        self.frames.append(audio)
        self.sink.confirmed(seq, len(audio))

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        """Take an event."""
        self.events.append(event)

    def close(self) -> None:
        """No more will come."""
        self.events.append("(closed)")


class FakeHouseholder:
    """Publisher and authenticator in one."""

    ready = None

    def __init__(self) -> None:
        self.lanes: list[FakeLane] = []
        self.tokens: list[str] = []

    def open_lane(self, facts: StreamFacts, sink: IStreamSink) -> FakeLane:
        """A lane that confirms at once."""
        self.lanes.append(FakeLane(sink))
        return self.lanes[-1]

    def verify(self, token: str) -> Deferred[Claims]:
        """Every token is good."""
        self.tokens.append(token)
        return succeed(Claims("s", "acme", None, 2000.0))

    def reload(self) -> None:
        """Nothing to do."""


class Case(SynchronousTestCase):
    """An open session."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.parts = FakeHouseholder()
        self.metrics = Metrics()
        self.registry = Registry(self.clock)
        self.house = House(
            rules=StreamRules(ack_interval=2),
            publisher=self.parts,
            registry=self.registry,
            authenticator=self.parts,
            deadlines=Deadlines(self.clock),
            clock=self.clock,
            wall_clock=lambda: 1000.0,
            metrics=self.metrics,
            tokens=ResumeTokens(None, 0.0, lambda: 1000.0),
        )
        self.transport = IngestTransport(self.house)
        self.socket = FakeSocket()
        self.session: IngestSession = self.transport.session(
            self.socket,  # type: ignore[arg-type]
            Claims("s", "acme", None, 2000.0),
            HANDSHAKE,
        )
        self.session.opened()

    def say(self, fields: dict[str, Any]) -> None:
        """The caller sends a text message."""
        self.session.text(json.dumps(fields).encode())


class Dispatch(Case):
    """One message at a time."""

    def test_a_whole_session(self) -> None:
        self.say(START)
        for size in (2, 4, 6):
            self.session.binary(b"\x01\x00" * size)
        self.say({"event": "stop"})
        self.assertEqual([message["event"] for message in self.socket.sent], ["started", "ack", "stopped"])
        self.assertEqual(self.socket.raw[1], b'{"event":"ack","seq":2}')
        self.assertEqual(self.parts.lanes[0].frames, [b"\x01\x00" * size for size in (2, 4, 6)])
        self.assertEqual(self.socket.closed, [(1000, "")])
        self.session.lost(1000)
        self.assertEqual(self.metrics.connections["ingest"], 0)

    def test_started_says_what_was_understood(self) -> None:
        self.say(START)
        self.assertEqual(
            self.socket.sent,
            [
                {
                    "event": "started",
                    "interaction_id": "call",
                    "tenant_id": "acme",
                    "sample_rate": 24000,
                    "encoding": "pcm16",
                    "ack_interval": 2,
                    "ack_mode": "published",
                    "epoch": 1000000,
                    "next_seq": 1,
                    "resumed": False,
                }
            ],
        )

    def test_a_fresh_token_goes_to_be_checked(self) -> None:
        self.say({"event": "auth", "token": "a.b.c"})
        self.assertEqual(self.parts.tokens, ["a.b.c"])
        self.assertEqual(self.socket.sent, [{"event": "authenticated", "expires_in_s": 1000.0}])

    def test_what_cannot_be_read_is_answered_and_the_stream_goes_on(self) -> None:
        self.say(START)
        for payload, code in (
            (b"", "bad_json"),
            (b"[1]", "bad_json"),
            (b'{"event":"sing"}', "unknown_event"),
            (b'{"event":"start"}', "bad_field"),
            (json.dumps({**START, "sample_rate": 1}).encode(), "unsupported_audio"),
            (json.dumps(START).encode(), "already_started"),
        ):
            self.session.text(payload)
            answer = self.socket.sent[-1]
            self.assertEqual((answer["event"], answer["code"]), ("error", code))
            self.assertEqual(list(answer), ["event", "code", "message"])
        self.session.binary(b"\x00" * 3)
        self.assertEqual(self.socket.sent[-1]["code"], "odd_frame")
        self.session.binary(b"\x00" * 4)
        self.session.binary(b"\x00" * 4)
        self.assertEqual((self.socket.sent[-1], self.socket.closed), ({"event": "ack", "seq": 2}, []))

    def test_a_control_message_without_end_closes_1009(self) -> None:
        self.session.text(b" " * 20_000)
        self.assertEqual(self.socket.sent[-1]["code"], "frame_too_big")
        self.assertEqual(self.socket.closed, [(1009, "frame_too_big")])

    def test_claims_that_do_not_match_close_4403(self) -> None:
        self.say({**START, "tenant_id": "other"})
        self.assertEqual(self.socket.sent[-1]["code"], "forbidden")
        self.assertEqual((self.socket.closed, self.parts.lanes), ([(4403, "forbidden")], []))

    def test_a_peer_that_is_too_fast_is_not_read(self) -> None:
        self.say(START)
        for _ in range(6):
            self.session.binary(bytes(65536))
        self.assertEqual(len(self.socket.paused), 1)
        self.assertGreater(self.socket.paused[0], 0.0)

    def test_a_refusal_by_the_socket_is_said_in_the_dialect(self) -> None:
        self.say(START)
        error: VoiceIngestError = InternalError()
        self.session.refused(error)
        self.assertEqual(self.socket.sent[-1]["code"], "internal")
        self.assertEqual(self.parts.lanes[0].events, ["started", "error", "stopped", "(closed)"])
        self.assertEqual(self.metrics.errors["internal", "ingest"], 1)


class Transport(Case):
    """What the site needs to know."""

    def test_its_name_and_its_place(self) -> None:
        self.assertEqual((self.transport.name, self.transport.path), ("ingest", "/v1/ingest"))

    def test_no_one_new_is_taken_while_draining(self) -> None:
        self.assertFalse(self.transport.refuse_new())
        self.registry.drain(30.0)
        self.assertTrue(self.transport.refuse_new())

    def test_every_caller_has_a_session_of_its_own(self) -> None:
        other = self.transport.session(FakeSocket(), Claims("s", "acme", None, 2000.0), HANDSHAKE)  # type: ignore[arg-type]
        other.opened()
        self.say(START)
        other.text(b'{"event":"stop"}')
        self.assertEqual([message["event"] for message in self.socket.sent], ["started"])
        self.assertEqual(self.metrics.connections["ingest"], 2)
