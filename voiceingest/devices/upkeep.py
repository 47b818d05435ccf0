"""What is done for devices now and then: streams of revoked tokens are ended, old tokens forgotten."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.logger import Logger

from ..errors import StoreUnavailable
from .devices import Devices

# How often it is looked for tokens of live streams that another process has revoked, in seconds.
LOOK_S: Final = 3.0

# How often tokens are looked for that nobody can use any more, in seconds.
FORGET_S: Final = 3600.0


class Upkeep:
    """See the head of this file. ``now`` is a monotonic clock."""

    _log = Logger()

    def __init__(
        self,
        devices: Devices,
        now: Callable[[], float],
        *,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._devices = devices
        self._now = now
        self._sleep = sleep
        self._jitter = jitter
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self) -> None:
        forget_at = self._now() + FORGET_S
        while True:
            # Processes that were started together do not come together.
            await self._sleep(LOOK_S * (0.75 + self._jitter() / 2))
            try:
                await self._devices.end_revoked()
                if self._now() >= forget_at:
                    forget_at = self._now() + FORGET_S
                    await self._devices.forget_tokens()
            except StoreUnavailable:
                # The store has said so in the log; there is a next time.
                continue
            except Exception:
                self._log.failure("a look after devices went wrong", event="upkeep_failed")
