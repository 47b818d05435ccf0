"""The database: transactions with a bound, and whether it answers.

What asks of it are coroutines of the reactor's loop; drivers wait in threads of their own (SQLite) or on
the loop (PostgreSQL), never in the way of audio. While the database is known to be away everything is
refused at once: the watch, and no request, finds out when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from twisted.logger import Logger

from ..config import Settings
from ..errors import StoreUnavailable, StoreUnusable
from ..interfaces import IClock
from ..metrics import Metrics
from .pool import WRITES, IdleConnections, make_engine
from .preparing import prepare
from .reasons import LASTING, PASSING, reason_of
from .target import read_target

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

# How long a transaction may take, with all its statements and the wait for a connection.
TRANSACTION_MAX_S: Final = 12.0

# How often the database is asked whether it is there.
WATCH_UP_S: Final = 5.0
WATCH_DOWN_S: Final = 1.0

# How long the start waits for the tables; past it they are waited for beside everything else.
START_WAIT_S: Final = 10.0

# The first pause before a connection is tried again; each is twice as long, and up to half as long again.
RETRY_S: Final = 0.1

# A transaction that runs while the daemon stops may end in this time.
STOP_S: Final = 3.0

_AWAY: Final = "the database does not answer"
_STOPPED: Final = "the daemon is shutting down"
_NOT_YET: Final = "the database has not answered yet"


class Store:
    """One database. ``start`` before all else, ``stop`` at the end; both on the loop that runs the rest."""

    _log = Logger()

    def __init__(self, settings: Settings, metrics: Metrics, clock: IClock) -> None:
        """Raises: ``StoreUnusable`` for a ``database_url`` nothing can be made of."""
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._target = read_target(settings.database_url.get_secret_value())
        self._engine = make_engine(self._target, settings)
        self._idle = IdleConnections(self._engine, clock.seconds)
        # SQLite has one that writes at a time. Who waits here waits in order, and keeps no connection.
        self._writing = asyncio.Lock() if self._target.kind == "sqlite" else None
        self._reason: str | None = _NOT_YET
        self._is_prepared = False
        self._look = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[object]] = set()
        # How long a token may be in use after its refresh token has expired: what forgetting has to know.
        self.access_outlives_s = max(0.0, settings.access_token_s - settings.refresh_token_s)

    @property
    def ready(self) -> str | None:
        """``None``, or why nothing can be asked. What the watch knows: nobody is asked now."""
        return self._reason

    async def start(self) -> None:
        """Bring the tables up to date and keep watch.

        A database that does not answer is waited for, beside everything else.
        Raises: ``StoreUnusable`` where waiting would not help.
        """
        first = asyncio.create_task(self._probe())
        try:
            done, _ = await asyncio.wait([first], timeout=START_WAIT_S)
            if done:
                first.result()
        except BaseException:
            first.cancel()
            await self._engine.dispose()
            raise
        self._watch = asyncio.create_task(self._keep_watch(first))

    async def stop(self) -> None:
        """Let what runs end, and close every connection."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait([watch])
        self._reason, self._metrics.store_up = _STOPPED, 0
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=STOP_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._engine.dispose()

    # --- transactions

    async def read(self, work: Work[T]) -> T:
        """The outcome of ``work`` in a transaction that writes nothing. Raises: ``StoreUnavailable``."""
        return await self._run(work, writes=False)

    async def write(self, work: Work[T]) -> T:
        """The outcome of ``work`` in a transaction: all of it is kept, or nothing.

        Raises: ``StoreUnavailable``, after which nobody knows whether it is.
        """
        return await self._run(work, writes=True)

    async def _run(self, work: Work[T], *, writes: bool) -> T:
        if self._reason is not None:
            self._metrics.store_errors["away"] += 1
            raise StoreUnavailable
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        began = self._clock.seconds()
        try:
            async with asyncio.timeout(TRANSACTION_MAX_S), self._connection(writes=writes) as connection:
                outcome = await work(connection)
                await connection.commit()
        except Exception as error:
            raise self._refused(error) from None
        finally:
            self._running.discard(task)
        self._metrics.store_latency.observe(self._clock.seconds() - began)
        return outcome

    @contextlib.asynccontextmanager
    async def _connection(self, *, writes: bool) -> AsyncIterator[AsyncConnection]:
        lock = self._writing if writes else None
        async with lock or contextlib.nullcontext():
            connection = await self._connected()
            try:
                await connection.execution_options(**{WRITES: writes})
                yield connection
            finally:
                await connection.close()

    async def _connected(self) -> AsyncConnection:
        """A connection, tried again a few times: nothing was asked of it yet."""
        for attempt in range(self._settings.pg_connect_retries):
            try:
                return await self._connect()
            except Exception as error:
                if reason_of(error) not in PASSING:
                    raise
            pause = RETRY_S * 2**attempt
            await asyncio.sleep(pause + random.uniform(0, pause / 2))  # noqa: S311  (no secret)
        return await self._connect()

    async def _connect(self) -> AsyncConnection:
        """One attempt: the wait for a place in the pool, and then for the database."""
        async with asyncio.timeout(2 * self._settings.pg_conn_timeout_ms / 1000):
            return await self._engine.connect()

    def _refused(self, error: Exception) -> Exception:
        """What the caller is told: its own error, or that the database did not do it."""
        reason = reason_of(error)
        if reason is None:
            return error
        self._metrics.store_errors[reason] += 1
        self._log.warn(
            "a transaction failed", event="store_failed", reason=reason, error=type(error).__name__
        )
        if reason in PASSING or reason in LASTING:
            self._look.set()
        return StoreUnavailable()

    # --- the watch

    async def _keep_watch(self, first: asyncio.Task[None]) -> None:
        await self._looked(first)
        while True:
            self._look.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_UP_S if self._reason is None else WATCH_DOWN_S):
                    await self._look.wait()
            if self._target.kind == "postgresql":
                self._idle.close(self._settings.pg_idle_timeout_ms / 1000)
            await self._looked(self._probe())

    async def _looked(self, probe: Awaitable[None]) -> None:
        try:
            await probe
        except StoreUnusable as error:
            self._become(error.message)
        except Exception:
            # Whatever it is, whoever watches goes on watching.
            self._log.failure("the database could not be looked at", event="store_watch_failed")

    async def _probe(self) -> None:
        """Ask the database something, or bring it up to date first. Raises: ``StoreUnusable``."""
        try:
            if not self._is_prepared:
                outcome = await prepare(self._target, self._settings)
                self._is_prepared = True
                self._log.info("the tables were looked at", event="store_prepared", outcome=outcome)
            async with asyncio.timeout(TRANSACTION_MAX_S):
                connection = await self._connect()
                try:
                    await connection.execute(text("SELECT 1"))
                finally:
                    await connection.close()
        except Exception as error:
            reason = reason_of(error)
            if reason is None:
                raise
            if reason in ("pool", "busy"):
                # It is there, and has much to do.
                return
            self._metrics.store_errors[reason] += 1
            if reason in LASTING and not self._is_prepared:
                raise StoreUnusable(LASTING[reason]) from None
            self._become(f"{_AWAY} ({reason})")
        else:
            self._become(None)

    def _become(self, reason: str | None) -> None:
        self._metrics.store_up = int(reason is None)
        before, self._reason = self._reason, reason
        if before == reason:
            return
        if reason is None:
            self._log.info("the database answers", event="store_up")
        else:
            self._log.warn("the database cannot be used", event="store_down", reason=reason)
