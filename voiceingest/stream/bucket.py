"""A token bucket that may run into debt: what came over the rate is paced, not thrown away."""

from __future__ import annotations


class TokenBucket:
    """Lets ``rate_per_s`` units through each second, ``burst`` at once.

    A frame that has been read cannot be unread, so taking never fails: it puts the bucket into
    debt, and the caller stops reading from the peer until the debt is paid. Rate 0: no limit.
    """

    __slots__ = ("_burst", "_level", "_rate", "_updated")

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._level = burst
        self._updated = now

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` at ``now`` (monotonic seconds); returns the debt in seconds, 0.0 if none."""
        rate = self._rate
        if rate <= 0.0:
            return 0.0
        level = self._level + (now - self._updated) * rate
        if level > self._burst:  # noqa: PLR1730 - twice on every frame, and min() is a call
            level = self._burst
        self._updated = now
        self._level = level = level - amount
        return 0.0 if level >= 0.0 else -level / rate

    def spare(self, amount: float, now: float) -> bool:
        """Take ``amount`` where that makes no debt; returns whether it did. For what may be left out."""
        owed_s = self.take(amount, now)
        if owed_s:
            self._level += amount
        return not owed_s
