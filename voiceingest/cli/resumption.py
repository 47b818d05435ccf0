"""Whether and when a client that lost its connection comes back. Pure.

What the daemon says about it: ``started``, ``goaway`` and ``moved`` carry a ``resume_token``, of
which the newest counts; ``started`` also says how long a stream waits (``resume_window_s``).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Final

from .tally import Ending

WINDOW_S: Final = 30.0
PAUSE_FIRST_S: Final = 0.1
PAUSE_MAX_S: Final = 3.0

# RFC 6455 section 7.4.1 and docs/reference/wire.md: the daemon or the line failed, not the client.
RESUMABLE_CLOSES: Final = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 4408})
EXPIRED_CLOSE: Final = 4401
RETRYABLE_STATUSES: Final = frozenset({408, 429, 502, 503, 504})
START_ANEW: Final = frozenset({"resume_refused", "resume_expired"})


@dataclass(slots=True)
class Resumption:
    """What one client knows about resuming. ``renewable``: it can bring a new token when it expires."""

    renewable: bool = False
    chance: random.Random = field(default_factory=random.Random)
    token: str | None = field(default=None, repr=False)
    window_s: float = WINDOW_S

    def hear(self, message: dict[str, Any]) -> None:
        """Take the newest token, where a message has one."""
        token, window_s = message.get("resume_token"), message.get("resume_window_s")
        if isinstance(token, str) and token:
            self.token = token
        if isinstance(window_s, int | float) and not isinstance(window_s, bool) and window_s > 0:
            self.window_s = float(window_s)

    def may_retry(self, ending: Ending) -> bool:
        """Whether a connection, or an attempt at one, that ended so is worth another."""
        if ending.http_status is not None:
            return ending.http_status in RETRYABLE_STATUSES
        if ending.close_code == EXPIRED_CLOSE:
            return self.renewable
        return ending.close_code in RESUMABLE_CLOSES

    def pause_s(self, attempt: int) -> float:
        """Seconds before attempt ``attempt`` (from 0): doubling, with half of it left to chance.

        Jitter, because a daemon that goes takes the connections of all its clients at one time.
        """
        longest = min(PAUSE_MAX_S, PAUSE_FIRST_S * 2.0 ** min(attempt, 10))
        return longest * self.chance.uniform(0.5, 1.0)
