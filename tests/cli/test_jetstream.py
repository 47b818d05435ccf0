from __future__ import annotations

import sys
from typing import Any
from unittest import mock

from twisted.internet.defer import ensureDeferred

from tests.support.nats_servers import NatsServer
from voiceingest.aio import as_deferred
from voiceingest.cli import jetstream, reading
from voiceingest.cli.failures import CommandFailed, ConnectionFailed, Exit, UsageFailed
from voiceingest.cli.jetstream import JetStreamReader, Source, parse_url, read_message
from voiceingest.cli.reading import BusMessage
from voiceingest.cli.running import Interrupt
from voiceingest.wire.envelope import encode_frame, frame_parts

from .program import ProgramCase, coroutine

PARTS = frame_parts("acme", "call", 8000, "pcm16")


class ReaderTests(ProgramCase):
    def reader(self, url: str, *, from_start: bool = False) -> JetStreamReader:
        from twisted.internet import reactor

        self.patch(reading, "RETRY_FIRST_S", 0.1)
        self.patch(jetstream, "CHECK_EVERY_S", 0.5)
        self.reactor = reactor
        self.seqs: list[tuple[int, int | None]] = []
        self.said: list[str] = []

        def received(message: BusMessage) -> None:
            assert message.frame is not None
            self.seqs.append((message.frame.seq, message.epoch))

        source = Source(parse_url(url), "VOICE", ["audio.frames.{tenant_id}"], from_start=from_start)
        reader = JetStreamReader(reactor, source, received, self.said.append)
        self.addCleanup(reader.stop)
        self.following = ensureDeferred(reader.follow(Interrupt()))
        return reader

    async def publish(self, server: NatsServer, *seqs: int, subject: str = "audio.frames.acme") -> None:
        async def publish() -> None:
            import nats

            client = await nats.connect(server.url())
            context = client.jetstream()
            await context.add_stream(name="VOICE", subjects=["audio.>", "other"])
            for seq in seqs:
                payload = encode_frame(PARTS, seq, 1234, b"ab")
                await context.publish(subject, payload, headers={"Voiceingest-Epoch": "5"})
            await client.close()

        await as_deferred(publish())

    async def failure(self) -> Any:
        try:
            await self.following
        except CommandFailed as failed:
            return failed
        raise AssertionError("it did not fail")

    async def until(self, seqs: list[int]) -> None:
        from twisted.internet.task import deferLater

        for _ in range(2000):
            if [seq for seq, _ in self.seqs] == seqs:
                return
            await deferLater(self.reactor, 0.02)
        raise AssertionError(f"{self.seqs} and not {seqs}; {self.said}")

    @coroutine
    async def test_from_now_on_and_on_where_it_stopped(self: Any) -> None:
        server = NatsServer(self)
        await self.publish(server, 1, 2)
        reader = self.reader(server.url())
        await reader.ready
        await self.publish(server, 9, subject="other")
        await self.publish(server, 3, 4)
        await self.until([3, 4])
        self.assertEqual(self.seqs[0], (3, 5))
        server.restart()
        await self.publish(server, 5)
        await self.until([3, 4, 5])
        self.assertGreaterEqual(reader.reconnects, 1)
        reader.stop()
        await self.following

    @coroutine
    async def test_a_stream_that_is_not_there_yet(self: Any) -> None:
        server = NatsServer(self)
        reader = self.reader(server.url())
        await reader.ready
        self.assertIn("no stream VOICE", self.said[0])
        await self.publish(server, 1, 2)
        await self.until([1, 2])
        reader.stop()
        await self.following

    @coroutine
    async def test_from_the_start_and_a_consumer_that_is_gone(self: Any) -> None:
        server = NatsServer(self)
        await self.publish(server, 1, 2)
        reader = self.reader(server.url(), from_start=True)
        await self.until([1, 2])

        async def remove() -> None:
            import nats

            client = await nats.connect(server.url())
            context = client.jetstream()
            for info in await context.consumers_info("VOICE"):
                await context.delete_consumer("VOICE", info.name)
            await client.close()

        await as_deferred(remove())
        await self.publish(server, 3)
        await self.until([1, 2, 3])
        self.assertEqual(reader.reconnects, 1)
        reader.stop()
        await self.following

    @coroutine
    async def test_nobody_there_and_not_let_in(self: Any) -> None:
        server = NatsServer(self, extra=['authorization { user: "u", password: "p" }'])
        self.reader(f"nats://u:canary@127.0.0.1:{server.port}")
        failed = await self.failure()
        self.assertEqual(failed.exit_code, Exit.REFUSED)
        self.assertNotIn("canary", failed.message)
        server.kill()
        self.reader(f"nats://127.0.0.1:{server.port}")
        failed = await self.failure()
        self.assertIsInstance(failed, ConnectionFailed)

    def test_without_nats_py_one_line_says_so(self) -> None:
        gone = mock.patch.dict(sys.modules, {"nats": None})
        with gone, self.assertRaises(UsageFailed) as caught:
            JetStreamReader(None, Source(parse_url("nats://h"), "S", []), print, print)
        self.assertIn("nats-py", caught.exception.message)
        self.assertIn("[nats]", str(caught.exception.hint))

    def test_any_bytes_are_a_message(self) -> None:
        self.assertEqual(read_message(b"\xff", None), BusMessage())
        frame = read_message(encode_frame(PARTS, 1, 2, b"ab"), {"Voiceingest-Epoch": "x"})
        self.assertIsNone(frame.epoch)
