"""Connections: how they are made for either database, and how those that nobody uses are closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import NullPool, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ..config import Settings
from .target import Target

# How long SQLite waits for another process that writes; and for one that makes the tables. Not longer:
# its thread cannot be called back from there, and the daemon may want to stop.
SQLITE_BUSY_S: Final = 2.0
SQLITE_MIGRATION_BUSY_S: Final = 5.0

# SQLite: one that writes, some that read meanwhile. Each has a thread.
_SQLITE_CONNECTIONS_COUNT: Final = 4

# How long one statement may take at the server; and how long a transaction may stand open there while its
# process does nothing: what a frozen process holds locked is let go.
STATEMENT_MAX_S: Final = 5.0
_STANDING_MAX_S: Final = 10.0

# A migration rebuilds tables, or waits for another process that does.
MIGRATION_MAX_S: Final = 300.0

# The option of a connection whose transaction writes.
WRITES: Final = "voiceingest_writes"

# What is kept of callers stands in the values of statements: no error and no log quotes them.
_QUIET: Final[dict[str, Any]] = {"hide_parameters": True}


def make_engine(target: Target, settings: Settings) -> AsyncEngine:
    """The engine for everyday work."""
    wait_s = settings.pg_conn_timeout_ms / 1000
    if target.kind == "sqlite":
        engine = create_async_engine(
            target.url, pool_size=_SQLITE_CONNECTIONS_COUNT, max_overflow=0, pool_timeout=wait_s, **_QUIET
        )
        _listen_to_sqlite(engine, SQLITE_BUSY_S)
        return engine
    return create_async_engine(
        target.url,
        connect_args=_arguments(target, wait_s, STATEMENT_MAX_S),
        pool_size=settings.pgpool_max_ingress,
        max_overflow=0,
        pool_timeout=wait_s,
        # The statements count on it, whatever the server's own default is.
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        # The one that was used last comes first: the others grow idle, and are closed.
        pool_use_lifo=True,
        **_QUIET,
    )


def make_migration_engine(target: Target, settings: Settings) -> AsyncEngine:
    """The engine for migrations: one connection, more patience."""
    if target.kind == "sqlite":
        engine = create_async_engine(target.url, poolclass=NullPool, **_QUIET)
        _listen_to_sqlite(engine, SQLITE_MIGRATION_BUSY_S)
        return engine
    arguments = _arguments(target, settings.pg_conn_timeout_ms / 1000, MIGRATION_MAX_S)
    return create_async_engine(target.url, connect_args=arguments, poolclass=NullPool, **_QUIET)


def _arguments(target: Target, connect_s: float, statement_s: float) -> dict[str, Any]:
    """What asyncpg is given. A frozen server does not keep time: so the client does too, a little later."""
    told = {
        **target.arguments["server_settings"],
        "statement_timeout": str(int(statement_s * 1000)),
        "idle_in_transaction_session_timeout": str(int(_STANDING_MAX_S * 1000)),
    }
    return {
        **target.arguments,
        "server_settings": told,
        "timeout": connect_s,
        "command_timeout": statement_s + 1.0,
    }


def _listen_to_sqlite(engine: AsyncEngine, busy_s: float) -> None:
    """Begin transactions ourselves: the driver begins them late, and those that write without a lock."""

    def connected(connection: Any, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_s * 1000)}")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    def begun(connection: Any) -> None:
        # One that begins by reading and writes later may find that it must not: SQLITE_BUSY at once.
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)


class IdleConnections:
    """Knows since when each connection in a pool was not used, and closes those of long ago.

    The pool's own ``recycle`` is about age, and looks only when a connection is taken.
    """

    def __init__(self, engine: AsyncEngine, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._since: dict[ConnectionPoolEntry, float] = {}
        pool = engine.sync_engine.pool
        event.listen(pool, "checkin", self._returned)
        event.listen(pool, "checkout", self._taken)
        event.listen(pool, "close", self._closed)

    def close(self, idle_s: float) -> int:
        """Close what was not used for ``idle_s``; how many.

        At once and without a wait, in which somebody could take one of them: what is sent is the word
        that ends the connection, and nothing is waited for.
        """
        long_ago = self._monotonic() - idle_s
        found = [entry for entry, since in self._since.items() if since <= long_ago and not entry.in_use]
        for entry in found:
            entry.invalidate()
        return len(found)

    def _returned(self, connection: Any, entry: ConnectionPoolEntry) -> None:
        if connection is not None:
            self._since[entry] = self._monotonic()

    def _taken(self, _connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        self._since.pop(entry, None)

    def _closed(self, _connection: Any, entry: ConnectionPoolEntry) -> None:
        self._since.pop(entry, None)
