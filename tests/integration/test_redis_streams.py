"""Frames on the streams of a real Redis, and what a full one or one without replicas does to them."""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import pairwise
from typing import Any

from pydantic import SecretStr
from twisted.internet.utils import getProcessOutputAndValue

from tests.publishers.contract import EVENTS, FRAMES, PublisherContract, pause, until
from tests.publishers.fakes import NotingSink, make_settings
from tests.support.case import TestCase
from tests.support.daemon import ROOT
from tests.support.sentinels import Sentinels
from tests.support.servers import RedisServer
from voiceingest.aio import as_future
from voiceingest.audio import AudioFormat
from voiceingest.config.settings import Settings
from voiceingest.interfaces import StreamFacts
from voiceingest.metrics import Metrics
from voiceingest.publishers.redis_streams import RedisStreams
from voiceingest.wire.entry import decode_entry
from voiceingest.wire.envelope import encode_frame, frame_parts

from .callers import audio_of
from .case import IngestCase, asynchronous
from .redis_case import EPOCH, FRAME, SECRET, RedisTestCase, Subscriber, read_stream


def streams_url(server: RedisServer, login: str = "") -> str:
    return f"redis-streams://{login}{'@' if login else ''}127.0.0.1:{server.port}"


class StreamsContractTests(PublisherContract, TestCase):
    def make_settings(self) -> Settings:
        # What is on two streams has no order between them: the server says what it wrote when.
        self.server = RedisServer(self, options=["--notify-keyspace-events", "Kt"])
        return make_settings(publish_url=SecretStr(streams_url(self.server)))

    def make_bus(self, settings: Settings, metrics: Metrics) -> RedisStreams:
        from twisted.internet import reactor

        return RedisStreams(settings, reactor, metrics)

    def listen(self, bus: RedisStreams) -> None:
        self.notices = Subscriber(self, self.server, ("__keyspace@0__:audio:*",))

    def arrived(self) -> list[tuple[str, bytes]]:
        """As the JSON the contract reads."""
        with self.server.control() as control:
            frames, events = iter(control.xrange(FRAMES)), iter(control.xrange(EVENTS))
        written = [channel.partition(":")[2] for channel, event in self.notices.messages if event == b"xadd"]
        return [
            (stream, next(events)[1][b"event"]) if stream == EVENTS else (stream, as_json(next(frames)[1]))
            for stream in written
        ]


class ReplicatedContractTests(StreamsContractTests):
    """The same, where a replica has to have it all."""

    def make_settings(self) -> Settings:
        settings = super().make_settings()
        RedisServer(self, replica_of=self.server)
        return settings.model_copy(update={"redis_wait_replicas": 1})


class StreamsTestCase(RedisTestCase):
    kind = RedisStreams


