"""How streams become rows: new ones, sessions that waited for them, rows of another process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.case import TestCase
from tests.support.session_store import MemorySessionStore
from tests.support.session_world import WALL, SessionWorld
from voiceingest.aio import as_deferred
from voiceingest.errors import EditConflict, StoreUnavailable
from voiceingest.session_interfaces import Session, SessionEdit
from voiceingest.sessions.rows import ATTEMPTS_MAX_COUNT
from voiceingest.stream import SessionState

ACTIVE, COMPLETED, ERROR = SessionState.ACTIVE, SessionState.COMPLETED, SessionState.ERROR


class RowCase(TestCase):
    def setUp(self) -> None:
        self.world = SessionWorld(session_ttl_s=60)
        self.store = self.world.store

    def elsewhere(self, node: str = "node-2") -> SessionWorld:
        """Another process with the same store."""
        world = self.world
        return SessionWorld(
            node=node, store=world.store, cache=world.cache, clock=world.clock, session_ttl_s=60
        )

    async def made(self, world: SessionWorld | None = None, **edit: Any) -> Session:
        """A session that was asked for."""
        world = world or self.world
        made, _ = await as_deferred(world.sessions.create(world.caller, "rest", SessionEdit(**edit), None))
        return made


class NewTests(RowCase):
    async def test_a_stream_is_a_session(self) -> None:
        self.world.clock.advance(1.0)
        self.world.begin("call", tenant_id="acme", epoch=7, subject="someone", transport="voicebot")
        self.world.clock.advance(1.0)
        await self.world.written()
        row = self.world.row()
        self.assertEqual((row.status, row.transport, row.user_id), (ACTIVE, "voicebot", "someone"))
        self.assertEqual((row.tenant_id, row.interaction_id, row.epoch), ("acme", "call", 7))
        self.assertEqual((row.created_at, row.started_at, row.updated_at), (WALL + 1, WALL + 1, WALL + 2))
        self.assertEqual((row.expires_at, row.node, row.version), (WALL + 62, "node-1", 1))
        self.assertEqual(self.world.live.session_ids, [row.session_id])
        self.assertEqual(self.world.cache.kept, {row.session_id: row})
        self.assertEqual(self.world.metrics.session_moves["active"], 1)

    async def test_its_end(self) -> None:
        for reason, status in (("stopped", COMPLETED), ("flush_timeout", ERROR)):
            stream = self.world.begin(reason)
            await self.world.written()
            self.world.clock.advance(3.0)
            ended_at = self.world.wall()
            self.world.end(stream, reason, 9)
            self.world.clock.advance(1.0)
            await self.world.written()
            (row,) = (one for one in self.store.rows.values() if one.interaction_id == reason)
            self.assertEqual((row.status, row.reason, row.frames), (status, reason, 9))
            self.assertEqual((row.ended_at, row.updated_at, row.version), (ended_at, ended_at + 1, 2))
            self.assertEqual(self.world.cache.kept[row.session_id], row)
        self.assertEqual(dict(self.world.metrics.session_moves), {"active": 2, "completed": 1, "error": 1})

    async def test_begun_and_ended_is_one_write(self) -> None:
        self.world.end(self.world.begin(), "stopped", 3)
        await self.world.written()
        row = self.world.row()
        self.assertEqual((row.status, row.frames, row.version), (COMPLETED, 3, 1))
        self.assertEqual(self.store.asked, ["stream_session", "add"])
        self.assertEqual(self.world.metrics.session_moves["active"], 1)
        self.assertEqual(self.world.metrics.session_moves["completed"], 1)

    async def test_how_many_a_user_may_have_is_no_reason_to_refuse_audio(self) -> None:
        self.world = SessionWorld(sessions_max_per_user=1)
        for number in range(3):
            self.world.begin(str(number))
        await self.world.written()
        self.assertEqual(len(self.world.store.rows), 3)

    async def test_a_write_nobody_heard_of_is_not_made_twice(self) -> None:
        self.world.begin()
        one = self.world.live.nameless[0]
        self.store.forgets_to_answer = True
        with self.assertRaises(StoreUnavailable):
            await as_deferred(self.world.rows.write(one))
        self.store.forgets_to_answer = False
        await self.world.written()
        self.assertEqual((self.world.row().status, self.world.row().session_id), (ACTIVE, one.fresh_id))

    async def test_nor_is_an_end(self) -> None:
        stream = self.world.begin()
        await self.world.written()
        (one,) = self.world.live._by_stream.values()
        self.world.end(stream, "stopped", 5)
        self.store.forgets_to_answer = True
        with self.assertRaises(StoreUnavailable):
            await as_deferred(self.world.rows.write(one))
        self.store.forgets_to_answer = False
        await self.world.written()
        self.assertEqual((self.world.row().status, self.world.row().frames), (COMPLETED, 5))


class ActivationTests(RowCase):
    async def test_a_session_that_waited_for_its_stream(self) -> None:
        made = await self.made(metadata={"a": 1})
        self.world.clock.advance(2.0)
        stream = self.world.begin(made.session_id, epoch=5)
        await self.world.written()
        row = self.world.row()
        self.assertEqual((row.session_id, row.status, row.transport), (made.session_id, ACTIVE, "ingest"))
        self.assertEqual((row.started_at, row.created_at, row.epoch), (WALL + 2, WALL, 5))
        self.assertEqual((row.metadata, row.device_id, row.expires_at), ({"a": 1}, "dev_1", WALL + 62))
        self.world.end(stream)
        await self.world.written()
        self.assertEqual((self.world.row().status, self.world.row().version), (COMPLETED, 3))
        moves = {"pending": 1, "active": 1, "completed": 1}
        self.assertEqual(dict(self.world.metrics.session_moves), moves)

    async def test_that_of_another_user_is_not_touched(self) -> None:
        made = await self.made()
        self.world.begin(made.session_id, subject="usr_2")
        await self.world.written()
        self.assertEqual(self.store.rows[made.session_id], made)
        self.assertEqual(len(self.store.rows), 2)

    async def test_a_name_that_only_looks_like_one(self) -> None:
        self.world.begin("ses_" + "x" * 22)
        await self.world.written()
        self.assertNotEqual(self.world.row().session_id, "ses_" + "x" * 22)

    async def test_an_edit_meanwhile_is_kept(self) -> None:
        made = await self.made()
        stream = self.world.begin(made.session_id)
        await self.world.written()
        await as_deferred(self.world.sessions.edit("usr_1", made.session_id, SessionEdit(context={"x": 1})))
        self.world.end(stream)
        await self.world.written()
        row = self.world.row()
        self.assertEqual((row.status, row.context, row.version), (COMPLETED, {"x": 1}, 4))

    async def test_begun_anew_it_goes_on(self) -> None:
        """The older stream ends as replaced, and that is no end of the session."""
        made = await self.made()
        older = self.world.begin(made.session_id, epoch=5)
        await self.world.written()
        for is_written_between in (True, False):
            self.world.end(older, "replaced", 9)
            if is_written_between:
                await self.world.written()
                self.assertEqual(self.world.row().status, ACTIVE)
            epoch = 6 if is_written_between else 7
            older = self.world.begin(made.session_id, epoch=epoch)
            await self.world.written()
            self.assertEqual((self.world.row().status, self.world.row().epoch), (ACTIVE, epoch))
        self.world.end(older, "stopped")
        await self.world.written()
        self.assertEqual(self.world.row().status, COMPLETED)

    async def test_one_that_was_over_before_is_not_begun_again(self) -> None:
        made = await self.made()
        await as_deferred(self.world.sessions.end("usr_1", made.session_id))
        self.world.clock.advance(1.0)
        stream = self.world.begin(made.session_id)
        await self.world.written()
        self.assertEqual(stream.hung_up, [])
        self.assertEqual(len(self.store.rows), 2)

    async def test_one_that_was_ended_by_its_user_ends_the_stream(self) -> None:
        made = await self.made()
        stream = self.world.begin(made.session_id)
        self.world.clock.advance(1.0)
        await as_deferred(self.world.sessions.end("usr_1", made.session_id))
        await self.world.written()
        self.assertEqual((stream.hung_up, len(self.world.live)), (["ended"], 0))
        self.assertEqual((self.world.row().status, self.world.row().reason), (COMPLETED, "ended"))


class ElsewhereTests(RowCase):
    """Streams that go from one process to another."""

    async def test_moved_the_row_goes_on(self) -> None:
        stream = self.world.begin("call", epoch=5)
        await self.world.written()
        first = self.world.row()
        self.world.end(stream, "moved", 20)
        await self.world.written()
        row = self.world.row()
        self.assertEqual((row.status, row.frames, row.ended_at), (ACTIVE, 20, None))
        self.world.clock.advance(10.0)
        there = self.elsewhere()
        again = there.begin("call", epoch=5)
        await there.written()
        row = self.world.row()
        self.assertEqual((row.session_id, row.status, row.node), (first.session_id, ACTIVE, "node-2"))
        self.assertEqual(row.started_at, first.started_at)
        # It is vouched for from now on, and not lost before that is done for the next time.
        self.assertEqual(self.store.vouched[row.session_id], WALL + 10.0)
        there.end(again, "stopped", 55)
        await there.written()
        self.assertEqual((self.world.row().status, self.world.row().frames), (COMPLETED, 55))
        self.assertEqual(there.metrics.session_moves["active"], 0)

    async def test_who_still_waits_for_its_client_does_not_end_it(self) -> None:
        stream = self.world.begin("call", epoch=5)
        await self.world.written()
        there = self.elsewhere()
        there.begin("call", epoch=5)
        await there.written()
        await as_deferred(self.world.sweeper.sweep())
        self.world.end(stream, "disconnected")
        await self.world.written()
        row = self.world.row()
        self.assertEqual((row.status, row.node), (ACTIVE, "node-2"))

    async def test_nor_where_its_beginning_was_not_written_yet(self) -> None:
        stream = self.world.begin("call", epoch=5)
        there = self.elsewhere()
        there.begin("call", epoch=5)
        await there.written()
        self.world.end(stream, "disconnected")
        await self.world.written()
        row = self.world.row()
        self.assertEqual((row.status, row.node, row.version), (ACTIVE, "node-2", 1))

    async def test_begun_anew_elsewhere_in_the_name_of_the_session(self) -> None:
        made = await self.made()
        stream = self.world.begin(made.session_id, epoch=5)
        await self.world.written()
        there = self.elsewhere()
        there.begin(made.session_id, epoch=6)
        await there.written()
        self.world.end(stream, "disconnected")
        await self.world.written()
        row = self.world.row()
        self.assertEqual((row.status, row.node, row.epoch), (ACTIVE, "node-2", 6))

    async def test_one_that_its_user_has_ended_is_hung_up_wherever_it_comes(self) -> None:
        stream = self.world.begin("call", epoch=5)
        await self.world.written()
        self.world.end(stream, "moved")
        await self.world.written()
        await as_deferred(self.world.sessions.end("usr_1", self.world.row().session_id))
        self.world.clock.advance(5.0)
        there = self.elsewhere()
        again = there.begin("call", epoch=5)
        await there.written()
        self.assertEqual(again.hung_up, ["ended"])
        self.assertEqual(len(self.store.rows), 1)

    async def test_one_that_was_taken_for_lost_gets_a_new_row(self) -> None:
        stream = self.world.begin("call", epoch=5)
        await self.world.written()
        self.world.end(stream, "moved")
        await self.world.written()
        row = self.world.row()
        self.store.rows[row.session_id] = replace(row, status=ERROR, reason="lost", ended_at=WALL)
        there = self.elsewhere()
        again = there.begin("call", epoch=5)
        await there.written()
        self.assertEqual((again.hung_up, len(self.store.rows)), ([], 2))
        self.assertEqual((there.row(again).status, there.row(again).epoch), (ACTIVE, 5))
        lost = self.store.rows[row.session_id]
        self.assertEqual((lost.status, lost.epoch, lost.interaction_id), (ERROR, None, "call"))


class RacingStore(MemorySessionStore):
    """Somebody else changes what is about to be written, so many times."""

    races = 0

    async def update(self, session: Session, version: int) -> bool:
        if self.races:
            self.races -= 1
            before = self.rows[session.session_id]
            self.rows[session.session_id] = replace(before, version=before.version + 1)
        return await super().update(session, version)


class RaceTests(RowCase):
    def setUp(self) -> None:
        self.store = RacingStore()
        self.world = SessionWorld(store=self.store)

    async def test_who_is_overtaken_tries_again(self) -> None:
        made = await self.made()
        self.store.races = ATTEMPTS_MAX_COUNT - 1
        stream = self.world.begin(made.session_id)
        await self.world.written()
        self.assertEqual(self.world.row().status, ACTIVE)
        self.store.races = ATTEMPTS_MAX_COUNT - 1
        self.world.end(stream)
        await self.world.written()
        self.assertEqual(self.world.row().status, COMPLETED)
        self.assertEqual(dict(self.world.metrics.store_writes), {"written": 2})

    async def test_and_comes_again_later(self) -> None:
        made = await self.made()
        self.store.races = ATTEMPTS_MAX_COUNT
        self.world.begin(made.session_id)
        with self.assertRaises(EditConflict):
            await as_deferred(self.world.rows.write(self.world.live.nameless[0]))
        self.assertEqual(self.world.row().status, SessionState.PENDING)
        await self.world.written()
        self.assertEqual(self.world.row().status, ACTIVE)

    async def test_a_row_that_is_gone_is_no_more_to_be_ended(self) -> None:
        stream = self.world.begin()
        await self.world.written()
        self.store.rows.clear()
        self.world.end(stream)
        await self.world.written()
        self.assertEqual((self.store.rows, dict(self.world.metrics.store_writes)), ({}, {"written": 2}))
