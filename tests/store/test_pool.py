"""Connections that nobody uses; what is done with those in use: tests/store/test_engine.py."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.task import Clock

from tests.store.cases import SqliteCase, on_loop
from voiceingest.aio import as_deferred
from voiceingest.config import Settings
from voiceingest.store.pool import IdleConnections, make_engine, make_migration_engine
from voiceingest.store.target import read_target


class IdleConnectionTests(SqliteCase):
    @on_loop
    async def test_only_those_are_closed_that_were_not_used_for_long(self) -> None:
        clock = Clock()
        engine = make_engine(read_target(self.url), Settings())
        self.addCleanup(lambda: as_deferred(engine.dispose()))
        idle = IdleConnections(engine, clock.seconds)
        one, two, three = [await engine.connect() for _ in range(3)]
        await one.close()
        clock.advance(5)
        await two.close()
        self.assertEqual(idle.close(10), 0)
        clock.advance(5)
        # One of ten seconds, one of five, and one that is in use.
        self.assertEqual(idle.close(10), 1)
        self.assertEqual(idle.close(10), 0)
        clock.advance(60)
        self.assertEqual(idle.close(10), 1)
        await three.close()
        # What was closed is made again for who asks.
        several = [await engine.connect() for _ in range(4)]
        self.assertEqual(idle.close(0), 0)
        for connection in several:
            await connection.close()
        self.assertEqual(idle.close(0), 4)


class QuietTests(SqliteCase):
    @on_loop
    async def test_no_error_quotes_what_is_kept(self) -> None:
        target = read_target(self.url)
        for engine in (make_engine(target, Settings()), make_migration_engine(target, Settings())):
            self.addCleanup(lambda engine=engine: as_deferred(engine.dispose()))
            async with engine.connect() as connection:
                with self.assertRaises(SQLAlchemyError) as caught:
                    await connection.execute(text("SELECT :word FROM nowhere"), {"word": "canary-4711"})
            self.assertNotIn("canary", f"{caught.exception} {caught.exception!r}")