class EntryTests(StreamsTestCase):
    async def test_what_an_entry_is(self) -> None:
        server = RedisServer(self)
        delivery = self.begin(streams_url(server))
        lane, sink = self.open(delivery)
        lane.publish_event("started", {"epoch": EPOCH})
        lane.publish(1, 17, FRAME)
        await until(lambda: sink.heard == [1], "confirmation")
        with server.control() as control:
            [(_, fields)] = control.xrange(FRAMES)
            [(_, event)] = control.xrange(EVENTS)
        expected = {
            "tenant_id": "acme",
            "interaction_id": "call-1",
            "epoch": EPOCH,
            "seq": 1,
            "timestamp_ms": 17,
            "sample_rate": 24000,
            "encoding": "pcm16",
        }
        words = {name.encode(): str(value).encode() for name, value in expected.items()}
        self.assertEqual(list(fields.items()), [*words.items(), (b"audio", FRAME)])
        self.assertEqual(list(event), [b"event"])
        self.assertIn(b'"epoch":%d' % EPOCH, event[b"event"])

    async def test_a_stream_is_kept_at_its_length(self) -> None:
        server = RedisServer(self)
        settings = {"redis_stream_max_entries": 200, "redis_channel": "frames:{tenant_id}"}
        delivery = self.begin(streams_url(server), **settings)
        lane, sink = self.open(delivery)
        for seq in range(1, 1501):
            lane.publish(seq, seq, FRAME)
            if seq % 50 == 0:
                await pause(0.002)
        await until(lambda: len(sink.heard) == 1500, "confirmations")
        kept = [frame.seq for frame in read_stream(server, "frames:acme")]
        self.assertEqual(kept, [*range(kept[0], 1501)])
        # About: whole nodes go, and a node is 4 KB.
        self.assertTrue(200 <= len(kept) <= 310, len(kept))

    async def test_a_key_that_is_no_stream_or_not_allowed_is_a_gap_and_the_others_go_on(self) -> None:
        acl = [
            "user default on nopass ~* &* +@all",
            f"user bridge on >{SECRET} resetkeys ~frames:good ~frames:bad ~{EVENTS} -@all +xadd",
        ]
        server = RedisServer(self, acl=acl)
        with server.control() as control:
            control.set("frames:bad", "text")
        url = streams_url(server, f"bridge:{SECRET}")
        delivery = self.begin(url, redis_channel="frames:{tenant_id}")
        opened = {name: self.open(delivery, name) for name in ("good", "bad", "other")}
        for seq in range(1, 11):
            for lane, _ in opened.values():
                lane.publish(seq, seq, FRAME)
            await pause(0.001)
        await until(lambda: not any(lane.pending for lane, _ in opened.values()), "an answer to everything")
        self.assertEqual(opened["good"][1].heard, [*range(1, 11)])
        for name in ("bad", "other"):
            # In one report, or in several where the frames took their time.
            heard = opened[name][1]
            self.assertEqual((heard.confirmed_seqs, heard.dropped_seqs), ([], [*range(1, 11)]))
            self.assertEqual({reason for *_, reason in heard.heard}, {"refused"})
        self.assertEqual(dict(self.metrics.bus_refused), {"wrongtype": 10, "noperm": 10})
        self.assertEqual([frame.seq for frame in read_stream(server, "frames:good")], [*range(1, 11)])


class TroubleTests(StreamsTestCase):
    async def test_a_full_memory_loses_nothing_and_is_not_hammered(self) -> None:
        server = RedisServer(self)
        lines = self.logged()
        delivery = self.begin(streams_url(server), publish_retry_max_s=0.5)
        lane, sink = self.open(delivery)
        seq = await self.speak(lane, 1, 10)
        await until(lambda: not lane.pending, "confirmations")
        with server.control() as control:
            control.config_set("maxmemory", 1)
            begun = time.monotonic()
            seq = await self.speak(lane, seq, 100)
            await until(lambda: delivery.ready == "oom", "a refusal")
            self.assertEqual(sink.heard, [*range(1, 11)])
            # At 0.1, 0.2, 0.4, 0.5, ... s, each less up to a half: four a second, and the first three.
            most = 4 + 4 * (time.monotonic() - begun)
            self.assertLess(self.metrics.bus_connects, most)
            self.assertLess(len([line for line in lines if "bus_" in line]), 3 * most)
            control.config_set("maxmemory", 0)
        seq = await self.speak(lane, seq, 10)
        await until(lambda: not lane.pending, "everything")
        self.assertEqual(sink.heard, [*range(1, seq)])
        self.assertEqual([frame.seq for frame in read_stream(server)], [*range(1, seq)])
        self.assertEqual(self.metrics.bus_refused.total(), 0)

    async def test_a_redis_that_freezes_for_too_long_repeats_only_what_was_in_flight(self) -> None:
        server = RedisServer(self)
        delivery = self.begin(streams_url(server), publish_reply_timeout_s=1.0, publish_connect_timeout_s=0.3)
        lane, sink = self.open(delivery)
        seq = await self.speak(lane, 1, 10)
        await until(lambda: not lane.pending, "confirmations")
        server.freeze()
        seq = await self.speak(lane, seq, 20)
        await until(lambda: self.metrics.bus_disconnects["timeout"] >= 2, "a vain attempt")
        server.thaw()
        seq = await self.speak(lane, seq, 10)
        await until(lambda: not lane.pending, "everything")
        self.assertEqual(sink.heard, [*range(1, seq)])
        assert_once_each_in_order(self, read_stream(server), seq - 1, set(range(11, 31)))

    async def test_a_replica_that_is_away_holds_up_and_loses_nothing(self) -> None:
        server = RedisServer(self)
        replica = RedisServer(self, replica_of=server)
        delivery = self.begin(streams_url(server), redis_wait_replicas=1, publish_reply_timeout_s=4.0)
        lane, sink = self.open(delivery)
        seq = await self.speak(lane, 1, 20)
        await until(lambda: not lane.pending, "confirmations")
        self.assertEqual([frame.seq for frame in read_stream(replica)], [*range(1, seq)])
        replica.freeze()
        seq = await self.speak(lane, seq, 20)
        await until(lambda: self.metrics.bus_disconnects["unreplicated"] >= 1, "the end of patience")
        self.assertEqual(sink.heard, [*range(1, 21)])
        replica.kill()
        await until(lambda: delivery.ready == "unreplicated", "a refusal at the door")
        with server.control() as control:
            written = control.xlen(FRAMES)
            before = self.metrics.bus_disconnects["unreplicated"]
            await until(lambda: self.metrics.bus_disconnects["unreplicated"] > before + 2, "more attempts")
            self.assertEqual(control.xlen(FRAMES), written)
        replica.restart()
        await until(lambda: not lane.pending, "everything")
        self.assertEqual(sink.heard, [*range(1, seq)])
        assert_once_each_in_order(self, read_stream(replica), seq - 1, set(range(21, seq)))

    async def test_nobody_may_wait(self) -> None:
        acl = ["user default on nopass ~* &* +@all", f"user bridge on >{SECRET} ~* -@all +xadd"]
        server = RedisServer(self, acl=acl)
        delivery = self.begin(streams_url(server, f"bridge:{SECRET}"), redis_wait_replicas=1)
        await until(lambda: delivery.ready == "wait", "refusal")


