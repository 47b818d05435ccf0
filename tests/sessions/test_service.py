"""What the APIs ask: create, show, change, end, list."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred

from tests.support.case import TestCase
from tests.support.session_store import MemorySessionStore
from tests.support.session_world import WALL, FakeBus, SessionWorld
from voiceingest.aio import as_deferred
from voiceingest.device_interfaces import Caller
from voiceingest.errors import (
    BadField,
    ContextTooBig,
    EditConflict,
    IdempotencyMismatch,
    IllegalMove,
    SessionNotFound,
    StoreUnavailable,
    TooManySessions,
    VoiceIngestError,
)
from voiceingest.limits import SESSION_PAGE_MAX_COUNT
from voiceingest.session_interfaces import ISessions, Session, SessionEdit, SessionQuery
from voiceingest.sessions.service import ATTEMPTS_MAX_COUNT
from voiceingest.stream import SessionState


class Overtaken(MemorySessionStore):
    """Somebody else is quicker, so many times."""

    overtakings = 0

    async def update(self, session: Session, version: int) -> bool:
        if self.overtakings:
            self.overtakings -= 1
            before = self.rows[session.session_id]
            self.rows[session.session_id] = replace(
                before, version=before.version + 1, metadata={**before.metadata, "other": self.overtakings}
            )
        return await super().update(session, version)


class ServiceCase(TestCase):
    def setUp(self) -> None:
        self.store = Overtaken()
        self.world = SessionWorld(store=self.store, session_ttl_s=60, sessions_max_per_user=3)
        self.sessions: ISessions = self.world.sessions
        self.other = Caller("usr_2", "dev_2", "fam_2", WALL + 3600)

    async def make(self, key: str | None = None, **parts: Any) -> Session:
        """A new session of the caller."""
        return (await self.create(key, **parts))[0]

    def create(self, key: str | None = None, **parts: Any) -> Deferred[tuple[Session, bool]]:
        return as_deferred(self.sessions.create(self.world.caller, "rest", SessionEdit(**parts), key))

    def edit(self, session: Session, **parts: Any) -> Deferred[Session]:
        return as_deferred(self.sessions.edit("usr_1", session.session_id, SessionEdit(**parts)))

    def end(self, session: Session) -> Deferred[Session]:
        return as_deferred(self.sessions.end("usr_1", session.session_id))

    async def refused(self, error: type[VoiceIngestError], asked: Coroutine[Any, Any, Any]) -> None:
        with self.assertRaises(error):
            await as_deferred(asked)


class CreateTests(ServiceCase):
    async def test_a_new_one(self) -> None:
        self.world.clock.advance(1.0)
        made, is_replay = await self.create(audio_config={"rate": 8000}, context={"history": []})
        self.assertFalse(is_replay)
        self.assertEqual(made, self.store.rows[made.session_id])
        self.assertEqual((made.status, made.version), (SessionState.PENDING, 1))
        self.assertEqual((made.user_id, made.device_id, made.transport), ("usr_1", "dev_1", "rest"))
        self.assertEqual((made.created_at, made.expires_at), (WALL + 1.0, WALL + 61.0))
        self.assertEqual((made.audio_config, made.context), ({"rate": 8000}, {"history": []}))
        self.assertEqual(self.world.metrics.session_moves["pending"], 1)

    async def test_the_same_key_is_the_same_session(self) -> None:
        first, _ = await self.create("k", metadata={"a": 1, "b": 2})
        second, is_replay = await self.create("k", metadata={"b": 2, "a": 1})
        self.assertEqual((second, is_replay), (first, True))
        self.assertEqual((len(self.store.rows), self.world.metrics.idempotent_replays), (1, 1))
        self.assertEqual(self.world.metrics.session_moves["pending"], 1)
        with self.assertRaises(IdempotencyMismatch):
            await self.create("k", metadata={"a": 2})
        # Of another user it is another key.
        await as_deferred(self.sessions.create(self.other, "rest", SessionEdit(), "k"))
        self.assertEqual(len(self.store.rows), 2)

    async def test_an_answer_nobody_heard_may_be_asked_for_again(self) -> None:
        self.store.forgets_to_answer = True
        with self.assertRaises(StoreUnavailable):
            await self.create("k")
        self.store.forgets_to_answer = False
        _, is_replay = await self.create("k")
        self.assertEqual((is_replay, len(self.store.rows)), (True, 1))

    async def test_so_many_and_no_more(self) -> None:
        made = [await self.make() for _ in range(3)]
        with self.assertRaises(TooManySessions):
            await self.create()
        await self.end(made[0])
        await self.create()

    async def test_what_is_refused_leaves_nothing(self) -> None:
        with self.assertRaises(BadField):
            await self.create("k" * 129)
        with self.assertRaises(BadField):
            await self.create(context={"a": float("nan")})
        with self.assertRaises(BadField):
            await self.create("k", metadata={"a": "\ud800"})
        with self.assertRaises(ContextTooBig):
            await self.create(metadata={"a": "x" * 5000})
        self.assertEqual((self.store.rows, self.store.asked), ({}, []))


class ReadTests(ServiceCase):
    async def test_through_the_cache(self) -> None:
        made = await self.make()
        self.store.asked.clear()
        self.assertEqual(await as_deferred(self.sessions.get("usr_1", made.session_id)), made)
        self.assertEqual(self.store.asked, [])
        self.world.cache.kept.clear()
        self.assertEqual(await as_deferred(self.sessions.get("usr_1", made.session_id)), made)
        self.assertEqual((self.store.asked, made.session_id in self.world.cache.kept), (["session"], True))

    async def test_that_of_another_user_is_not_there(self) -> None:
        made = await self.make()
        for is_cached in (True, False):
            if not is_cached:
                self.world.cache.kept.clear()
            await self.refused(SessionNotFound, self.sessions.get("usr_2", made.session_id))
        await self.refused(SessionNotFound, self.sessions.edit("usr_2", made.session_id, SessionEdit()))
        await self.refused(SessionNotFound, self.sessions.end("usr_2", made.session_id))
        await self.refused(SessionNotFound, self.sessions.get("usr_1", "ses_unknown"))
        self.assertEqual(self.store.rows[made.session_id], made)
        # An operator sees all.
        self.assertEqual(await as_deferred(self.sessions.get(None, made.session_id)), made)
        self.assertEqual((await as_deferred(self.sessions.end(None, made.session_id))).reason, "ended")

    async def test_pages(self) -> None:
        made = []
        for _ in range(3):
            made.append(await self.make())
            self.world.clock.advance(1.0)
        first = await as_deferred(self.sessions.page(SessionQuery("usr_1", limit=2)))
        self.assertEqual(first, [made[2], made[1]])
        place = (first[-1].created_at, first[-1].session_id)
        rest = await as_deferred(self.sessions.page(SessionQuery("usr_1", limit=2, before=place)))
        self.assertEqual(rest, [made[0]])
        self.assertEqual(await as_deferred(self.sessions.page(SessionQuery("usr_2"))), [])
        self.assertEqual(len(await as_deferred(self.sessions.page(SessionQuery()))), 3)

    async def test_a_page_is_bounded(self) -> None:
        limits = []

        async def page(query: SessionQuery) -> list[Session]:
            limits.append(query.limit)
            return []

        self.patch(self.store, "page", page)
        for limit in (-5, 0, 10, 10**9):
            await as_deferred(self.sessions.page(SessionQuery(limit=limit)))
        self.assertEqual(limits, [1, 1, 10, SESSION_PAGE_MAX_COUNT])


class EditTests(ServiceCase):
    async def test_a_merge_patch(self) -> None:
        made = await self.make(metadata={"a": 1, "b": 2}, context={"x": {"y": 1}})
        self.world.clock.advance(5.0)
        changed = await self.edit(made, metadata={"a": None, "c": 3}, context={"x": {"z": 2}})
        self.assertEqual(changed.metadata, {"b": 2, "c": 3})
        self.assertEqual(changed.context, {"x": {"y": 1, "z": 2}})
        self.assertEqual((changed.version, changed.updated_at, changed.expires_at), (2, WALL + 5, WALL + 65))
        self.assertEqual(changed, self.store.rows[made.session_id])
        # Whoever reads from the cache sees it.
        self.assertEqual(await as_deferred(self.sessions.get("usr_1", made.session_id)), changed)
        self.assertEqual(dict(self.world.metrics.session_moves), {"pending": 1})

    async def test_who_is_overtaken_tries_again_on_what_is_there_then(self) -> None:
        made = await self.make()
        self.store.overtakings = ATTEMPTS_MAX_COUNT - 1
        changed = await self.edit(made, metadata={"mine": 1})
        self.assertEqual(changed.metadata, {"mine": 1, "other": 0})
        self.assertEqual(changed.version, 1 + ATTEMPTS_MAX_COUNT)

    async def test_but_not_for_ever(self) -> None:
        made = await self.make()
        self.store.overtakings = ATTEMPTS_MAX_COUNT
        with self.assertRaises(EditConflict):
            await self.edit(made, metadata={"mine": 1})
        self.assertEqual(self.store.asked.count("update"), ATTEMPTS_MAX_COUNT)

    async def test_two_at_once_are_both_kept(self) -> None:
        made = await self.make()

        async def both() -> None:
            edits = (SessionEdit(metadata={"a": 1}), SessionEdit(metadata={"b": 2}))
            await asyncio.gather(*(self.sessions.edit("usr_1", made.session_id, edit) for edit in edits))

        await as_deferred(both())
        self.assertEqual(self.store.rows[made.session_id].metadata, {"a": 1, "b": 2})

    async def test_what_is_over_does_not_change(self) -> None:
        made = await self.make()
        await self.end(made)
        with self.assertRaises(IllegalMove):
            await self.edit(made, metadata={"a": 1})

    async def test_what_is_too_big_changes_nothing(self) -> None:
        made = await self.make(metadata={"a": "x" * 4000})
        with self.assertRaises(ContextTooBig):
            await self.edit(made, metadata={"b": "x" * 200})
        self.assertEqual(self.store.rows[made.session_id], made)


class EndTests(ServiceCase):
    async def test_one_without_a_stream(self) -> None:
        made = await self.make()
        self.world.clock.advance(2.0)
        ended = await self.end(made)
        self.assertEqual((ended.status, ended.reason), (SessionState.COMPLETED, "ended"))
        self.assertEqual((ended.ended_at, ended.version), (WALL + 2.0, 2))
        self.assertEqual(await as_deferred(self.sessions.get("usr_1", made.session_id)), ended)
        self.assertEqual(self.world.metrics.session_moves["completed"], 1)
        with self.assertRaises(IllegalMove):
            await self.end(made)

    async def test_its_stream_here(self) -> None:
        made = await self.make()
        stream = self.world.begin(made.session_id)
        await self.world.written()
        stream.frames = 12
        ended = await self.end(made)
        self.assertEqual((stream.hung_up, len(self.world.live)), (["ended"], 0))
        await self.world.written()
        row = self.world.row()
        self.assertEqual((row.status, row.reason, row.frames), (SessionState.COMPLETED, "ended", 12))
        self.assertEqual(row.ended_at, ended.ended_at)
        self.assertEqual(self.world.metrics.session_moves["completed"], 1)

    async def test_its_stream_at_another_process(self) -> None:
        wire: list[FakeBus] = []
        shared: dict[str, Any] = {"store": self.store, "cache": self.world.cache, "clock": self.world.clock}
        here, there = (SessionWorld(node=str(n), bus=FakeBus(wire), **shared) for n in range(2))
        stream = there.begin("call")
        await there.written()
        await as_deferred(here.sessions.end("usr_1", self.world.row().session_id))
        self.assertEqual(stream.hung_up, ["ended"])
        assert isinstance(here.bus, FakeBus)
        self.assertEqual(here.bus.told, [("session_ended", self.world.row().session_id)])

    async def test_one_whose_beginning_waits_to_be_written(self) -> None:
        made = await self.make()
        stream = self.world.begin(made.session_id)
        self.world.clock.advance(1.0)
        await self.end(made)
        self.assertEqual(stream.hung_up, [])
        await self.world.written()
        self.assertEqual(stream.hung_up, ["ended"])
        self.assertEqual((self.world.row().status, len(self.world.live)), (SessionState.COMPLETED, 0))

    async def test_the_stream_ends_though_nobody_waits_for_the_answer(self) -> None:
        made = await self.make()
        stream = self.world.begin(made.session_id)
        await self.world.written()

        async def gone(session: Session) -> None:
            raise asyncio.CancelledError

        self.patch(self.world.cache, "put", gone)
        self.end(made).addErrback(lambda failure: None)
        await self.world.settle()
        self.assertEqual(stream.hung_up, ["ended"])

    async def test_while_the_store_is_away_nothing_is_ended(self) -> None:
        made = await self.make()
        stream = self.world.begin(made.session_id)
        await self.world.written()
        self.store.is_away = True
        with self.assertRaises(StoreUnavailable):
            await self.end(made)
        self.assertEqual(stream.hung_up, [])
