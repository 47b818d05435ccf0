"""What pub/sub writes; the life of its connection is in test_redis_bus.py."""

from __future__ import annotations

from pydantic import SecretStr
from twisted.logger import LogEvent, globalLogPublisher

from tests.publishers.test_redis_bus import BusCase
from voiceingest.audio import AudioFormat
from voiceingest.interfaces import StreamFacts
from voiceingest.wire.envelope import encode_frame, frame_parts
from voiceingest.wire.resp import encode_command


class PubSubTests(BusCase):
    def test_a_batch_is_one_write_of_publish_commands(self) -> None:
        transport = self.up()
        written = self.bus.send([(self.prepared, 1, 5, b"ab"), (self.prepared, 0, 6, b'{"event":"x"}')])
        frame = encode_frame(frame_parts("acme", "call-1", 8000, "pcm16"), 1, 5, b"ab")
        expected = encode_command(b"PUBLISH", b"audio:frames", frame)
        expected += encode_command(b"PUBLISH", b"audio:events", b'{"event":"x"}')
        self.assertEqual(transport.value(), expected)
        self.assertEqual(written, len(expected))

    def test_a_template_gives_each_tenant_its_channels(self) -> None:
        self.make(redis_channel="f:{tenant_id}", redis_events_channel="e:{interaction_id}")
        transport = self.up()
        prepared = self.bus.prepare(StreamFacts("a:b", "c", AudioFormat(8000)))
        self.bus.send([(prepared, 1, 5, b"ab"), (prepared, 0, 6, b"{}")])
        self.assertIn(b"$7\r\nf:a%3Ab\r\n", transport.value())
        self.assertIn(b"$3\r\ne:c\r\n", transport.value())

    def test_replicas_that_nobody_waits_for_are_said_once(self) -> None:
        lines: list[LogEvent] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        for replicas in (0, 1):
            self.make(redis_wait_replicas=replicas)
            self.up()
            said = [line["setting"] for line in lines if line.get("event") == "setting_without_effect"]
            self.assertEqual(said, ["redis_wait_replicas"] * replicas)

    def test_a_url_of_its_own_comes_first(self) -> None:
        self.make(publish_url=SecretStr("unix:///other.sock"))
        self.assertEqual(self.reactor.unixClients[0][0], "/other.sock")
