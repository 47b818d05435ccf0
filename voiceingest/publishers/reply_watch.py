"""Watches that a bus goes on answering while something is in flight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..interfaces import IClock, IDelayedCall

# A timer that is so late was late because we did not run: the answers may lie in the socket.
STALL_S: Final = 0.5


class ReplyWatch:
    """One timer for all that is in flight; looked at again as long as there is progress."""

    def __init__(self, clock: IClock, timeout_s: float, expired: Callable[[], None]) -> None:
        """``expired`` is called when nothing has been answered for ``timeout_s``."""
        self._clock = clock
        self._timeout_s = timeout_s
        self._expired = expired
        self._call: IDelayedCall | None = None
        self._due_at = 0.0
        self.progress_at = 0.0
        self.is_waiting = False

    def sent(self, first: bool) -> None:
        """Something is in flight; ``first`` when nothing was before."""
        if first:
            self.progress_at = self._clock.seconds()
        self.is_waiting = True
        if self._call is None:
            self._arm(self._timeout_s)

    def stop(self) -> None:
        """Look no more."""
        self.is_waiting = False
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _look(self) -> None:
        self._call = None
        if not self.is_waiting:
            return
        now = self._clock.seconds()
        if now - self._due_at > STALL_S:
            self.progress_at = now
        remaining_s = self.progress_at + self._timeout_s - now
        if remaining_s > 0:
            self._arm(remaining_s)
        else:
            self._expired()

    def _arm(self, seconds: float) -> None:
        self._due_at = self._clock.seconds() + seconds
        self._call = self._clock.callLater(seconds, self._look)
