"""How long to wait before the next attempt to connect: doubled each time, never in step. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# First pause between two attempts to connect; doubled up to ``publish_retry_max_s``.
RETRY_FIRST_S: Final = 0.1

# A connection that has confirmed for so long is a good one: the next failure is a first one again.
STEADY_S: Final = 1.0

# More doublings than any bound allows for: an outage of a week must not end in huge numbers.
_DOUBLINGS_MAX_COUNT: Final = 16


class Backoff:
    """Pauses of ``first_s``, twice that, four times that, ... up to ``max_s``.

    Each is shortened by up to a half, at random: many daemons do not come back at the same moment.
    """

    __slots__ = ("_connected_at", "_failures", "_first_s", "_jitter", "_max_s")

    def __init__(self, first_s: float, max_s: float, jitter: Callable[[], float]) -> None:
        """``jitter`` answers 0..1."""
        self._first_s = first_s
        self._max_s = max_s
        self._jitter = jitter
        self._failures = 0
        self._connected_at = 0.0

    def failed(self) -> float:
        """Take note of a failure; the pause until the next attempt, in seconds."""
        pause_s = min(self._first_s * 2.0 ** min(self._failures, _DOUBLINGS_MAX_COUNT), self._max_s)
        self._failures += 1
        return pause_s * (1 + self._jitter()) / 2

    def connected(self, now: float) -> None:
        """A connection stands since ``now``, in monotonic seconds; that alone says little."""
        self._connected_at = now

    def worked(self, now: float) -> bool:
        """The far end has done some work at ``now``; returns whether it has stood long enough to count.

        Who lets us in and takes nothing, or a little and then breaks, is not one to hurry back to.
        """
        is_steady = now - self._connected_at >= STEADY_S
        if is_steady:
            self.begin_again()
        return is_steady

    def begin_again(self) -> None:
        """There is something new to try: the next failure is a first one."""
        self._failures = 0
