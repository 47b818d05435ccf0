"""What is overdue, lost, ended elsewhere, old; and what is not."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

from tests.support.case import TestCase
from tests.support.session_world import WALL, SessionWorld
from voiceingest.aio import as_deferred
from voiceingest.limits import IDEMPOTENCY_KEEP_S, STREAM_LOST_S
from voiceingest.session_interfaces import Session, SessionEdit
from voiceingest.sessions import sweeper
from voiceingest.sessions.sweeper import FORGET_S, SWEEP_S, VOUCH_S
from voiceingest.stream import SessionState

ACTIVE, ERROR = SessionState.ACTIVE, SessionState.ERROR


class SweepCase(TestCase):
    def setUp(self) -> None:
        self.world = SessionWorld(session_ttl_s=300)
        self.store = self.world.store

    async def made(self) -> Session:
        made, _ = await as_deferred(self.world.sessions.create(self.world.caller, "rest", SessionEdit(), "k"))
        return made

    async def sweep(self, world: SessionWorld | None = None) -> None:
        await as_deferred((world or self.world).sweeper.sweep())

    async def time(self, seconds: float, *worlds: SessionWorld) -> None:
        """Let time go by, with a sweep of each every some seconds."""
        until = self.world.clock.seconds() + seconds
        while self.world.clock.seconds() < until:
            self.world.clock.advance(SWEEP_S)
            for world in worlds or (self.world,):
                await self.sweep(world)

    def elsewhere(self) -> SessionWorld:
        world = self.world
        return SessionWorld(
            node="node-2", store=world.store, cache=world.cache, clock=world.clock, session_ttl_s=300
        )


class ExpiryTests(SweepCase):
    async def test_one_past_its_time(self) -> None:
        made = await self.made()
        await self.time(295.0)
        self.assertEqual(self.world.row(), made)
        await self.time(SWEEP_S)
        row = self.world.row()
        self.assertEqual((row.status, row.reason), (SessionState.EXPIRED, "expired"))
        self.assertEqual((row.ended_at, row.version), (WALL + 300, 2))
        self.assertEqual(self.world.metrics.session_moves["expired"], 1)
        self.assertEqual(self.world.cache.kept[made.session_id], row)

    async def test_many_are_done_in_portions(self) -> None:
        with mock.patch.object(sweeper, "ROWS_MAX_COUNT", 2):
            made = await self.made()
            for number in range(5):
                name = f"ses_{number}"
                self.store.rows[name] = replace(made, session_id=name)
            self.world.clock.advance(300.0)
            await self.sweep()
        self.assertEqual({row.status for row in self.store.rows.values()}, {SessionState.EXPIRED})

    async def test_who_was_quicker_counts_it(self) -> None:
        made = await self.made()
        self.world.clock.advance(300.0)
        stale = made
        await self.sweep()
        before = self.world.row()
        self.assertFalse(await as_deferred(self.world.sweeper._close(stale, is_steady=True)))
        self.assertEqual((self.world.row(), self.world.metrics.session_moves["expired"]), (before, 1))


class VouchingTests(SweepCase):
    async def test_one_that_lives_does_not_expire(self) -> None:
        self.world.begin()
        await self.world.written()
        await self.time(2000.0)
        row = self.world.row()
        self.assertEqual((row.status, row.version), (ACTIVE, 1))
        self.assertGreater(row.expires_at, self.world.wall() + 300 - VOUCH_S - SWEEP_S)
        # Not every time, though.
        self.assertLess(self.store.asked.count("vouch"), 2000 / VOUCH_S * 1.5)

    async def test_one_whose_process_is_gone_is_lost(self) -> None:
        self.world.begin()
        await self.world.written()
        there = self.elsewhere()
        await self.time(STREAM_LOST_S - SWEEP_S, there)
        self.assertEqual(self.world.row().status, ACTIVE)
        await self.time(2 * SWEEP_S, there)
        row = self.world.row()
        self.assertEqual((row.status, row.reason), (ERROR, "lost"))

    async def test_after_the_store_was_away_nobody_is_lost_at_once(self) -> None:
        """Whoever is back first does not close the rows of those who are not."""
        self.world.begin()
        await self.world.written()
        there = self.elsewhere()
        await self.time(100.0, self.world, there)
        self.store.is_away = True
        await self.time(1000.0, self.world, there)
        self.store.is_away = False
        await self.time(VOUCH_S, there)
        self.assertEqual(self.world.row().status, ACTIVE)
        await self.time(200.0, self.world, there)
        self.assertEqual((self.world.row().status, self.world.row().version), (ACTIVE, 1))

    async def test_one_that_was_taken_for_lost_gets_a_new_row(self) -> None:
        stream = self.world.begin()
        await self.world.written()
        row = self.world.row()
        self.store.rows[row.session_id] = replace(row, status=ERROR, reason="lost", ended_at=WALL, version=2)
        await self.sweep()
        await self.world.written()
        self.assertEqual(stream.hung_up, [])
        again = self.world.row(stream)
        self.assertNotEqual(again.session_id, row.session_id)
        self.assertEqual((again.status, again.epoch, len(self.store.rows)), (ACTIVE, 1, 2))
        self.world.end(stream, "stopped", 3)
        await self.world.written()
        self.assertEqual(self.store.rows[again.session_id].frames, 3)
        self.assertEqual(self.store.rows[row.session_id].reason, "lost")

    async def test_one_that_was_deleted_does_too(self) -> None:
        stream = self.world.begin()
        await self.world.written()
        self.store.rows.clear()
        await self.sweep()
        await self.world.written()
        self.assertEqual((self.world.row(stream).status, stream.hung_up), (ACTIVE, []))

    async def test_one_whose_beginning_was_dropped(self) -> None:
        stream = self.world.begin()
        self.world.writer._waiting.clear()
        await self.sweep()
        await self.world.written()
        self.assertEqual(self.world.row(stream).status, ACTIVE)


class EndedElsewhereTests(SweepCase):
    async def test_it_is_found_though_nobody_has_told(self) -> None:
        stream = self.world.begin()
        await self.world.written()
        there = self.elsewhere()
        await as_deferred(there.sessions.end("usr_1", self.world.row().session_id))
        self.assertEqual(stream.hung_up, [])
        await self.sweep()
        self.assertEqual((stream.hung_up, len(self.world.live)), (["ended"], 0))

    async def test_one_that_went_on_and_ended_elsewhere_is_not_begun_again(self) -> None:
        """What is left of it here waits for its client, in vain; unless it is the other that did."""
        for reason, rows in (("stopped", 1), ("disconnected", 2)):
            self.setUp()
            self.world.begin()
            await self.world.written()
            there = self.elsewhere()
            again = there.begin()
            await there.written()
            there.end(again, reason)
            await there.written()
            await self.sweep()
            await self.world.written()
            self.assertEqual(len(self.store.rows), rows, reason)

    async def test_who_is_well_is_left_alone(self) -> None:
        streams = [self.world.begin(str(number)) for number in range(3)]
        await self.world.written()
        self.store.asked.clear()
        await self.sweep()
        self.assertEqual([stream.hung_up for stream in streams], [[], [], []])
        self.assertEqual(self.store.asked.count("open_sessions"), 1)
        self.assertNotIn("session", self.store.asked)


class ForgettingTests(SweepCase):
    async def test_old_ones_and_old_keys(self) -> None:
        self.world = SessionWorld(session_keep_days=2, session_ttl_s=300)
        self.store = self.world.store
        made = await self.made()
        await as_deferred(self.world.sessions.end("usr_1", made.session_id))
        await self.sweep()
        self.world.clock.advance(IDEMPOTENCY_KEEP_S + 1)
        await self.sweep()
        self.assertEqual((len(self.store.rows), self.store.keys), (1, {}))
        self.world.clock.advance(86400.0)
        await self.sweep()
        self.assertEqual(self.store.rows, {})

    async def test_seldom(self) -> None:
        await self.time(FORGET_S * 0.9)
        self.assertEqual(self.store.asked.count("forget_sessions"), 1)
        await self.time(FORGET_S * 0.2)
        self.assertEqual(self.store.asked.count("forget_sessions"), 2)


class RunningTests(SweepCase):
    async def test_every_few_seconds_and_whatever_goes_wrong(self) -> None:
        made = await self.made()
        self.world.sweeper.start()
        self.addCleanup(lambda: as_deferred(self.world.sweeper.stop()))
        await self.world.settle()
        self.store.asked.clear()
        with mock.patch.object(self.store, "overdue", side_effect=RuntimeError("a bug")):
            self.world.clock.advance(SWEEP_S)
            await self.world.settle()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.store.is_away = True
        self.world.clock.advance(SWEEP_S)
        await self.world.settle()
        self.store.is_away = False
        self.world.clock.advance(300.0)
        await self.world.settle()
        self.assertIs(self.store.rows[made.session_id].status, SessionState.EXPIRED)

    async def test_stopped_it_looks_no_more(self) -> None:
        self.world.sweeper.start()
        await self.world.settle()
        await as_deferred(self.world.sweeper.stop())
        await as_deferred(self.world.sweeper.stop())
        self.assertEqual((self.world.clock.getDelayedCalls(), self.store.asked), ([], []))

    async def test_processes_do_not_come_together(self) -> None:
        for jitter in (0.0, 1.0):
            world = SessionWorld()
            world.sweeper._jitter = lambda jitter=jitter: jitter
            world.sweeper.start()
            self.addCleanup(lambda world=world: as_deferred(world.sweeper.stop()))
            await world.settle()
            (due,) = world.clock.getDelayedCalls()
            self.assertEqual(due.getTime(), SWEEP_S * (0.75 + jitter / 2))
