"""What tests of a bus over a real Redis stand on: a delivery, a subscriber, a reader of streams."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Any

import hiredis
from pydantic import SecretStr
from twisted.logger import formatEvent, globalLogPublisher

from tests.publishers.contract import EVENTS, FRAMES, pause
from tests.publishers.fakes import NotingSink, make_settings
from tests.support.case import TestCase
from tests.support.daemon import HOST
from tests.support.servers import RedisServer, TlsFiles
from voiceingest.audio import AudioFormat
from voiceingest.interfaces import StreamFacts
from voiceingest.metrics import Metrics
from voiceingest.publishers.delivery import Delivery
from voiceingest.publishers.lane import Lane
from voiceingest.publishers.redis_bus import RedisBus
from voiceingest.publishers.redis_pubsub import RedisPubSub
from voiceingest.wire.entry import decode_entry
from voiceingest.wire.envelope import FrameMessage, decode_frame
from voiceingest.wire.resp import encode_command

SECRET = "s3cr3t-canary-42"
FRAME_S = 0.02
FRAME = bytes(range(256)) * 3 + bytes(192)
EPOCH = 1763655000123


def read_stream(server: RedisServer, stream: str = FRAMES) -> list[FrameMessage]:
    """The frames on a stream, oldest first; each is of the epoch that all have here."""
    with server.control() as control:
        entries = [decode_entry(fields) for _, fields in control.xrange(stream)]
    assert {epoch for _, epoch in entries} <= {EPOCH}
    return [frame for frame, _ in entries]


class Subscriber(threading.Thread):
    """A consumer in a thread of its own; subscribed when the constructor returns."""

    def __init__(
        self,
        test: TestCase,
        server: RedisServer,
        channels: tuple[str, ...] = (FRAMES, EVENTS),
        password: str = "",
        tls: TlsFiles | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self.messages: list[tuple[str, bytes]] = []
        plain = socket.create_connection((HOST, server.port), timeout=10.0)
        context = ssl.create_default_context(cafile=str(tls.ca_path)) if tls else None
        self._socket = context.wrap_socket(plain, server_hostname=HOST) if context else plain
        self._reader = hiredis.Reader()
        if password:
            self._socket.sendall(encode_command(b"AUTH", password.encode()))
            assert self._reply() == b"OK"
        self._socket.sendall(encode_command(b"PSUBSCRIBE", *(channel.encode() for channel in channels)))
        for _ in channels:
            assert self._reply()[0] == b"psubscribe"
        self._socket.settimeout(None)
        test.addCleanup(self.end)
        self.start()

    def run(self) -> None:
        while True:
            try:
                _, _, channel, payload = self._reply()
            except OSError:
                return
            self.messages.append((channel.decode(), payload))

    def frames(self) -> list[FrameMessage]:
        messages = list(self.messages)
        return [decode_frame(payload) for channel, payload in messages if channel.startswith(FRAMES)]

    def seqs(self) -> list[int]:
        return [frame.seq for frame in self.frames()]

    def _reply(self) -> Any:
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError
            self._reader.feed(data)
        return reply

    def end(self) -> None:
        # shutdown wakes the thread from recv; close alone would not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.join(10.0)
        self._socket.close()


class RedisTestCase(TestCase):
    """One delivery over one kind of Redis bus."""

    kind: type[RedisBus] = RedisPubSub

    def begin(self, url: str, **settings: Any) -> Delivery:
        from twisted.internet import reactor

        self.metrics = Metrics()
        quick = {"publish_retry_max_s": 0.2, "publish_connect_timeout_s": 6.0, "buffer_duration_ms": 30_000}
        config = make_settings(publish_url=SecretStr(url), **{**quick, **settings})
        self.bus = self.kind(config, reactor, self.metrics)
        delivery = Delivery(self.bus, config, reactor, reactor.seconds, self.metrics)
        self.addCleanup(delivery.stop, 0)
        delivery.start()
        return delivery

    def open(
        self, delivery: Delivery, tenant_id: str = "acme", interaction_id: str = "call-1"
    ) -> tuple[Lane, NotingSink]:
        sink = NotingSink()
        facts = StreamFacts(tenant_id, interaction_id, AudioFormat(24000), EPOCH)
        return delivery.open_lane(facts, sink), sink

    async def speak(self, lane: Lane, first_seq: int, count: int) -> int:
        """Hand over ``count`` frames in real time; answers the next seq."""
        for seq in range(first_seq, first_seq + count):
            lane.publish(seq, seq, FRAME)
            await pause(FRAME_S)
        return first_seq + count

    def logged(self) -> list[str]:
        """Everything that is logged from now on, as text, at every level."""
        lines: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            lines.append(f"{formatEvent(event)} {event!r}")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return lines
