"""Watches that a bus goes on answering while something is in flight."""

from __future__ import annotations

from collections.abc import Callable

from ..interfaces import IClock, IDelayedCall


class ReplyWatch:
    """One timer for all that is in flight; looked at again as long as there is progress."""

    def __init__(self, clock: IClock, timeout_s: float, expired: Callable[[], None]) -> None:
        """``expired`` is called when nothing has been answered for ``timeout_s``."""
        self._clock = clock
        self._timeout_s = timeout_s
        self._expired = expired
        self._call: IDelayedCall | None = None
        self.progress_at = 0.0
        self.is_waiting = False

    def sent(self, first: bool) -> None:
        """Something is in flight; ``first`` when nothing was before."""
        if first:
            self.progress_at = self._clock.seconds()
        self.is_waiting = True
        if self._call is None:
            self._call = self._clock.callLater(self._timeout_s, self._look)

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
        remaining_s = self.progress_at + self._timeout_s - self._clock.seconds()
        if remaining_s > 0:
            self._call = self._clock.callLater(remaining_s, self._look)
        else:
            self._expired()