class ConsumerGroupTests(StreamsTestCase):
    """The worker of the how-to, as it stands there."""

    EXAMPLE = ROOT / "examples" / "redis_streams_consumer.py"
    ACL = (
        "user default on nopass ~* &* +@all",
        f"user worker on >{SECRET} resetkeys ~audio:* ~done:* "
        "-@all +@stream +@bitmap +expire +multi +exec +ping",
    )

    async def spawn(self, server: RedisServer, consumer: str, *options: str) -> list[dict[str, Any]]:
        """Let it work to its end; what it did."""
        from twisted.internet import reactor

        url = server.url("worker", SECRET)
        words = [str(self.EXAMPLE), url, "--consumer", consumer, "--idle-ms", "200", *options]
        out, err, code = await getProcessOutputAndValue(
            sys.executable, words, env={"PATH": os.environ["PATH"]}, reactor=reactor
        )
        self.assertEqual(code, 0, err.decode())
        self.said = err.decode()
        return [json.loads(line) for line in out.splitlines()]

    async def test_each_frame_is_worked_on_once_also_after_a_death(self) -> None:
        server = RedisServer(self, acl=self.ACL)
        delivery = self.begin(streams_url(server))
        lane, sink = self.open(delivery)
        for seq in range(1, 31):
            lane.publish(seq, seq, FRAME)
        lane.publish_event("gap", {"from": 31, "to": 33, "reason": "overflow"})
        await until(lambda: len(sink.heard) == 30, "confirmations")
        await delivery.stop(5)
        with server.control() as control:
            # One that reads ten and dies; a connection that broke, and its frames came again.
            control.xgroup_create(FRAMES, "workers", id="0")
            read: Any = control.xreadgroup("workers", "dead", {FRAMES: ">"}, count=10)
            self.assertEqual(len(read[0][1]), 10)
            for _, fields in control.xrange(FRAMES)[20:]:
                control.xadd(FRAMES, fields)
            await pause(0.3)
            done = await self.spawn(server, "one", "--count", "30")
            self.assertEqual(sorted(int(one["seq"]) for one in done), [*range(1, 31)])
            self.assertEqual({(one["epoch"], one["bytes"]) for one in done}, {(str(EPOCH), len(FRAME))})
            self.assertEqual(self.said, "call-1: 31 to 33 lost: overflow\n")
            # What came again had been done: the next worker finds nothing to do but the new one.
            control.xadd(FRAMES, {**control.xrange(FRAMES)[0][1], b"seq": b"31"})
            done = await self.spawn(server, "two", "--count", "1")
            self.assertEqual([one["seq"] for one in done], ["31"])
            self.assertEqual(control.xpending(FRAMES, "workers")["pending"], 0)

    async def test_another_epoch_is_another_numbering(self) -> None:
        server = RedisServer(self, acl=self.ACL)
        delivery = self.begin(streams_url(server))
        sinks = [NotingSink(), NotingSink()]
        for epoch, sink in enumerate(sinks, 1):
            facts = StreamFacts("acme", "call-1", AudioFormat(24000), epoch)
            lane = delivery.open_lane(facts, sink)
            lane.publish(1, 1, FRAME)
            lane.close()
        await until(lambda: all(sink.heard for sink in sinks), "confirmations")
        done = await self.spawn(server, "one", "--count", "2")
        self.assertEqual([one["epoch"] for one in done], ["1", "2"])

    def test_the_how_to_shows_the_very_file(self) -> None:
        page = (ROOT / "docs" / "how-to" / "redis-streams.md").read_text()
        self.assertIn(f"```python\n{self.EXAMPLE.read_text()}```\n", page)


