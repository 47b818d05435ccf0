"""Frames over a real JetStream to what its stream holds, and everything that can happen to the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import nats
import nats.errors
from nats.js import api
from pydantic import SecretStr
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import formatEvent, globalLogPublisher

from tests.integration.callers import audio_of
from tests.integration.case import IngestCase, asynchronous
from tests.publishers.contract import NotingListener, PublisherContract, pause, until
from tests.publishers.fakes import NotingSink, make_settings
from tests.support.case import TestCase
from tests.support.daemon import HOST, ROOT, free_port
from tests.support.nats_accounts import NatsAccount
from tests.support.nats_servers import NatsServer
from tests.support.servers import TlsFiles
from voiceingest.aio import as_deferred, as_future
from voiceingest.audio import AudioFormat
from voiceingest.config.settings import Settings
from voiceingest.interfaces import StreamFacts
from voiceingest.metrics import Metrics
from voiceingest.publishers.delivery import Delivery
from voiceingest.publishers.lane import Lane
from voiceingest.publishers.nats_jetstream import NatsJetStream
from voiceingest.wire.envelope import FrameMessage, decode_frame

SECRET = "s3cr3t-canary-42"
FRAME_S = 0.02
FRAME = bytes(range(256)) * 3 + bytes(192)
STREAM = "VOICEINGEST"
# A second for the close; a frozen server is waited for longer than that by any other way.
STOPPED_AT_ONCE_S = 4.5
_READ_AHEAD = 200
_READ_AGAIN = 10


@dataclass(frozen=True, slots=True)
class Stored:
    """One message as the stream holds it."""

    subject: str
    headers: dict[str, str]
    payload: bytes

    @property
    def frame(self) -> FrameMessage:
        return decode_frame(self.payload)


async def _read_stream(url: str, stream: str) -> list[Stored]:
    client = await nats.connect(url.replace("nats+tls:", "tls:").split(","), connect_timeout=5)
    try:
        js = client.jetstream(timeout=5)
        held = (await js.stream_info(stream)).state.messages
        stored: list[Stored] = []
        # Not by a consumer: making one takes JetStream's own leader, which may just have been killed.
        for first in range(1, held + 1, _READ_AHEAD):
            asked = range(first, min(first + _READ_AHEAD, held + 1))
            messages = await asyncio.gather(*(js.get_msg(stream, seq) for seq in asked))
            stored += [
                Stored(one.subject or "", dict(one.headers or {}), one.data or b"") for one in messages
            ]
        return stored
    finally:
        await client.close()


async def read_stream(url: str, stream: str = STREAM) -> list[Stored]:
    """All that the stream holds, in its order."""
    for _ in range(_READ_AGAIN):
        # Its leader may be a new one that is not to be found at once.
        with contextlib.suppress(nats.errors.Error, ExceptionGroup):
            return await as_deferred(_read_stream(url, stream))
        await pause(0.5)
    return await as_deferred(_read_stream(url, stream))


async def _make_stream(url: str, **config: Any) -> None:
    client = await nats.connect(url)
    try:
        await client.jetstream(timeout=5).add_stream(name=STREAM, **config)
    finally:
        await client.close()


class Subscriber(threading.Thread):
    """A consumer of core NATS in a thread of its own; subscribed when the constructor returns."""

    def __init__(self, test: TestCase, server: NatsServer) -> None:
        super().__init__(daemon=True)
        self.messages: list[tuple[str, bytes]] = []
        self._socket = socket.create_connection((HOST, server.port), timeout=10.0)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        self._socket.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB audio.> 1\r\nPING\r\n')
        assert self._file.readline() == b"PONG\r\n"
        self._socket.settimeout(None)
        test.addCleanup(self.end)
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := self._file.readline():
                words = line.decode().split()
                if words[0] == "HMSG":
                    body = self._file.read(int(words[-1]) + 2)[int(words[-2]) : -2]
                    self.messages.append((words[1].replace(".", ":"), body))
                elif words[0] == "PING":
                    self._socket.sendall(b"PONG\r\n")

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.join(10.0)
        self._file.close()
        self._socket.close()


class NatsContractTests(PublisherContract, TestCase):
    def make_settings(self) -> Settings:
        self.server = NatsServer(self)
        return make_settings(publish_url=SecretStr(self.server.url()))

    def make_bus(self, settings: Settings, metrics: Metrics) -> NatsJetStream:
        from twisted.internet import reactor

        return NatsJetStream(settings, reactor, metrics)

    def listen(self, bus: NatsJetStream) -> None:
        self.subscriber = Subscriber(self, self.server)

    def arrived(self) -> list[tuple[str, bytes]]:
        return list(self.subscriber.messages)


class NatsTestCase(TestCase):
    """One delivery over one JetStream."""

    def begin(self, url: str, **settings: Any) -> Delivery:
        from twisted.internet import reactor

        self.metrics = Metrics()
        quick = {"publish_retry_max_s": 0.2, "publish_connect_timeout_s": 6.0, "buffer_duration_ms": 30_000}
        self.settings = make_settings(publish_url=SecretStr(url), **{**quick, **settings})
        self.bus = NatsJetStream(self.settings, reactor, self.metrics)
        delivery = Delivery(self.bus, self.settings, reactor, time.time, self.metrics)
        self.addCleanup(delivery.stop, 0)
        delivery.start()
        return delivery

    def open(
        self, delivery: Delivery, interaction_id: str = "call-1", tenant_id: str = "acme"
    ) -> tuple[Lane, NotingSink]:
        sink = NotingSink()
        facts = StreamFacts(tenant_id, interaction_id, AudioFormat(24000), epoch=7)
        return delivery.open_lane(facts, sink), sink

    async def speak(self, lanes: list[Lane], first_seq: int, count: int) -> int:
        """Hand over ``count`` frames of each in real time; answers the next seq."""
        begun = time.monotonic()
        for number in range(count):
            for lane in lanes:
                lane.publish(first_seq + number, first_seq + number, FRAME)
            await pause(max(0.0, begun + (number + 1) * FRAME_S - time.monotonic()))
        return first_seq + count

    def assert_once_in_order(self, stored: list[Stored], interaction_id: str, last_seq: int) -> None:
        """Every frame 1..last_seq of the stream, once, in order."""
        frames = [one.frame for one in stored if one.subject.startswith("audio.frames")]
        seqs = [frame.seq for frame in frames if frame.interaction_id == interaction_id]
        self.assertEqual(seqs, [*range(1, last_seq + 1)])

    def logged(self) -> list[str]:
        """Every line of the log from now on."""
        lines: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            lines.append(f"{formatEvent(event)} {event!r}")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return lines


class OneServerTests(NatsTestCase):
    async def test_what_the_stream_holds(self) -> None:
        server = NatsServer(self)
        delivery = self.begin(server.url(), nats_events_subject="audio.events.{tenant_id}.{interaction_id}")
        lane, sink = self.open(delivery, interaction_id="a.b *>ü")
        lane.publish_event("started", {"epoch": 7})
        lane.publish(1, 5, FRAME)
        await until(lambda: sink.confirmed_seqs == [1], "a confirmation")
        event, frame = await read_stream(server.url())
        self.assertEqual(event.subject, "audio.events.acme.a%2Eb%20%2A%3E%C3%BC")
        self.assertEqual(frame.subject, "audio.frames")
        self.assertEqual(
            frame.headers, {"Nats-Msg-Id": "acme:a%2Eb%20%2A%3E%C3%BC:7:1", "Voiceingest-Epoch": "7"}
        )
        self.assertRegex(event.headers["Nats-Msg-Id"], r"^acme:a%2Eb%20%2A%3E%C3%BC:7:e:\d+:[0-9a-f]{16}$")
        self.assertEqual((frame.frame.interaction_id, frame.frame.audio), ("a.b *>ü", FRAME))
        self.assertEqual(json.loads(event.payload)["event"], "started")

    async def test_the_stream_is_made_as_the_settings_say(self) -> None:
        server = NatsServer(self)
        delivery = self.begin(
            server.url(),
            nats_stream="CALLS",
            nats_subject="calls.{tenant_id}.audio",
            nats_max_age_s=60.0,
            nats_max_bytes=2_000_000,
            nats_duplicate_window_s=120.0,
        )
        await until(lambda: delivery.ready is None, "readiness")
        client = await as_deferred(nats.connect(server.url()))
        info = await as_deferred(client.jetstream().stream_info("CALLS"))
        await as_deferred(client.close())
        config = info.config
        self.assertEqual(config.subjects, ["calls.*.audio", "audio.events"])
        self.assertEqual((config.storage, config.num_replicas, config.max_bytes), ("file", 1, 2_000_000))
        self.assertEqual((config.max_age, config.duplicate_window), (60.0, 60.0))

    async def test_a_stream_that_is_there_is_left_alone_and_its_differences_are_said(self) -> None:
        server = NatsServer(self)
        await as_deferred(_make_stream(server.url(), subjects=["audio.>"], max_age=5))
        lines = self.logged()
        delivery = self.begin(server.url())
        await until(lambda: delivery.ready is None, "readiness")
        (line,) = [line for line in lines if "nats_stream_differs" in line]
        self.assertIn("max_age_s is 5.0, the settings say 3600.0; max_bytes is -1", line)

    async def test_a_stream_that_does_not_cover_a_subject_is_not_ready(self) -> None:
        server = NatsServer(self)
        await as_deferred(_make_stream(server.url(), subjects=["audio.frames"]))
        delivery = self.begin(server.url())
        await until(lambda: delivery.ready == "subject", "the reason")
        self.assertEqual(self.metrics.bus_connects, 0)

    async def test_a_server_without_jetstream_is_not_ready(self) -> None:
        server = NatsServer(self, jetstream=False)
        delivery = self.begin(server.url())
        await until(lambda: delivery.ready == "nojetstream", "the reason")
        self.assertEqual(self.metrics.bus_connects, 0)

    async def test_a_connection_cut_in_flight_leaves_everything_once(self) -> None:
        server = NatsServer(self)
        delivery = self.begin(server.url())
        await until(lambda: delivery.ready is None, "readiness")
        opened = [self.open(delivery, f"call-{number}") for number in range(20)]
        lanes = [lane for lane, _ in opened]
        seq = 1
        for _ in range(5):
            seq = await self.speak(lanes, seq, 10)
            await until(lambda: delivery.is_up, "the next connection")
            for lane in lanes:
                lane.publish(seq, seq, FRAME)
            seq += 1
            delivery.flush_now()
            # Just written, and no turn of the reactor since: every one of these is in flight.
            self.bus.drop_connection("timeout")
        await until(lambda: all(len(sink.heard) == seq - 1 for _, sink in opened), "all confirmations")
        stored = await read_stream(server.url())
        self.assertEqual(len(stored), 20 * (seq - 1))
        for number, (_, sink) in enumerate(opened):
            self.assertEqual(sink.heard, [*range(1, seq)])
            self.assert_once_in_order(stored, f"call-{number}", seq - 1)
        self.assertEqual(self.metrics.bus_disconnects["timeout"], 5)

    async def test_a_frozen_server_is_cut_and_found_again(self) -> None:
        server = NatsServer(self)
        delivery = self.begin(server.url(), publish_reply_timeout_s=0.5, publish_connect_timeout_s=0.5)
        lane, sink = self.open(delivery)
        await until(lambda: delivery.ready is None, "readiness")
        seq = await self.speak([lane], 1, 10)
        server.freeze()
        seq = await self.speak([lane], seq, 10)
        await until(lambda: self.metrics.bus_disconnects["timeout"] >= 3, "attempts with a bound")
        self.assertEqual(delivery.ready, "timeout")
        server.thaw()
        seq = await self.speak([lane], seq, 10)
        await until(lambda: sink.confirmed_seqs == [*range(1, seq)], "the backlog")
        self.assert_once_in_order(await read_stream(server.url()), "call-1", seq - 1)

    async def test_a_killed_server_is_found_again_with_what_it_had(self) -> None:
        server = NatsServer(self)
        delivery = self.begin(server.url())
        lane, sink = self.open(delivery)
        await until(lambda: delivery.ready is None, "readiness")
        seq = await self.speak([lane], 1, 20)
        server.kill()
        seq = await self.speak([lane], seq, 20)
        await until(lambda: delivery.ready == "refused", "the reason")
        server.restart()
        seq = await self.speak([lane], seq, 20)
        await until(lambda: sink.confirmed_seqs == [*range(1, seq)], "the backlog")
        self.assert_once_in_order(await read_stream(server.url()), "call-1", seq - 1)

    async def test_a_message_larger_than_the_server_takes_is_refused_alone(self) -> None:
        server = NatsServer(self, extra=["max_payload: 8192"])
        delivery = self.begin(server.url())
        lane, sink = self.open(delivery)
        await until(lambda: delivery.ready is None, "readiness")
        for seq, size_bytes in enumerate((960, 9600, 960), 1):
            lane.publish(seq, seq, bytes(size_bytes))
        await until(lambda: len(sink.heard) == 3, "an answer to each")
        await until(lambda: delivery.gaps._call is None, "the report of the gap")
        self.assertEqual((sink.confirmed_seqs, sink.dropped_seqs), ([1, 3], [2]))
        self.assertEqual(self.metrics.bus_refused, {"too_big": 1})
        self.assertEqual(self.metrics.bus_connects, 1)

    async def test_a_subject_longer_than_the_server_takes_is_refused_alone(self) -> None:
        server = NatsServer(self, extra=["max_control_line: 512"])
        delivery = self.begin(server.url(), nats_subject="audio.frames.{interaction_id}")
        lane, sink = self.open(delivery)
        long, long_sink = self.open(delivery, "c" * 128)
        too_long, too_long_sink = self.open(delivery, "é" * 100)
        await until(lambda: delivery.ready is None, "readiness")
        for one in (too_long, lane, long):
            one.publish(1, 1, FRAME)
        await until(lambda: sink.heard and long_sink.heard and too_long_sink.heard, "an answer to each")
        self.assertEqual((sink.confirmed_seqs, long_sink.confirmed_seqs), ([1], [1]))
        self.assertEqual(too_long_sink.dropped_seqs, [1])
        self.assertEqual(self.metrics.bus_disconnects["control_line"], self.metrics.bus_connects - 1)
        self.assertEqual(set(self.metrics.bus_refused), {"too_big"})

    async def test_a_message_larger_than_the_stream_takes_is_refused_alone(self) -> None:
        server = NatsServer(self)
        await as_deferred(_make_stream(server.url(), subjects=["audio.>"], max_msg_size=8192))
        delivery = self.begin(server.url())
        lane, sink = self.open(delivery)
        await until(lambda: delivery.ready is None, "readiness")
        for seq, size_bytes in enumerate((960, 9600, 960), 1):
            lane.publish(seq, seq, bytes(size_bytes))
        await until(lambda: len(sink.heard) == 3, "an answer to each")
        await until(lambda: delivery.gaps._call is None, "the report of the gap")
        self.assertEqual((sink.confirmed_seqs, sink.dropped_seqs), ([1, 3], [2]))
        self.assertEqual(self.metrics.bus_connects, 1)

    async def test_a_full_stream_keeps_frames_and_is_not_hurried_back_to(self) -> None:
        server = NatsServer(self)
        full = {"max_bytes": 20_000, "discard": api.DiscardPolicy.NEW}
        await as_deferred(_make_stream(server.url(), subjects=["audio.>"], **full))
        delivery = self.begin(server.url(), publish_retry_max_s=5.0)
        lane, sink = self.open(delivery)
        await until(lambda: delivery.ready is None, "readiness")
        for seq in range(1, 31):
            lane.publish(seq, seq, FRAME)
        await until(lambda: self.metrics.bus_disconnects["full"] > 2, "the reason")
        await pause(1.0)
        # Pauses of 0.05, 0.1, 0.2, 0.4, 0.8 s at the least: not a tight loop.
        self.assertGreater(8, self.metrics.bus_disconnects["full"])
        self.assertEqual(sink.dropped_seqs, [])
        self.assertGreater(len(sink.confirmed_seqs), 5)

    async def test_a_stream_that_is_deleted_is_made_again(self) -> None:
        server = NatsServer(self)
        delivery = self.begin(server.url())
        lane, sink = self.open(delivery)
        await until(lambda: delivery.ready is None, "readiness")
        client = await as_deferred(nats.connect(server.url()))
        await as_deferred(client.jetstream().delete_stream(STREAM))
        await as_deferred(client.close())
        lane.publish(1, 1, FRAME)
        await until(lambda: sink.confirmed_seqs == [1], "a confirmation")
        self.assertEqual(self.metrics.bus_disconnects, {"noleader": 1})

    async def test_a_lame_duck_is_left_at_once(self) -> None:
        servers = [NatsServer(self), NatsServer(self)]
        delivery = self.begin(",".join([servers[0].url(), f"{HOST}:{servers[1].port}"]))
        await until(lambda: delivery.ready is None, "readiness")
        ours = next(server for server in servers if server.monitor("/connz").get("num_connections"))
        lane, sink = self.open(delivery)
        lane.publish(1, 1, FRAME)
        ours.lame_duck()
        await until(lambda: self.metrics.bus_disconnects["ldm"] == 1, "the notice")
        lane.publish(2, 2, FRAME)
        await until(lambda: sink.confirmed_seqs == [1, 2], "both confirmations")
        self.assertEqual(self.metrics.bus_connects, 2)


class AccessTests(NatsTestCase):
    async def refused(self, url: str, reason: str, **settings: Any) -> None:
        lines = self.logged()
        delivery = self.begin(url, **settings)
        await until(lambda: delivery.ready == reason, reason)
        self.assertEqual([line for line in lines if SECRET in line], [])
        self.assertEqual(self.metrics.bus_connects, 0)

    async def accepted(self, url: str, **settings: Any) -> None:
        lines = self.logged()
        delivery = self.begin(url, **settings)
        await until(lambda: delivery.ready is None, "readiness")
        self.assertEqual([line for line in lines if SECRET in line], [])

    async def test_user_and_password(self) -> None:
        server = NatsServer(self, extra=[f"authorization {{ user: bridge, password: {SECRET} }}"])
        await self.accepted(server.url(f"bridge:{SECRET}"))
        await self.refused(server.url(f"bridge:{SECRET}-not"), "auth")
        await self.refused(server.url(), "auth")

    async def test_a_token(self) -> None:
        server = NatsServer(self, extra=[f"authorization {{ token: {SECRET} }}"])
        await self.accepted(server.url(SECRET))
        await self.refused(server.url(f"{SECRET}-not"), "auth")

    async def test_a_user_that_may_not_publish_there(self) -> None:
        allowed = 'publish: ["$JS.API.>"], subscribe: ["_INBOX.>"]'
        user = f"{{ user: bridge, password: {SECRET}, permissions: {{ {allowed} }} }}"
        server = NatsServer(self, extra=[f"authorization {{ users: [ {user} ] }}"])
        delivery = self.begin(server.url(f"bridge:{SECRET}"))
        lane, _ = self.open(delivery)
        await until(lambda: delivery.ready is None, "readiness")
        lane.publish(1, 1, FRAME)
        await until(lambda: self.metrics.bus_disconnects["noperm"] > 0, "the reason")

    async def test_least_privilege(self) -> None:
        may = [
            "audio.frames",
            "audio.events",
            f"$JS.API.STREAM.INFO.{STREAM}",
            f"$JS.API.STREAM.CREATE.{STREAM}",
        ]
        allowed = f'publish: {json.dumps(may)}, subscribe: ["_INBOX.>"]'
        user = f"{{ user: bridge, password: {SECRET}, permissions: {{ {allowed} }} }}"
        server = NatsServer(self, extra=[f"authorization {{ users: [ {user} ] }}"])
        delivery = self.begin(server.url(f"bridge:{SECRET}"))
        lane, sink = self.open(delivery)
        lane.publish(1, 1, FRAME)
        await until(lambda: sink.confirmed_seqs == [1], "a confirmation")

    async def test_a_user_that_may_not_hear_the_answers(self) -> None:
        """nats-py tells of it in its reading task: a reason, and no traceback."""
        allowed = 'publish: ["audio.>", "$JS.>"], subscribe: [foo]'
        user = f"{{ user: bridge, password: {SECRET}, permissions: {{ {allowed} }} }}"
        server = NatsServer(self, extra=[f"authorization {{ users: [ {user} ] }}"])
        await self.refused(server.url(f"bridge:{SECRET}"), "noperm")
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_credentials(self) -> None:
        account, other = NatsAccount(), NatsAccount()
        server = NatsServer(self, extra=account.config)
        path = account.write_credentials(self.mktemp_path())
        await self.accepted(server.url(), nats_credentials_path=path)
        await self.refused(server.url(), "auth")
        await self.refused(
            server.url(), "auth", nats_credentials_path=other.write_credentials(self.mktemp_path())
        )
        delivery = self.begin(server.url(), nats_credentials_path=path)
        lane, sink = self.open(delivery)
        lane.publish(1, 1, FRAME)
        await until(lambda: sink.confirmed_seqs == [1], "a confirmation")
        path.write_text("gone")
        self.bus.drop_connection("lost")
        await until(lambda: delivery.ready == "credentials", "the reason")

    async def test_tls(self) -> None:
        files, others = TlsFiles(self.mktemp_path()), TlsFiles(self.mktemp_path())
        server = NatsServer(self, tls=files, extra=[f"authorization {{ user: bridge, password: {SECRET} }}"])
        url = server.url(f"bridge:{SECRET}")
        await self.accepted(url, nats_ca_path=files.ca_path)
        await self.refused(url, "tls", nats_ca_path=others.ca_path)
        await self.refused(url, "tls")
        # A server that asks for TLS gets it, and is verified, whatever the URL says.
        await self.accepted(url.replace("nats+tls", "nats"), nats_ca_path=files.ca_path)
        await self.refused(url.replace("nats+tls", "nats"), "tls")

    async def test_a_certificate_for_another_name(self) -> None:
        files = TlsFiles(self.mktemp_path(), "elsewhere.example.com")
        server = NatsServer(self, tls=files)
        await self.refused(server.url(), "tls", nats_ca_path=files.ca_path)

    async def test_nothing_is_said_in_clear_to_a_server_without_tls(self) -> None:
        said: list[bytes] = []
        listener = socket.create_server((HOST, 0))
        self.addCleanup(listener.close)

        def serve() -> None:
            connection, _ = listener.accept()
            connection.sendall(
                b'INFO {"server_id":"x","version":"2.9.10","headers":true,"max_payload":1048576}\r\n'
            )
            while data := connection.recv(4096):
                said.append(data)
            connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        await self.refused(f"nats+tls://bridge:{SECRET}@{HOST}:{port}", "tls")
        await until(lambda: not thread.is_alive(), "the end of the connection")
        self.assertEqual(said, [])

    async def test_nobody_there_and_no_such_name(self) -> None:
        await self.refused(f"nats://bridge:{SECRET}@{HOST}:{free_port()}", "refused")
        await self.refused(f"nats://bridge:{SECRET}@no.such.host.invalid", "dns")

    async def test_one_that_is_no_nats_server(self) -> None:
        listener = socket.create_server((HOST, 0))
        self.addCleanup(listener.close)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.sendall(b"220 smtp.example.com ESMTP\r\n")
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        await self.refused(f"nats://{HOST}:{listener.getsockname()[1]}", "protocol")


class StopTests(NatsTestCase):
    async def test_a_frozen_server_is_not_waited_for(self) -> None:
        from twisted.internet import reactor

        server = NatsServer(self)
        for frames in (0, 1, 200):
            bus = NatsJetStream(make_settings(publish_url=SecretStr(server.url())), reactor, Metrics())
            listener = NotingListener()
            bus.start(listener)
            await until(lambda listener=listener: listener.is_up, "bus_up")
            server.freeze()
            lanes = [bus.prepare(StreamFacts("acme", str(number), AudioFormat())) for number in range(frames)]
            bus.send([(lane, 1, 1, bytes(32_768)) for lane in lanes])
            begun = time.monotonic()
            await bus.stop()
            self.assertGreater(STOPPED_AT_ONCE_S, time.monotonic() - begun)
            self.assertEqual(listener.heard, ["up"])
            server.thaw()

    async def test_an_attempt_is_given_up(self) -> None:
        from twisted.internet import reactor

        server = NatsServer(self)
        server.freeze()
        bus = NatsJetStream(make_settings(publish_url=SecretStr(server.url())), reactor, Metrics())
        listener = NotingListener()
        bus.start(listener)
        await pause(0.1)
        begun = time.monotonic()
        await bus.stop()
        self.assertGreater(STOPPED_AT_ONCE_S, time.monotonic() - begun)
        self.assertEqual(listener.heard, [])


class WritableTests(NatsTestCase):
    async def test_back_pressure_is_told_and_ends(self) -> None:
        from twisted.internet import reactor

        server = NatsServer(self)
        settings = make_settings(publish_url=SecretStr(server.url()))
        bus = NatsJetStream(settings, reactor, Metrics())
        self.addCleanup(bus.stop)
        listener = NotingListener()
        bus.start(listener)
        await until(lambda: listener.is_up, "bus_up")
        server.freeze()
        sent = 0
        while bus.writable:
            lanes = [bus.prepare(StreamFacts("acme", str(number), AudioFormat())) for number in range(64)]
            bus.send([(lane, 1, 1, bytes(32_768)) for lane in lanes])
            sent += 64
            self.assertGreater(20_000, sent)
        self.assertEqual(listener.heard, ["up"])
        server.thaw()
        await until(lambda: listener.confirmed == sent, "all confirmations")
        self.assertEqual(listener.heard, ["up", "writable"])
        self.assertTrue(bus.writable)


class ExampleTests(NatsTestCase):
    async def consumer(self, server: NatsServer, frames: int) -> list[str]:
        """The lines of the example in the docs, run as a program."""
        from twisted.internet import reactor

        program = [str(ROOT / "examples/nats_consumer.py"), "--server", server.url(), "--frames", str(frames)]
        out, errors, code = await getProcessOutputAndValue(sys.executable, program, reactor=reactor)
        self.assertEqual((errors, code), (b"", 0))
        return out.decode().splitlines()

    async def test_it_goes_on_where_it_was(self) -> None:
        server = NatsServer(self)
        delivery = self.begin(server.url())
        lane, sink = self.open(delivery)
        lane.publish_event("started", {"sample_rate": 24000, "encoding": "pcm16"})
        for seq in range(1, 251):
            lane.publish(seq, seq, FRAME)
        await until(lambda: len(sink.heard) == 250, "all confirmations")
        lines = await self.consumer(server, 120)
        self.assertEqual(lines[0], "acme call-1 started")
        self.assertEqual(lines[1:], [f"acme call-1 7 {seq} 960 bytes" for seq in range(1, 121)])
        lines = await self.consumer(server, 130)
        self.assertEqual(lines, [f"acme call-1 7 {seq} 960 bytes" for seq in range(121, 251)])


class DaemonTests(IngestCase):
    @asynchronous
    async def test_a_whole_session_is_on_the_stream(self) -> None:
        server = NatsServer(self)
        daemon = await self.start_daemon(PUBLISH_URL=server.url())
        caller = await self.call(daemon)
        await caller.start("call-1", sample_rate=24000, encoding="pcm16")
        sent = [audio_of(number, 9600) for number in range(25)]
        for payload in sent:
            caller.audio(payload)
        stopped = await caller.stop()
        self.assertEqual((stopped["published"], caller.close_code), (25, 1000))
        # The caller hears of its end when its frames are confirmed; the event that says so may still
        # be on its way. A daemon that has stopped has flushed all.
        self.assertEqual(await as_future(daemon.stop()), 0)
        stored = await _read_stream(server.url(), STREAM)
        self.assertEqual([one.frame.audio for one in stored if one.subject == "audio.frames"], sent)
        told = [json.loads(one.payload)["event"] for one in stored if one.subject == "audio.events"]
        self.assertEqual(told, ["started", "stopped"])
        epochs = {one.headers["Voiceingest-Epoch"] for one in stored}
        self.assertEqual(epochs, {str(json.loads(stored[0].payload)["epoch"])})
