"""Writes that are conditional, counted, and never leave an older one in the cache."""

from __future__ import annotations

from dataclasses import replace

from tests.support.case import TestCase
from tests.support.session_world import WALL, SessionWorld
from voiceingest.aio import as_deferred
from voiceingest.errors import StoreUnavailable
from voiceingest.session_interfaces import SessionEdit
from voiceingest.stream import SessionState


class ArchiveTests(TestCase):
    async def test_a_write(self) -> None:
        world = SessionWorld(session_ttl_s=60)
        made, _ = await as_deferred(world.sessions.create(world.caller, "rest", SessionEdit(), None))
        self.assertEqual(world.archive.lapses_at(WALL), WALL + 60)
        over = replace(made, status=SessionState.COMPLETED)
        written = await as_deferred(world.archive.write(made, over))
        assert written is not None
        self.assertEqual((written.version, world.store.rows[made.session_id]), (2, written))
        self.assertEqual(world.metrics.session_moves["completed"], 1)
        self.assertIsNone(await as_deferred(world.archive.write(made, over)))
        again = await as_deferred(world.archive.write(written, replace(written, frames=3)))
        self.assertIsNotNone(again)
        self.assertEqual(world.metrics.session_moves["completed"], 1)

    async def test_one_of_which_nobody_knows_whether_it_was_written(self) -> None:
        world = SessionWorld()
        made, _ = await as_deferred(world.sessions.create(world.caller, "rest", SessionEdit(), None))
        self.assertIn(made.session_id, world.cache.kept)
        world.store.forgets_to_answer = True
        with self.assertRaises(StoreUnavailable):
            await as_deferred(world.archive.write(made, made))
        self.assertNotIn(made.session_id, world.cache.kept)
