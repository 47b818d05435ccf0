"""The queue of writes: order, bounds, retries, and how it ends."""

from __future__ import annotations

import asyncio
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.case import TestCase
from tests.support.session_world import FakeStream, SessionWorld
from voiceingest.aio import as_deferred
from voiceingest.errors import EditConflict, StoreUnavailable
from voiceingest.limits import STORE_QUEUE_MAX_COUNT
from voiceingest.sessions import writer
from voiceingest.sessions.live import Live
from voiceingest.sessions.writer import Writer


class WriterCase(TestCase):
    def setUp(self) -> None:
        self.world = SessionWorld()
        self.clock: Clock = self.world.clock
        self.metrics = self.world.metrics
        self.written: list[tuple[str, str | None]] = []
        self.errors: list[Exception] = []
        self.gate: asyncio.Event | None = None
        # In place of the rows: what is written is noted.
        self.writer = Writer(self.note, self.metrics, sleep=self.world.sleep, jitter=lambda: 1.0)
        self.world.records._writer = self.writer

    async def note(self, one: Live) -> None:
        ending = None if one.ending is None else one.ending.reason
        if self.gate is not None:
            await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.written.append((one.facts.interaction_id, ending))

    async def start(self) -> None:
        self.writer.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self._stop()))
        await self.world.settle()

    async def _stop(self) -> None:
        # Nothing that a test leaves waiting is waited for.
        self.gate = None
        stopped = as_deferred(self.writer.stop(0.0))
        await self.world.settle()
        self.clock.advance(0.0)
        await stopped


