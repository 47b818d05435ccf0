from __future__ import annotations

from typing import Any

import redis as client_library
from twisted.internet.defer import ensureDeferred

from tests.support.servers import RedisServer
from voiceingest.cli import redis_entries
from voiceingest.cli.failures import CommandFailed, ConnectionFailed, Exit
from voiceingest.cli.reading import BusMessage
from voiceingest.cli.redis_entries import EntryReader, by_age, read_entry
from voiceingest.cli.running import Interrupt
from voiceingest.cli.target import Trust
from voiceingest.publishers.redis_url import parse_redis_url
from voiceingest.wire.envelope import encode_event

from .program import ProgramCase, coroutine


def fields_of(seq: int, epoch: int = 5) -> dict[str, Any]:
    return {
        "tenant_id": "acme",
        "interaction_id": "call",
        "epoch": epoch,
        "seq": seq,
        "timestamp_ms": 1234,
        "sample_rate": 8000,
        "encoding": "pcm16",
        "audio": bytes([seq]) * 4,
    }


class EntryTests(ProgramCase):
    def test_what_an_entry_is(self) -> None:
        pairs = [part for item in fields_of(7).items() for part in item]
        raw = [part if isinstance(part, bytes) else str(part).encode() for part in pairs]
        message = read_entry(raw)
        assert message.frame is not None
        self.assertEqual((message.frame.seq, message.frame.audio, message.epoch), (7, b"\7\7\7\7", 5))
        event = read_entry([b"event", encode_event("stopped", "a", "b", 1, {})]).event
        assert event is not None
        self.assertEqual(event["event"], "stopped")
        for odd in ([], [b"event", b"{"], [b"seq", b"x"], raw[:-2], raw[:-1]):
            self.assertEqual(read_entry(odd), BusMessage())

    def test_entries_of_several_streams_in_the_order_of_their_ids(self) -> None:
        answer = [[b"a", [[b"2-1", [b"k", b"v"]], [b"10-0", None]]], [b"b", [[b"2-0", []], [b"9-5", []]]]]
        found = [(name, entry_id) for name, entry_id, _ in by_age(answer)]
        self.assertEqual(found, [(b"b", b"2-0"), (b"a", b"2-1"), (b"b", b"9-5"), (b"a", b"10-0")])


class ReaderTests(ProgramCase):
    def reader(self, url: str, *names: tuple[str, bool], from_start: bool = False) -> EntryReader:
        from twisted.internet import reactor

        self.reactor = reactor
        self.seqs: list[int] = []
        self.said: list[str] = []

        def received(message: BusMessage) -> None:
            assert message.frame is not None
            self.seqs.append(message.frame.seq)

        reader = EntryReader(
            reactor,
            parse_redis_url(url),
            list(names) or [("frames", False)],
            received,
            Trust(),
            self.said.append,
            from_start=from_start,
        )
        self.addCleanup(reader.stop)
        self.following = ensureDeferred(reader.follow(Interrupt()))
        return reader

    def add(self, server: RedisServer, name: str, *seqs: int) -> None:
        with client_library.Redis(port=server.port, password=None, socket_timeout=5) as client:
            for seq in seqs:
                client.xadd(name, fields_of(seq))

    async def failure(self) -> Any:
        try:
            await self.following
        except CommandFailed as failed:
            return failed
        raise AssertionError("it did not fail")

    async def until(self, seqs: list[int]) -> None:
        from twisted.internet.task import deferLater

        for _ in range(2000):
            if self.seqs == seqs:
                return
            await deferLater(self.reactor, 0.02)
        raise AssertionError(f"{self.seqs} and not {seqs}; {self.said}")

    def url(self, server: RedisServer) -> str:
        return server.url().replace("redis:", "redis-streams:")

    @coroutine
    async def test_from_now_on_and_on_where_it_stopped(self: Any) -> None:
        server = RedisServer(self)
        self.add(server, "frames", 1, 2)
        reader = self.reader(self.url(server))
        await reader.ready
        self.add(server, "frames", 3, 4)
        await self.until([3, 4])
        reader._link.abort()
        self.add(server, "frames", 5)
        await self.until([3, 4, 5])
        self.assertEqual(reader.reconnects, 1)
        self.assertIn("goes on", self.said[0])
        reader.stop()
        await self.following

    @coroutine
    async def test_from_the_start_and_a_pattern(self: Any) -> None:
        self.patch(redis_entries, "SCAN_EVERY_S", 0.1)
        self.patch(redis_entries, "BLOCK_MS", 100)
        server = RedisServer(self)
        self.add(server, "frames:a", 1, 2)
        reader = self.reader(self.url(server), ("frames:*", True), from_start=True)
        await self.until([1, 2])
        self.add(server, "frames:b", 3, 4)
        await self.until([1, 2, 3, 4])
        reader.stop()
        await self.following

    @coroutine
    async def test_a_pattern_that_nothing_matches_yet(self: Any) -> None:
        self.patch(redis_entries, "SCAN_EVERY_S", 0.05)
        server = RedisServer(self)
        reader = self.reader(self.url(server), ("frames:*", True))
        await reader.ready
        self.add(server, "frames:a", 1, 2)
        await self.until([1, 2])
        reader.stop()
        await self.following

    @coroutine
    async def test_not_let_in_and_not_let_read(self: Any) -> None:
        server = RedisServer(self, acl=["user default on >pass ~* &* +@all", "user narrow on >pass +@all ~x"])
        login = f"127.0.0.1:{server.port}"
        for url, words in (
            (f"redis-streams://default:canary@{login}", "refuses the password"),
            (f"redis-streams://narrow:pass@{login}", "does not let us read"),
            (f"redis-streams://{login}", "refuses the password"),
        ):
            self.reader(url)
            failed = await self.failure()
            self.assertEqual(failed.exit_code, Exit.REFUSED, url)
            self.assertIn(words, failed.message)
            self.assertNotIn("canary", failed.message)

    @coroutine
    async def test_nobody_there_and_nobody_who_answers(self: Any) -> None:
        server = RedisServer(self)
        self.patch(redis_entries, "CONNECT_TIMEOUT_S", 0.2)
        server.freeze()
        self.reader(self.url(server))
        failed = await self.failure()
        self.assertEqual((type(failed), failed.reason), (ConnectionFailed, "timeout"))
        server.kill()
        self.reader(self.url(server))
        failed = await self.failure()
        self.assertEqual((type(failed), failed.reason), (ConnectionFailed, "refused"))
