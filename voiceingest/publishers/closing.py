"""The end of a delivery: wait until nothing is held, for so long at most, then close the bus."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..interfaces import IBus, IClock, IDelayedCall


class Closing:
    """Asked for once or more often, it happens once; everybody hears the same figure."""

    _log = Logger()

    def __init__(self, bus: IBus, clock: IClock, let_go: Callable[[], int]) -> None:
        """``let_go`` ends all that runs for the bus and answers how many frames are left behind."""
        self._bus = bus
        self._clock = clock
        self._let_go = let_go
        self._call: IDelayedCall | None = None
        self._waiting: list[Deferred[int]] = []
        self._left: int | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the end has been asked for and what is held is still waited for."""
        return self._call is not None

    def begin(self, deadline_s: float) -> Deferred[int]:
        """Ask for the end, after ``deadline_s`` at the latest; fires with the frames left behind."""
        if self._left is not None:
            return succeed(self._left)
        done: Deferred[int] = Deferred()
        self._waiting.append(done)
        if len(self._waiting) == 1:
            self._call = self._clock.callLater(deadline_s, self._finish)
        return done

    def now(self) -> None:
        """Nothing is held: there is nothing to wait for."""
        if self._call is not None:
            self._call.cancel()
            self._finish()

    def _finish(self) -> None:
        self._call = None
        self._bus.stop().addErrback(self._failed).addCallback(self._closed, self._let_go())

    def _failed(self, failure: Failure) -> None:
        self._log.failure("The bus could not be closed", failure, event="bus_stop_failed")

    def _closed(self, _result: None, left: int) -> None:
        self._left = left
        for done in self._waiting:
            done.callback(left)
