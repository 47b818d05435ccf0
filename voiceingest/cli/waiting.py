"""Waiting until something about a session has become true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred


class Waiting:
    """Coroutines that wait for conditions, looked at again after each ``changed``."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: list[Deferred[None]] = []

    def changed(self) -> None:
        """Something has changed: look again."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    async def until(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until ``reached``, or for ``timeout_s``; whether it was reached."""
        if reached():
            return True
        deadline = self._reactor.callLater(timeout_s, self.changed)
        while not reached() and deadline.active():
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            await waiter
        if deadline.active():
            deadline.cancel()
        return reached()
