"""Keeping a screen up to date while messages come, until it is enough or something fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from .reading import BusMessage, read_json
from .screen import REDRAWS_PER_S, Screen


class Watch:
    """Feeds a screen. ``enough`` is called once: after ``count`` frames, or at the first failure."""

    def __init__(
        self, reactor: Any, screen: Screen, enough: Callable[[], None], count: int | None = None
    ) -> None:
        self._reactor = reactor
        self._screen = screen
        self._enough = enough
        self._count = count
        self._ended = False
        self._failure: BaseException | None = None
        self._redraw = LoopingCall(lambda: screen.redraw(reactor.seconds()))
        self._redraw.clock = reactor

    def begin(self) -> None:
        """Redraw from now on, where there is a terminal to redraw."""
        if self._screen.is_live:
            self._redraw.start(1 / REDRAWS_PER_S).addErrback(self._not_drawn)

    def message(self, payload: bytes) -> None:
        """One message as it is on pub/sub."""
        self.heard(read_json(payload))

    def heard(self, message: BusMessage) -> None:
        """One message of any bus; what comes after enough is not looked at."""
        if self._ended:
            return
        try:
            self._screen.heard(message, self._reactor.seconds())
        except Exception as problem:
            # A full disk, or a mistake of ours: told once, at the end, and not as a broken connection.
            self._fail(problem)
            return
        if self._count is not None and self._screen.follower.frames >= self._count:
            self._end()

    def close(self) -> None:
        """Redraw no more. Raises: the first failure there was."""
        if self._redraw.running:
            self._redraw.stop()
        self._screen.close()
        if self._failure is not None:
            raise self._failure

    def _not_drawn(self, failure: Failure) -> None:
        problem: Any = failure.value
        self._fail(problem)

    def _fail(self, problem: BaseException) -> None:
        if self._failure is None:
            self._failure = problem
        self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._enough()
