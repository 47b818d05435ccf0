"""Puts what streams tell into the store, later: a bounded queue that one task works off.

No stream waits for it. A stream that waits here to be written as begun, and has ended meanwhile, is written
once. While the store is away the oldest is tried again with growing pauses; past ``STORE_QUEUE_MAX_COUNT``
the oldest is forgotten and counted: where its stream lives on, its end is written whole, or the sweeper
brings it back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.logger import Logger

from ..errors import EditConflict, StoreUnavailable
from ..limits import STORE_QUEUE_MAX_COUNT
from ..metrics import Metrics
from .live import Live

Sleep = Callable[[float], Awaitable[Any]]

_PAUSE_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0


class Writer:
    """See the head of this file. ``write`` puts one stream into the store, as it stands."""

    _log = Logger()

    def __init__(
        self,
        write: Callable[[Live], Awaitable[None]],
        metrics: Metrics,
        *,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._write = write
        self._metrics = metrics
        self._sleep = sleep
        self._jitter = jitter
        # In the order in which they came; the first may be on its way to the store.
        self._waiting: dict[Live, None] = {}
        self._in_hand: Live | None = None
        self._is_dropping = False
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, one: Live) -> None:
        """Write a stream: it has begun, or ended, or its session is not known any more."""
        if one not in self._waiting:
            if len(self._waiting) >= STORE_QUEUE_MAX_COUNT:
                self._drop()
            self._waiting[one] = None
        self._changed()

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.get_event_loop().create_task(self._work())

    async def stop(self, deadline_s: float) -> None:
        """Write what waits, as far as that is done within ``deadline_s``; the rest is counted as dropped."""
        task, self._task = self._task, None
        if task is None:
            return
        flushed = asyncio.ensure_future(self._none.wait())
        out_of_time = asyncio.ensure_future(self._sleep(deadline_s))
        try:
            await asyncio.wait((flushed, out_of_time, task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (flushed, out_of_time, task):
                each.cancel()
            await asyncio.gather(flushed, out_of_time, task, return_exceptions=True)
        left = len(self._waiting)
        if left:
            self._log.warn("writes about streams were lost", event="store_writes_lost", count=left)
            self._metrics.store_writes["dropped"] += left
            self._waiting.clear()
            self._changed()

    def _drop(self) -> None:
        oldest = next(one for one in self._waiting if one is not self._in_hand)
        del self._waiting[oldest]
        self._metrics.store_writes["dropped"] += 1
        if not self._is_dropping:
            self._is_dropping = True
            self._log.warn("writes about streams are dropped", event="store_writes_dropped")

    def _changed(self) -> None:
        self._metrics.store_queue = len(self._waiting)
        full, empty = (self._some, self._none) if self._waiting else (self._none, self._some)
        full.set()
        empty.clear()

    async def _work(self) -> None:
        tries = 0
        while True:
            await self._some.wait()
            one = self._in_hand = next(iter(self._waiting))
            ending = one.ending
            result = await self._attempt(one)
            self._metrics.store_writes[result] += 1
            if result == "retried":
                await self._sleep(min(_PAUSE_MAX_S, _PAUSE_S * 2**tries) * (0.5 + self._jitter() / 2))
                tries = min(tries + 1, 16)
                continue
            tries, self._is_dropping = 0, False
            self._in_hand = None
            if one.ending is ending:
                # Else it has ended meanwhile, and its turn is now.
                self._waiting.pop(one, None)
            self._changed()

    async def _attempt(self, one: Live) -> str:
        try:
            await self._write(one)
        except (StoreUnavailable, EditConflict):
            return "retried"
        except Exception:
            # What one stream has brought about must not keep those after it from being written.
            self._log.failure("a write about a stream failed", event="store_write_failed")
            return "failed"
        return "written"