class DaemonTests(IngestCase):
    """From a caller, through the daemon and sentinels, to a stream."""

    @asynchronous
    async def test_a_call_is_on_the_stream_with_its_epoch(self) -> None:
        primary = RedisServer(self, password=SECRET)
        replica = RedisServer(self, replica_of=primary, password=SECRET)
        sentinels = Sentinels(self, primary, [replica], password=SECRET)
        url = sentinels.url("redis-streams", login=f":{SECRET}")
        daemon = await self.start_daemon(PUBLISH_URL=url, REDIS_WAIT_REPLICAS="1")
        caller = await self.call(daemon)
        started = await caller.start("call-1")
        sent = [audio_of(number, 9600) for number in range(15)]
        for payload in sent:
            caller.audio(payload)
        stopped = await caller.stop()
        self.assertEqual((stopped["published"], stopped["pending"]), (15, 0))
        # What was acknowledged is at the replica.
        with replica.control() as control:
            entries = [decode_entry(fields) for _, fields in control.xrange(FRAMES)]
        # The event that says so may still be on its way; a daemon that has stopped has flushed all.
        self.assertEqual(await as_future(daemon.stop()), 0)
        with replica.control() as control:
            events = [json.loads(fields[b"event"]) for _, fields in control.xrange(EVENTS)]
        self.assertEqual([frame.seq for frame, _ in entries], [*range(1, 16)])
        self.assertEqual([frame.audio for frame, _ in entries], sent)
        self.assertEqual({epoch for _, epoch in entries}, {started["epoch"]})
        self.assertEqual([event["event"] for event in events], ["started", "stopped"])
        self.assertEqual({event["epoch"] for event in events}, {started["epoch"]})
        self.assertNotIn(SECRET, daemon.output)


def as_json(fields: dict[bytes, bytes]) -> bytes:
    """A frame as pub/sub would have it."""
    frame, _ = decode_entry(fields)
    shared = frame_parts(frame.tenant_id, frame.interaction_id, frame.sample_rate, frame.encoding)
    return encode_frame(shared, frame.seq, frame.timestamp_ms, frame.audio)


def assert_once_each_in_order(test: TestCase, frames: list[Any], last_seq: int, may_repeat: set[int]) -> None:
    """All from 1 to ``last_seq``, in order; a run that is repeated is one of ``may_repeat``."""
    seqs = [frame.seq for frame in frames]
    test.assertEqual(list(dict.fromkeys(seqs)), [*range(1, last_seq + 1)])
    repeated = {seq for seq in set(seqs) if seqs.count(seq) > 1}
    test.assertLessEqual(repeated, may_repeat)
    # A step is one forward, or back to where the frames in flight began.
    backwards = [later for earlier, later in pairwise(seqs) if later != earlier + 1]
    test.assertLessEqual(set(backwards), may_repeat)
