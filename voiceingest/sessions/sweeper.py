"""Looks into the store now and then: what is overdue, what is lost, what was ended elsewhere, what is old.

Every ``SWEEP_S`` sessions past their time expire, and the sessions of streams here are looked up: who was
ended at another process is hung up. Every ``VOUCH_S`` the process vouches for its streams; one that nobody
has vouched for in ``STREAM_LOST_S`` has lost its process, and its session fails. After the store was away
nobody is taken for lost before every process has had the time to vouch again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from twisted.logger import Logger

from ..errors import StoreUnavailable
from ..limits import IDEMPOTENCY_KEEP_S, STREAM_LOST_S
from ..session_interfaces import Session
from ..stream import SessionState, SessionStep, next_session_state
from .archive import Archive
from .outcomes import ENDED, EXPIRED, LOST
from .writer import Sleep, Writer

SWEEP_S: Final = 5.0
VOUCH_S: Final = 30.0
FORGET_S: Final = 3600.0

# Rows of one query: it is short, and there are more rounds.
ROWS_MAX_COUNT: Final = 200

# Rounds of :data:`ROWS_MAX_COUNT` overdue rows in one sweep.
_ROUNDS: Final = 10

_DAY_S: Final = 86400.0


class Sweeper:
    """See the head of this file. ``now`` is a monotonic clock."""

    _log = Logger()

    def __init__(
        self,
        archive: Archive,
        writer: Writer,
        now: Callable[[], float],
        *,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._archive = archive
        self._store = archive.store
        self._live = archive.live
        self._writer = writer
        self._wall_clock = archive.wall_clock
        self._now = now
        self._sleep = sleep
        self._jitter = jitter
        # Since when the store has answered without a break, and when what is due less often is due.
        self._steady_since: float | None = None
        self._vouch_at = 0.0
        self._forget_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_event_loop().create_task(self._work())

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            # Processes that were started together do not come together.
            await self._sleep(SWEEP_S * (0.75 + self._jitter() / 2))
            try:
                await self.sweep()
            except Exception:
                self._log.failure("a look into the store went wrong", event="sweep_failed")

    async def sweep(self) -> None:
        """Do what is due. While the store is away nothing is, and it counts as a break."""
        now = self._now()
        if self._steady_since is None:
            self._steady_since, self._vouch_at = now, now
        try:
            await self._end_what_was_ended()
            if now >= self._vouch_at:
                await self._vouch()
                self._vouch_at = now + VOUCH_S * (0.75 + self._jitter() / 4)
            await self._close_what_is_overdue(is_steady=now - self._steady_since >= 2 * VOUCH_S)
            if now >= self._forget_at:
                await self._forget()
                self._forget_at = now + FORGET_S * (0.75 + self._jitter() / 2)
        except StoreUnavailable:
            # The store has said so in the log.
            self._steady_since = None

    # --- the streams that are here

    async def _vouch(self) -> None:
        wall = self._wall_clock()
        for some in _parts(self._live.session_ids):
            await self._store.vouch(some, self._archive.node, wall, self._archive.lapses_at(wall))

    async def _end_what_was_ended(self) -> None:
        for some in _parts(self._live.session_ids):
            for session_id in set(some) - await self._store.open_sessions(some):
                await self._look_after(session_id)
        for one in self._live.nameless:
            # Its beginning was dropped, or has not had its turn; there is room for it now, or it goes again.
            self._writer.put(one)

    async def _look_after(self, session_id: str) -> None:
        """A stream here has a session that is over."""
        session = await self._store.session(session_id)
        one = self._live.of_session(session_id)
        if one is None:
            return
        if session is not None and session.reason == ENDED and session.status is SessionState.COMPLETED:
            self._live.hang_up(session_id)
        elif session is None or (not session.status.is_open and not self._has_ended_elsewhere(session)):
            # Closed by mistake: audio does not end because of that, and has a row of its own.
            self._live.name(one, None)

    def _has_ended_elsewhere(self, session: Session) -> bool:
        """Whether the stream has: what is here then only waits for its client, in vain.

        By a process that itself had waited in vain, or for a process that was lost, no stream ends.
        """
        return session.node != self._archive.node and session.reason not in ("disconnected", LOST)

    # --- everybody's

    async def _close_what_is_overdue(self, *, is_steady: bool) -> None:
        wall = self._wall_clock()
        lost_before = wall - STREAM_LOST_S if is_steady else 0.0
        for _ in range(_ROUNDS):
            found = await self._store.overdue(wall, lost_before, ROWS_MAX_COUNT)
            closed = [await self._close(session, is_steady=is_steady) for session in found]
            if len(found) < ROWS_MAX_COUNT or not any(closed):
                break

    async def _close(self, session: Session, *, is_steady: bool) -> bool:
        """Close one; ``False`` where that is not due, or somebody else was quicker."""
        is_stream = session.status is SessionState.ACTIVE
        if is_stream and (not is_steady or self._live.of_session(session.session_id) is not None):
            return False
        step, reason = (SessionStep.FAIL, LOST) if is_stream else (SessionStep.EXPIRE, EXPIRED)
        wall = self._wall_clock()
        status = next_session_state(session.status, step)
        over = replace(session, status=status, updated_at=wall, ended_at=wall, reason=reason)
        closed = await self._archive.write(session, over)
        if closed is None:
            return False
        await self._archive.cache.put(closed)
        return True

    async def _forget(self) -> None:
        wall = self._wall_clock()
        await self._store.forget_sessions(
            wall - self._archive.settings.session_keep_days * _DAY_S, wall - IDEMPOTENCY_KEEP_S
        )


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(names), ROWS_MAX_COUNT):
        yield names[begin : begin + ROWS_MAX_COUNT]
