"""One timer for everything that is due in any of many calls."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any, Final

# So many in a row before the reactor gets its turn, to read what has come.
BURST_COUNT: Final = 64

Due = Callable[[float], None]


class Wheel:
    """Calls what is due, in the order of time, with the time it is. Nothing is ever called early.

    What is no longer wanted is called all the same and has to know: there is nothing to cancel.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._heap: list[tuple[float, int, Due]] = []
        self._numbers = itertools.count()
        self._timer: Any = None
        self._timer_s = 0.0
        self._turning = False

    def at(self, due_s: float, call: Due) -> None:
        """Call ``call(now_s)`` at ``due_s`` or as soon after as can be."""
        heapq.heappush(self._heap, (due_s, next(self._numbers), call))
        if not self._turning:
            self._set()

    def stop(self) -> None:
        """Forget everything."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        due_s = self._heap[0][0]
        if self._timer is not None:
            if self._timer_s <= due_s:
                return
            self._timer.cancel()
        self._timer_s = due_s
        self._timer = self._reactor.callLater(max(0.0, due_s - self._reactor.seconds()), self._turn)

    def _turn(self) -> None:
        self._timer = None
        self._turning = True
        try:
            for _ in range(BURST_COUNT):
                now_s = self._reactor.seconds()
                if not self._heap or self._heap[0][0] > now_s:
                    break
                heapq.heappop(self._heap)[2](now_s)
        finally:
            self._turning = False
            if self._heap:
                self._set()
