"""What the tests of the store share: a started store on either database, and tests that are coroutines."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing
from typing import Any, Final

from twisted.internet.defer import Deferred

from tests.support.case import TestCase
from tests.support.postgres import PostgresServer, shared_server
from voiceingest.aio import as_deferred
from voiceingest.config import Settings
from voiceingest.errors import StoreUnavailable
from voiceingest.metrics import Metrics
from voiceingest.store import make_store
from voiceingest.store.engine import Store

DEADLINE_S: Final = 45.0


def on_loop(test: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], Deferred[None]]:
    """A test that is a coroutine of asyncio's."""

    @functools.wraps(test)
    def run(self: Any) -> Deferred[None]:
        return as_deferred(test(self))

    return run


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that will be so."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {what}")
        await asyncio.sleep(0.01)


class MonotonicClock:
    """The clock of the reactor, without its timers, which the store does not use."""

    def seconds(self) -> float:
        return time.monotonic()

    def callLater(self, *_: Any) -> Any:
        raise AssertionError("the store has no timers of the reactor's")


class StoreCase(TestCase):
    """Stores of one database of this test's own."""

    def setUp(self) -> None:
        self.url = self.database_url()
        self.metrics = Metrics()

    def database_url(self) -> str:
        """An empty database."""
        raise NotImplementedError

    def query(self, statement: str) -> str:
        """One value, past the store."""
        raise NotImplementedError

    def make(self, **settings: Any) -> Store:
        """A store that was not started; it is stopped when the test is over."""
        given = {"database_url": self.url, "jwt_secret": "s" * 32, "pg_connect_retries": 0, **settings}
        store = make_store(Settings(**given), self.metrics, MonotonicClock())
        self.addCleanup(lambda: as_deferred(store.stop()))
        return store

    async def started(self, **settings: Any) -> Store:
        """A store that answers."""
        store = self.make(**settings)
        await store.start()
        await until(lambda: store.ready is None, "the store is ready")
        return store

    async def answered(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What is answered once the store has got over what was done to it."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.01)

    async def together(self, *asked: Awaitable[Any]) -> list[Any]:
        """All at once; errors are outcomes too."""
        return await asyncio.gather(*asked, return_exceptions=True)


class SqliteCase(StoreCase):
    """SQLite, in a temporary file."""

    def database_url(self) -> str:
        self.path = self.mktemp_path()
        return f"sqlite:///{self.path}"

    def query(self, statement: str) -> str:
        with closing(sqlite3.connect(self.path)) as connection:
            row = connection.execute(statement).fetchone()
        return "" if row is None else str(row[0])


class PostgresCase(StoreCase):
    """A real PostgreSQL."""

    server: PostgresServer

    def database_url(self) -> str:
        self.server = shared_server()
        return self.server.database(self)

    @property
    def database(self) -> str:
        """Its name."""
        return self.url.rpartition("/")[2]

    def query(self, statement: str) -> str:
        return self.server.execute(statement, database=self.database)
