"""When to ping a silent peer, and when it is gone. Pure: time is an argument, in monotonic seconds."""

from __future__ import annotations

import enum


class Beat(enum.Enum):
    """What is to be done now."""

    NOTHING = "nothing"
    PING = "ping"
    GONE = "gone"


class Heartbeat:
    """Any byte of the peer counts as an answer: a long frame on a slow line is a sign of life."""

    __slots__ = ("_interval_s", "_pinged_at", "_timeout_s", "heard_at")

    def __init__(self, interval_s: float, timeout_s: float, now: float) -> None:
        """``interval_s`` of silence before a ping, 0 for none; ``timeout_s`` for its answer."""
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._pinged_at = float("-inf")
        self.heard_at = now

    def look(self, now: float) -> tuple[Beat, float]:
        """What to do at ``now``, and when to look again."""
        if not self._interval_s:
            return Beat.NOTHING, float("inf")
        if self._pinged_at > self.heard_at:
            answer_by = self._pinged_at + self._timeout_s
            return (Beat.GONE, float("inf")) if now >= answer_by else (Beat.NOTHING, answer_by)
        if now >= self.heard_at + self._interval_s:
            self._pinged_at = now
            return Beat.PING, now + self._timeout_s
        return Beat.NOTHING, self.heard_at + self._interval_s
