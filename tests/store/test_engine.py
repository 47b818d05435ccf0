"""Transactions, connections, and what becomes of both when the database is away."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from contextlib import closing
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from twisted.internet.defer import CancelledError
from twisted.logger import globalLogPublisher

from tests.store.cases import PostgresCase, SqliteCase, on_loop, until
from tests.store.test_devices import a_device
from tests.support.case import SynchronousTestCase
from tests.support.postgres import PASSWORD, PostgresServer
from tests.support.servers import TlsFiles
from voiceingest.aio import as_deferred
from voiceingest.errors import ExtraMissing, SessionNotFound, StoreUnavailable, StoreUnusable
from voiceingest.store import engine, pool, require_packages
from voiceingest.store.rows import columns
from voiceingest.store.tables import devices


async def count_devices(connection: AsyncConnection) -> int:
    return int((await connection.execute(select(func.count()).select_from(devices))).scalar_one())


async def add_one(connection: AsyncConnection) -> None:
    await connection.execute(devices.insert().values(columns(a_device())))


class StoreContract:
    """Holds for both databases."""

    @on_loop
    async def test_before_the_start_and_after_the_stop_everything_is_refused(self) -> None:
        store = self.make()
        for _ in range(2):
            self.assertIsNotNone(store.ready)
            with self.assertRaises(StoreUnavailable):
                await store.read(count_devices)
            await store.start()
            self.assertIsNone(store.ready)
            self.assertEqual(self.metrics.store_up, 1)
            await store.stop()
            self.assertEqual((store.ready, self.metrics.store_up), ("the daemon is shutting down", 0))
            store = self.make()

    @on_loop
    async def test_what_is_written_is_there_and_counted(self) -> None:
        store = await self.started()
        await store.write(add_one)
        self.assertEqual(await store.read(count_devices), 1)
        self.assertEqual(self.metrics.store_latency.count, 2)
        again = await self.started()
        self.assertEqual(await again.read(count_devices), 1)

    @on_loop
    async def test_an_error_of_ones_own_passes_and_nothing_is_kept(self) -> None:
        store = await self.started()

        async def work(connection: AsyncConnection) -> None:
            await add_one(connection)
            raise SessionNotFound

        with self.assertRaises(SessionNotFound):
            await store.write(work)
        self.assertEqual(await store.read(count_devices), 0)
        self.assertEqual(dict(self.metrics.store_errors), {})

    @on_loop
    async def test_an_error_of_the_database_says_nothing_of_what_was_asked(self) -> None:
        store = await self.started()
        seen: list[str] = []
        globalLogPublisher.addObserver(observer := lambda event: seen.append(repr(event)))
        self.addCleanup(globalLogPublisher.removeObserver, observer)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(text("SELECT 'canary' FROM nowhere WHERE x = :x"), {"x": "canary"})

        with self.assertRaises(StoreUnavailable) as caught:
            await store.read(work)
        told = [caught.exception.message, str(caught.exception), repr(caught.exception.__context__), *seen]
        self.assertTrue(any("store_failed" in line for line in seen))
        self.assertNotIn("canary", repr([*told[:2], *told[3:]]))
        self.assertTrue(caught.exception.__suppress_context__)
        self.assertEqual(sum(self.metrics.store_errors.values()), 1)

    @on_loop
    async def test_a_transaction_that_takes_too_long(self) -> None:
        store = await self.started()
        self.patch(engine, "TRANSACTION_MAX_S", 0.2)
        asked: list[asyncio.Task[Any]] = []

        async def work(connection: AsyncConnection) -> None:
            await add_one(connection)
            await asyncio.sleep(60)

        for _ in range(3):
            asked.append(asyncio.create_task(store.write(work)))
        outcomes = await self.together(*asked)
        self.assertEqual([type(one) for one in outcomes], [StoreUnavailable] * 3)
        self.assertEqual(self.metrics.store_errors["timeout"], 3)
        self.patch(engine, "TRANSACTION_MAX_S", 12.0)
        self.assertEqual(await self.answered(lambda: store.read(count_devices)), 0)
        await self.answered(lambda: store.write(add_one))

    @on_loop
    async def test_a_caller_that_goes_away_leaves_the_connections_usable(self) -> None:
        store = await self.started(pgpool_max_ingress=1)
        began = asyncio.Event()

        async def work(connection: AsyncConnection) -> None:
            await add_one(connection)
            began.set()
            await asyncio.sleep(60)

        for _ in range(6):
            began.clear()
            deferred = as_deferred(store.write(work))
            await began.wait()
            deferred.cancel()
            with self.assertRaises(CancelledError):
                await deferred.asFuture(asyncio.get_running_loop())
        self.assertEqual(await store.read(count_devices), 0)
        await store.write(add_one)

    @on_loop
    async def test_stop_lets_a_transaction_end_and_leaves_nothing(self) -> None:
        threads = set(threading.enumerate())
        store = await self.started()
        began = asyncio.Event()

        async def work(connection: AsyncConnection) -> None:
            began.set()
            await asyncio.sleep(0.05)
            await add_one(connection)

        writing = asyncio.create_task(store.write(work))
        await began.wait()
        await store.stop()
        self.assertTrue(writing.done())
        await writing
        await until(lambda: set(threading.enumerate()) <= threads, "its threads end")
        self.assertEqual(self.query("SELECT count(*) FROM devices"), "1")

    @on_loop
    async def test_stop_does_not_wait_for_ever(self) -> None:
        self.patch(engine, "STOP_S", 0.05)
        store = await self.started()
        began = asyncio.Event()

        async def work(connection: AsyncConnection) -> None:
            began.set()
            await asyncio.sleep(60)

        writing = asyncio.create_task(store.write(work))
        await began.wait()
        await store.stop()
        self.assertTrue(writing.cancelled())

    @on_loop
    async def test_a_database_of_a_later_version(self) -> None:
        await (await self.started()).stop()
        store = await self.started()
        await store.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
        with self.assertRaises(StoreUnusable) as caught:
            await self.make().start()
        self.assertIn("revision 9999", caught.exception.message)


    @on_loop
    async def test_whoever_watches_goes_on_after_a_mistake(self) -> None:
        self.patch(engine, "WATCH_UP_S", 0.01)
        store = await self.started()
        looked = 0

        async def stumble() -> None:
            nonlocal looked
            looked += 1
            raise KeyError("a mistake of ours")

        store._probe = stumble  # type: ignore[method-assign]
        await until(lambda: looked > 2, "it looks again")
        await store.stop()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), looked)


class SqliteStoreTests(StoreContract, SqliteCase):
    @on_loop
    async def test_the_file_is_ours_alone_and_keeps_a_log(self) -> None:
        store = await self.started()
        await store.write(add_one)
        self.assertEqual(self.query("PRAGMA journal_mode"), "wal")
        for name in (self.path, self.path.with_name(self.path.name + "-wal")):
            self.assertEqual(name.stat().st_mode & 0o077, 0, name)

        async def pragmas(connection: AsyncConnection) -> list[int]:
            names = ("foreign_keys", "synchronous", "busy_timeout")
            return [(await connection.execute(text(f"PRAGMA {name}"))).scalar_one() for name in names]

        self.assertEqual(await store.read(pragmas), [1, 1, 2000])

    @on_loop
    async def test_a_file_that_somebody_locks_never_holds_the_loop(self) -> None:
        self.patch(pool, "SQLITE_BUSY_S", 0.3)
        store = await self.started()
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.001)
                turns += 1

        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            turning = asyncio.create_task(turn())
            with self.assertRaises(StoreUnavailable):
                await store.write(add_one)
            turning.cancel()
            # It stood for 300 ms; a loop that waited with it would have turned once or twice.
            self.assertGreater(turns, 10)
            self.assertEqual(self.metrics.store_errors["busy"], 1)
            # With a write-ahead log who reads does not wait; and it is no database that is away.
            self.assertEqual(await store.read(count_devices), 0)
            self.assertIsNone(store.ready)
            other.execute("ROLLBACK")
        await store.write(add_one)

    @on_loop
    async def test_a_file_that_is_locked_at_the_start_is_waited_for(self) -> None:
        self.patch(pool, "SQLITE_MIGRATION_BUSY_S", 0.1)
        self.patch(engine, "WATCH_DOWN_S", 0.02)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("PRAGMA journal_mode = WAL")
            other.execute("BEGIN EXCLUSIVE")
            store = self.make()
            await store.start()
            self.assertIsNotNone(store.ready)
            other.execute("ROLLBACK")
        await until(lambda: store.ready is None, "it is ready")
        await store.write(add_one)

    @on_loop
    async def test_the_start_does_not_wait_for_whoever_locks_it(self) -> None:
        self.patch(engine, "START_WAIT_S", 0.05)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("PRAGMA journal_mode = WAL")
            other.execute("BEGIN EXCLUSIVE")
            store = self.make()
            await store.start()
            self.assertIsNotNone(store.ready)
            other.execute("ROLLBACK")
        await until(lambda: store.ready is None, "it is ready")

    @on_loop
    async def test_paths_that_cannot_be_used(self) -> None:
        folder = self.mktemp_path()
        (folder / "below").mkdir(parents=True)
        (folder / "text").write_text("this is no database, and is long enough to be read as one\n" * 20)
        for name, word in (("none/x", "directory"), ("below", "directory"), ("text", "no SQLite database")):
            with self.assertRaises(StoreUnusable) as caught:
                self.url = f"sqlite:///{folder}/{name}"
                await self.make().start()
            self.assertIn(word, caught.exception.message)


class PostgresStoreTests(StoreContract, PostgresCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(engine, "WATCH_DOWN_S", 0.02)
        self.patch(engine, "RETRY_S", 0.01)

    def connections(self) -> int:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'voiceingest'"
        return int(self.server.execute(f"{query} AND datname = '{self.database}'"))

    @on_loop
    async def test_gone_and_back(self) -> None:
        store = await self.started()
        await store.write(add_one)
        self.addCleanup(self.server.restart)
        self.server.kill()
        with self.assertRaises(StoreUnavailable):
            await store.read(count_devices)
        await until(lambda: store.ready is not None, "it is away")
        self.assertIn("does not answer", store.ready or "")
        self.assertEqual(self.metrics.store_up, 0)
        # Nobody waits for it now.
        counted = self.metrics.store_errors["away"]
        with self.assertRaises(StoreUnavailable):
            await store.read(count_devices)
        self.assertEqual(self.metrics.store_errors["away"], counted + 1)
        self.server.restart()
        await until(lambda: store.ready is None, "it is back")
        self.assertEqual(self.metrics.store_up, 1)
        self.assertEqual(await self.answered(lambda: store.read(count_devices)), 1)

    @on_loop
    async def test_not_there_at_the_start(self) -> None:
        self.addCleanup(self.server.restart)
        self.server.kill()
        store = self.make()
        await store.start()
        self.assertIn("does not answer", store.ready or "")
        with self.assertRaises(StoreUnavailable):
            await store.read(count_devices)
        self.server.restart()
        await until(lambda: store.ready is None, "it is there")
        await self.answered(lambda: store.write(add_one))

    @on_loop
    async def test_a_connection_is_tried_again_before_anybody_is_refused(self) -> None:
        self.patch(engine, "RETRY_S", 0.2)
        # Only who asks finds it out, here.
        self.patch(engine, "WATCH_UP_S", 600.0)
        store = await self.started(pg_connect_retries=10)
        self.addCleanup(self.server.restart)
        self.server.kill()
        reading = asyncio.create_task(store.read(count_devices))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(self.server.restart)
        self.assertEqual(await reading, 0)
        self.assertEqual(dict(self.metrics.store_errors), {})

    @on_loop
    async def test_frozen_and_thawed(self) -> None:
        store = await self.started(pg_conn_timeout_ms=1000)
        self.addCleanup(self.server.thaw)
        self.server.freeze()
        with self.assertRaises(StoreUnavailable):
            await store.read(count_devices)
        await until(lambda: store.ready is not None, "it does not answer")
        self.server.thaw()
        await until(lambda: store.ready is None, "it answers")
        self.assertEqual(await self.answered(lambda: store.read(count_devices)), 0)

    @on_loop
    async def test_a_statement_has_an_end_at_the_server_too(self) -> None:
        self.patch(pool, "STATEMENT_MAX_S", 0.5)
        store = await self.started()
        with self.assertRaises(StoreUnavailable):
            await store.read(lambda connection: connection.execute(text("SELECT pg_sleep(60)")))
        self.assertGreaterEqual(self.metrics.store_errors["timeout"], 1)
        self.assertEqual(await self.answered(lambda: store.read(count_devices)), 0)

    @on_loop
    async def test_no_more_connections_than_allowed_and_none_for_long(self) -> None:
        self.patch(engine, "WATCH_UP_S", 0.02)
        store = await self.started(pgpool_max_ingress=3, pg_idle_timeout_ms=1000, pg_conn_timeout_ms=20000)

        async def work(connection: AsyncConnection) -> int:
            await connection.execute(text("SELECT pg_sleep(0.02)"))
            return 1

        outcomes = await self.together(*(store.read(work) for _ in range(12)))
        self.assertEqual(outcomes, [1] * 12)
        self.assertEqual(self.connections(), 3)
        # The watch uses one of them, always the same.
        await until(lambda: self.connections() == 1, "the others are closed")
        self.assertEqual(await self.together(*(store.read(work) for _ in range(3))), [1] * 3)

    @on_loop
    async def test_a_pool_that_is_used_up_is_no_database_that_is_away(self) -> None:
        store = await self.started(pgpool_max_ingress=1, pg_conn_timeout_ms=1000)
        began, held = asyncio.Event(), asyncio.Event()

        async def hold(connection: AsyncConnection) -> None:
            began.set()
            await held.wait()

        holding = asyncio.create_task(store.read(hold))
        await began.wait()
        with self.assertRaises(StoreUnavailable):
            await store.read(count_devices)
        self.assertEqual(self.metrics.store_errors["pool"], 1)
        self.assertIsNone(store.ready)
        held.set()
        await holding

    @on_loop
    async def test_what_only_the_operator_can_mend(self) -> None:
        good = self.url
        for url, words in (
            (self.server.url(self.database, password="canary"), "does not let this user in"),
            (self.server.url("canary"), "no database of this name"),
            (f"{good}?sslmode=require", "TLS"),
        ):
            self.url = url
            with self.assertRaises(StoreUnusable) as caught:
                await self.make().start()
            self.assertIn(words, caught.exception.message)
            self.assertNotIn("canary", caught.exception.message)
        self.url = good


class TlsTests(PostgresCase):
    """A server with a certificate of a private authority."""

    def database_url(self) -> str:
        folder = self.mktemp_path()
        self.tls = TlsFiles(folder)
        self.server = PostgresServer(self.tls)
        self.addCleanup(self.server.stop)
        return self.server.database(self)

    @on_loop
    async def test_modes(self) -> None:
        plain = self.url
        trusted = f"sslrootcert={self.tls.ca_path}"
        stranger = TlsFiles(self.mktemp_path())
        ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        for options, wanted in (
            ("", True),
            ("?sslmode=disable", False),
            ("?sslmode=require", True),
            (f"?sslmode=verify-full&{trusted}", True),
            (f"?{trusted}", True),
        ):
            self.url = plain + options
            store = await self.started()
            found = await store.read(lambda connection: connection.execute(text(ssl)))
            self.assertEqual(found.scalar_one(), wanted, options)
        self.url = f"{plain}?sslmode=verify-full&sslrootcert={stranger.ca_path}"
        with self.assertRaises(StoreUnusable) as caught:
            await self.make().start()
        self.assertIn("TLS", caught.exception.message)
        self.assertNotIn(PASSWORD, caught.exception.message)


class PackageTests(SynchronousTestCase):
    """Without the extras."""

    def test_what_is_missing_is_named_with_the_command(self) -> None:
        for url, name, extra in (
            ("sqlite:///x", "aiosqlite", "control"),
            ("postgresql://h/d", "asyncpg", "postgres"),
            ("postgres://h/d", "sqlalchemy", "postgres"),
        ):
            with self.assertRaises(ExtraMissing) as caught:
                self.without(name, url)
            self.assertEqual(
                caught.exception.message, f"{name} is not installed: pip install 'voiceingest[{extra}]'"
            )

    def without(self, name: str, url: str) -> None:
        there = sys.modules.get(name)
        sys.modules[name] = None  # type: ignore[assignment]
        try:
            require_packages(url)
        finally:
            if there is None:
                del sys.modules[name]
            else:
                sys.modules[name] = there

