"""Timers for ten thousand connections out of one: a heap of who wants waking when.

A connection's idle deadline moves with every frame. Moving a reactor timer each time costs more
than the frame; so a deadline only ever fires early, asks its owner again and is put back.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from .interfaces import IClock, IDelayedCall

# A reactor that was stopped (SIGSTOP, a laptop's lid) wakes with every timer overdue before a
# byte has been read. Past this lateness peers get time to be heard before they are judged.
STALLED_S = 1.0

# Entries of owners that are gone, or were brought forward, that may stay in the heap.
_STALE_COUNT = 64


class Deadlines:
    """Wakes callables. ``due(now)`` is called and returns when it wants to be called again.

    ``due`` answers in monotonic seconds; infinity takes it off the list. Memory: at most two
    entries for each owner and a few over; what is more is swept when an owner is forgotten or moved.
    """

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Callable[[float], float]]] = []
        self._wanted: dict[Callable[[float], float], float] = {}
        self._order = itertools.count()
        self._timer: IDelayedCall | None = None
        self._timer_at = float("inf")
        self._holding = False

    def __len__(self) -> int:
        return len(self._wanted)

    def wake(self, due: Callable[[float], float], when: float) -> None:
        """Call ``due`` at ``when`` or earlier; a later time than is already wanted changes nothing."""
        if when >= self._wanted.get(due, float("inf")):
            return
        self._wanted[due] = when
        heapq.heappush(self._heap, (when, next(self._order), due))
        self._sweep()
        self._arm()

    def forget(self, due: Callable[[float], float]) -> None:
        """Never call ``due`` again."""
        self._wanted.pop(due, None)
        if not self._wanted:
            self.stop()
        self._sweep()

    def stop(self) -> None:
        """Forget everybody."""
        self._wanted.clear()
        self._heap.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._timer_at = float("inf")
        self._holding = False

    def _sweep(self) -> None:
        """Let go of connections that are gone: the heap would keep them until their time came."""
        if len(self._heap) > 2 * len(self._wanted) + _STALE_COUNT:
            self._heap = [entry for entry in self._heap if self._wanted.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def _arm(self) -> None:
        if self._holding or not self._heap:
            return
        # What was past already when it was asked for is due now: it is no sign of a stall.
        at = max(self._heap[0][0], self._clock.seconds())
        if at < self._timer_at:
            self._set_timer(at)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._fire)

    def _fire(self) -> None:
        now = self._clock.seconds()
        # One grace for each stall: where every turn is late, deadlines are needed most.
        stalled = not self._holding and now - self._timer_at > STALLED_S
        self._timer, self._timer_at = None, float("inf")
        # Nothing that is asked for meanwhile moves the timer: a busy daemon would never come to
        # the end of its grace.
        self._holding = True
        if stalled:
            self._set_timer(now + STALLED_S)
            return
        try:
            self._wake_due(now)
        finally:
            self._holding = False
            self._arm()

    def _wake_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            when, _, due = heapq.heappop(self._heap)
            if self._wanted.get(due) != when:
                continue
            del self._wanted[due]
            again = due(now)
            if again != float("inf"):
                self.wake(due, max(again, now + 0.001))
