"""What is logged of the connections to Deepgram: an outage is a few lines, not one for each stream."""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger

from ..interfaces import IClock

# The same trouble is told again after so long.
AGAIN_S: Final = 60.0

# Reasons are words of ours and codes of the peer's; what comes after these waits for the next minute.
_REASONS_MAX_COUNT: Final = 32


class Notices:
    """Says a trouble once a minute, with how often it came in between."""

    _log = Logger()

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._said_at = 0.0
        self._counts: dict[str, int] = {}

    def trouble(self, reason: str) -> None:
        """A connection failed or was lost, for ``reason``: a short stable word."""
        now = self._clock.seconds()
        if now >= self._said_at + AGAIN_S:
            self._said_at, counts, self._counts = now, self._counts, {}
            for earlier, count in counts.items():
                if count:
                    self._log.warn(
                        "Deepgram failed again", event="transcriber_failed", reason=earlier, times=count
                    )
        if reason in self._counts:
            self._counts[reason] += 1
        elif len(self._counts) < _REASONS_MAX_COUNT:
            self._counts[reason] = 0
            self._log.warn("Deepgram failed", event="transcriber_failed", reason=reason)