class WriterTests(WriterCase):
    async def test_in_order_and_counted(self) -> None:
        streams = [self.world.begin(name) for name in "abc"]
        self.assertEqual((len(self.writer), self.metrics.store_queue), (3, 3))
        await self.start()
        self.assertEqual(self.written, [("a", None), ("b", None), ("c", None)])
        self.assertEqual((len(self.writer), self.metrics.store_queue), (0, 0))
        self.world.end(streams[1])
        await self.world.settle()
        self.assertEqual(self.written[3:], [("b", "stopped")])
        self.assertEqual(dict(self.metrics.store_writes), {"written": 4})

    async def test_begun_and_ended_is_one(self) -> None:
        self.world.end(self.world.begin("a"), "disconnected")
        await self.start()
        self.assertEqual(self.written, [("a", "disconnected")])

    async def test_ended_while_its_beginning_is_written(self) -> None:
        self.gate = asyncio.Event()
        stream = self.world.begin("a")
        self.world.begin("b")
        await self.start()
        self.world.end(stream)
        self.assertEqual(len(self.writer), 2)
        self.gate.set()
        await self.world.settle()
        self.assertEqual(self.written, [("a", None), ("a", "stopped"), ("b", None)])

    async def test_while_the_store_is_away_it_is_asked_ever_less_often(self) -> None:
        self.errors = [StoreUnavailable() for _ in range(9)] + [EditConflict()]
        self.world.begin("a")
        self.world.begin("b")
        await self.start()
        pauses = []
        while self.errors:
            (due,) = self.clock.getDelayedCalls()
            pauses.append(round(due.getTime() - self.clock.seconds(), 3))
            self.clock.advance(due.getTime() - self.clock.seconds())
            await self.world.settle()
        self.assertEqual(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])
        self.assertEqual(self.written, [])
        self.clock.advance(5.0)
        await self.world.settle()
        self.assertEqual(self.written, [("a", None), ("b", None)])
        self.assertEqual(dict(self.metrics.store_writes), {"retried": 10, "written": 2})
        # It has answered: the next pause is short again.
        self.errors = [StoreUnavailable()]
        self.world.begin("c")
        await self.world.settle()
        self.clock.advance(0.1)
        await self.world.settle()
        self.assertEqual(self.written[-1], ("c", None))

    async def test_what_ended_while_the_store_was_away_is_one_write(self) -> None:
        self.errors = [StoreUnavailable()]
        stream = self.world.begin("a")
        await self.start()
        self.world.end(stream)
        self.clock.advance(0.1)
        await self.world.settle()
        self.assertEqual((self.written, len(self.writer)), ([("a", "stopped")], 0))

    async def test_pauses_are_jittered(self) -> None:
        self.writer = Writer(self.note, self.metrics, sleep=self.world.sleep, jitter=lambda: 0.0)
        self.world.records._writer = self.writer
        self.errors = [StoreUnavailable()]
        self.world.begin("a")
        await self.start()
        self.assertEqual(self.clock.getDelayedCalls()[0].getTime(), 0.05)
        self.clock.advance(0.05)
        await self.world.settle()
        self.assertEqual(len(self.written), 1)

    async def test_a_bug_keeps_none_of_the_others_waiting(self) -> None:
        self.errors = [RuntimeError("a bug")]
        self.world.begin("a")
        self.world.begin("b")
        await self.start()
        self.assertEqual(self.written, [("b", None)])
        self.assertEqual(dict(self.metrics.store_writes), {"failed": 1, "written": 1})
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_when_full_the_oldest_goes_that_is_not_in_hand(self) -> None:
        with mock.patch.object(writer, "STORE_QUEUE_MAX_COUNT", 3):
            self.gate = asyncio.Event()
            self.world.begin("a")
            await self.start()
            for name in "bcdef":
                self.world.begin(name)
            self.assertEqual((len(self.writer), self.metrics.store_writes["dropped"]), (3, 3))
            self.gate.set()
            await self.world.settle()
        self.assertEqual([name for name, _ in self.written], ["a", "e", "f"])

    async def test_the_end_of_one_whose_beginning_was_dropped_is_written_whole(self) -> None:
        with mock.patch.object(writer, "STORE_QUEUE_MAX_COUNT", 1):
            stream = self.world.begin("a")
            self.world.begin("b")
            self.world.end(stream)
        await self.start()
        self.assertEqual(self.written, [("a", "stopped")])

    def test_its_bound(self) -> None:
        for number in range(STORE_QUEUE_MAX_COUNT + 5):
            self.world.begin(str(number))
        self.assertEqual(len(self.writer), STORE_QUEUE_MAX_COUNT)
        self.assertEqual(self.metrics.store_queue, STORE_QUEUE_MAX_COUNT)
        self.assertEqual(self.metrics.store_writes["dropped"], 5)


class StopTests(WriterCase):
    async def test_what_waits_is_written(self) -> None:
        self.gate = asyncio.Event()
        self.world.begin("a")
        self.world.begin("b")
        await self.start()
        stopped = as_deferred(self.writer.stop(5.0))
        await self.world.settle()
        self.gate.set()
        await stopped
        self.assertEqual(len(self.written), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_but_no_longer_than_it_may_take(self) -> None:
        self.errors = [StoreUnavailable() for _ in range(99)]
        self.world.begin("a")
        self.world.begin("b")
        await self.start()
        stopped = as_deferred(self.writer.stop(5.0))
        for _ in range(110):
            self.assertFalse(stopped.called and self.clock.seconds() < 5.0)
            self.clock.advance(0.05)
            await self.world.settle()
        await stopped
        self.assertEqual(self.metrics.store_writes["dropped"], 2)
        self.assertEqual((len(self.writer), self.metrics.store_queue), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_one_that_never_answers_is_cut(self) -> None:
        self.gate = asyncio.Event()
        self.world.begin("a")
        await self.start()
        stopped = as_deferred(self.writer.stop(1.0))
        await self.world.settle()
        self.clock.advance(1.0)
        await stopped
        self.assertEqual((self.written, self.metrics.store_writes["dropped"]), ([], 1))

    async def test_one_that_was_not_started(self) -> None:
        await as_deferred(self.writer.stop(1.0))
        self.assertIsInstance(self.world.begin("a"), FakeStream)
