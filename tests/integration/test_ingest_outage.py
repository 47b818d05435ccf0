"""Redis frozen, gone and back, and the daemon told to stop: what was accepted is on the bus or declared."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from tests.support.daemon import Daemon
from tests.support.servers import RedisServer
from tests.support.sockets import PING, frame
from voiceingest.aio import as_future

from .callers import FRAME_BYTES, Caller, audio_of
from .case import IngestCase, asynchronous, metric, rss_bytes
from .consumer import Consumer

STREAMS: Final = 20
FRAME_S: Final = 0.02
FROZEN_S: Final = 1.5
BUFFER_MS: Final = 500
ACK_INTERVAL: Final = 10
MIB: Final = 1024 * 1024
# Long enough for what a test does meanwhile.
DRAIN_S: Final = 4


async def pace(callers: list[Caller], seconds: float, first: int = 0) -> int:
    """Send 50 frames a second on each; returns the number of the next frame."""
    began, number = time.monotonic(), first
    while (number - first) * FRAME_S < seconds:
        for caller in callers:
            caller.audio(audio_of(number))
        number += 1
        await asyncio.sleep(max(0.0, began + (number - first) * FRAME_S - time.monotonic()))
    return number


class FrozenTests(IngestCase):
    """A Redis that answers nothing and does not say so."""

    @asynchronous
    async def test_nothing_is_lost_and_no_session_ends(self) -> None:
        # It is frozen for less than that, however busy the machine is.
        daemon = await self.start_daemon(PUBLISH_REPLY_TIMEOUT_S="20")
        consumer = await self.consume()
        callers = [await self.call(daemon) for _ in range(STREAMS)]
        for number, caller in enumerate(callers):
            await caller.start(f"frozen-{number}")
        count = await pace(callers, 0.4)
        self.redis.freeze()
        before = await self.acked(callers[0])
        count = await pace(callers, FROZEN_S, count)
        # Acknowledged is what the bus has confirmed, so there can have been no ack; and nobody left.
        self.assertEqual(len(callers[0].events("ack")), before)
        self.assertFalse([caller for caller in callers if caller.lost])
        self.assertGreater(metric(await self.metrics(daemon), "voiceingest_queue_bytes"), 50 * FRAME_BYTES)
        self.redis.thaw()
        count = await pace(callers, 0.2, count)
        sent = [audio_of(number) for number in range(count)]
        for number, caller in enumerate(callers):
            stopped = await caller.stop()
            self.assertEqual((caller.close_code, caller.events("gap")), (1000, []))
            self.assertEqual((stopped["seq"], stopped["published"], stopped["dropped"]), (count, count, 0))
            acks = [ack["seq"] for ack in caller.events("ack")]
            self.assertEqual(acks, list(range(10, count + 1, 10)))
            await consumer.event(f"frozen-{number}", "stopped")
            self.assert_published(consumer, f"frozen-{number}", sent)

    async def acked(self, caller: Caller) -> int:
        """How many acks there are once those on their way have come.

        What the frozen bus has said is read by the daemon in the turn in which it reads a ping, or before;
        so the acks of it are before the answer to a second ping.
        """
        for number in (b"1", b"2"):
            caller.send(frame(PING, number))
            await caller.until(lambda number=number: number in caller.pongs, "a pong")  # type: ignore[misc]
        return len(caller.events("ack"))

    @asynchronous
    async def test_received_mode_does_not_wait_for_the_bus(self) -> None:
        daemon = await self.start_daemon(ACK_MODE="received", ACK_INTERVAL="3", PUBLISH_REPLY_TIMEOUT_S="20")
        consumer = await self.consume()
        caller = await self.call(daemon)
        started = await caller.start("received-1")
        self.assertEqual((started["ack_mode"], started["ack_interval"]), ("received", 3))
        self.redis.freeze()
        for number in range(10):
            caller.audio(audio_of(number))
        await caller.event("ack", 3)
        self.assertEqual([ack["seq"] for ack in caller.events("ack")], [3, 6, 9])
        self.assertEqual(consumer.frames("received-1"), [])
        self.redis.thaw()
        self.assertEqual((await caller.stop())["published"], 10)


class DownTests(IngestCase):
    """A Redis that is gone for longer than the buffer lasts.

    The daemon's user is off when Redis comes up, until the test has subscribed: pub/sub keeps nothing.
    """

    async def start(self, **settings: Any) -> tuple[Daemon, Consumer]:
        """A Redis that lets the daemon in when told to, and a daemon that is in."""
        self.redis = RedisServer(
            self, acl=["user default on nopass ~* &* +@all", "user ingest off >pass &* +@all"]
        )
        consumer = await self.let_in()
        daemon = await self.start_daemon(
            PUBLISH_URL=self.redis.url("ingest", "pass"), BUFFER_DURATION_MS=str(BUFFER_MS),
            PUBLISH_RETRY_MAX_S="0.2", **settings,
        )  # fmt: skip
        return daemon, consumer

    async def let_in(self) -> Consumer:
        """Subscribe, then open the door."""
        consumer = await self.consume()
        admin = Consumer()
        await asyncio.get_running_loop().create_connection(lambda: admin, "127.0.0.1", self.redis.port)
        self.addCleanup(admin.abort)
        admin.command("ACL", "SETUSER", "ingest", "on")
        await admin.until(lambda: admin.answers == [b"+OK"], "the user")
        return consumer

    @asynchronous
    async def test_gaps_say_exactly_what_is_missing(self) -> None:
        daemon, before = await self.start()
        caller = await self.call(daemon)
        await caller.start("down-1")
        count = await pace([caller], 0.4)
        await before.until(lambda: len(before.frames("down-1")) == count, "the frames before")
        # The daemon knows as well: what it does not know to be there it would send again.
        await caller.event("ack", count // ACK_INTERVAL)
        self.redis.kill()
        count = await pace([caller], 1.6, count)
        self.redis.restart()
        after = await self.let_in()
        await self.is_up_again(daemon)
        count = await pace([caller], 0.2, count)
        stopped = await caller.stop()
        self.assertEqual(caller.close_code, 1000)
        await after.event("down-1", "stopped")

        published = dict(before.frames("down-1")) | dict(after.frames("down-1"))
        gaps = [(gap["from"], gap["to"], gap["reason"]) for gap in caller.events("gap")]
        missing = {seq for first, last, _ in gaps for seq in range(first, last + 1)}
        self.assertEqual(missing | set(published), set(range(1, count + 1)))
        self.assertEqual(missing & set(published), set())
        self.assertEqual({reason for _, _, reason in gaps}, {"overflow"})
        self.assertTrue(all(audio == audio_of(seq - 1) for seq, audio in published.items()))
        # Kept is what the buffer holds: half a second of 20 ms frames, the newest.
        kept = count - len(missing)
        self.assertTrue(30 <= len(missing) <= 80, (missing, kept))
        order = [seq for seq, _ in after.frames("down-1")]
        self.assertEqual(order, sorted(order))
        ledger = {name: stopped[name] for name in ("received", "published", "dropped", "pending")}
        self.assertEqual(
            ledger, {"received": count, "published": kept, "dropped": len(missing), "pending": 0}
        )
        self.check_events(after, gaps, ledger)

    async def is_up_again(self, daemon: Daemon) -> None:
        """Wait until the daemon has its bus back."""
        await as_future(daemon.wait_until(lambda: len(daemon.logged("bus_up")) == 2, 40, "has no bus"))

    def check_events(
        self, consumer: Consumer, gaps: list[tuple[int, int, str]], ledger: dict[str, Any]
    ) -> None:
        """Consumers are told the same as the caller."""
        events = consumer.events("down-1")
        told = [(event["from"], event["to"], event["reason"]) for event in events if event["event"] == "gap"]
        self.assertEqual(told, gaps)
        self.assertEqual({name: events[-1][name] for name in ledger}, ledger)

    @asynchronous
    async def test_memory_stays_bounded(self) -> None:
        daemon, _ = await self.start(INGEST_MAX_REALTIME_FACTOR="0", PUBLISH_BUFFER_BYTES=str(2 * MIB))
        callers = [await self.call(daemon) for _ in range(4)]
        for number, caller in enumerate(callers):
            await caller.start(f"flood-{number}")
        self.redis.kill()
        await as_future(daemon.wait_for_log("bus_down"))
        before, piece = rss_bytes(daemon.pid), audio_of(1, 65536)
        for _ in range(256):
            for caller in callers:
                caller.audio(piece)
            await asyncio.sleep(0)
        received = "ingress_audio_bytes_received_total"
        await as_future(daemon.wait_until(lambda: self.has_read(daemon, received, 64 * MIB), 60, "reads on"))
        exposition = await self.metrics(daemon)
        self.assertLessEqual(metric(exposition, "voiceingest_queue_bytes"), 2 * MIB)
        self.assertLess(rss_bytes(daemon.pid) - before, 16 * MIB)
        held = metric(exposition, "voiceingest_queue_frames")
        dropped = metric(exposition, 'voiceingest_frames_dropped_total{reason="overflow"}')
        # Held are also the events: "started" of those it came too late for, and the gaps.
        self.assertTrue(1024 <= dropped + held <= 1024 + 4 * 65, (dropped, held))
        self.assertFalse([caller for caller in callers if caller.lost])

    def has_read(self, daemon: Daemon, name: str, count: int) -> Any:
        """Whether a counter has come so far."""
        body = daemon.get(daemon.admin_url("/metrics"))
        return body.addCallback(lambda answer: metric(answer[1].decode(), name) >= count)


class DrainTests(IngestCase):
    """SIGTERM with callers that do not stop by themselves."""

    @asynchronous
    async def test_everything_accepted_is_published(self) -> None:
        """Where clients may resume they are told how."""
        await self.drain("30", "moved")

    @asynchronous
    async def test_where_nobody_resumes(self) -> None:
        """Then it is the end of the stream."""
        await self.drain("0", "stopped")

    async def drain(self, resume_window_s: str, farewell: str) -> None:
        """Three streams and one that has not started; ``farewell`` is for those that go on."""
        daemon = await self.start_daemon(DRAIN_DEADLINE_S=str(DRAIN_S), RESUME_WINDOW_S=resume_window_s)
        consumer = await self.consume()
        callers = [await self.call(daemon) for _ in range(4)]
        *streams, waiting = callers
        for number, caller in enumerate(streams):
            await caller.start(f"drain-{number}")
        count = await pace(streams, 0.2)
        self.assertEqual((await self.get(daemon.admin_port, "/readyz")).status, 200)
        began = time.monotonic()
        daemon.signal("TERM")
        for caller in streams:
            self.assertEqual((await caller.event("goaway"))["after_ms"], 1000 * DRAIN_S)
        readyz = await self.get(daemon.admin_port, "/readyz")
        self.assertEqual(readyz.status, 503)
        self.assertIn(b"draining", readyz.body)
        self.assertEqual(await waiting.closed(), 1001)
        self.assertEqual(waiting.events("error")[0]["code"], "draining")
        # They go on: the first two to the bitter end, the third ends by itself.
        streams[2].say("stop")
        self.assertEqual(await streams[2].closed(), 1000)
        await pace(streams[:2], DRAIN_S + 0.2, count)
        for number, caller in enumerate(streams):
            last = "stopped" if number == 2 else farewell
            stopped = await caller.event(last)
            self.assertEqual(await caller.closed(), 1000 if number == 2 else 1001)
            self.assertEqual((stopped["received"], stopped["pending"]), (stopped["published"], 0))
            self.assertEqual(caller.events("error"), [])
            if number < 2:
                self.assertGreater(stopped["received"], count + 20)
            await consumer.event(f"drain-{number}", last)
            self.assert_published(
                consumer, f"drain-{number}", [audio_of(seq) for seq in range(stopped["received"])]
            )
        self.assertEqual(await as_future(daemon.wait_for_exit()), 0)
        self.assertLess(time.monotonic() - began, DRAIN_S + 12.0)
        lasts = [consumer.events(f"drain-{number}")[-1]["event"] for number in range(3)]
        self.assertEqual(lasts, [farewell, farewell, "stopped"])
