"""Audio that came before the stream was begun: the last second of it is kept."""

from __future__ import annotations

from collections import deque
from typing import Final

# Exotel sends `start` before `media`; implementers have seen it come a moment later (contract section 2).
EARLY_MAX_S: Final = 1.0

# One second at 24 kHz twice over, and the largest message Exotel documents (100 kB).
EARLY_MAX_BYTES: Final = 100_000


class EarlyMedia:
    """Holds payloads; the oldest go when they are too old or too many."""

    __slots__ = ("_held", "_held_bytes", "dropped")

    def __init__(self) -> None:
        self._held: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, payload: bytes, now: float) -> None:
        """Keep one; ``dropped`` counts what had to go for it."""
        self._held.append((now, payload))
        self._held_bytes += len(payload)
        self._trim(now)

    def take(self, now: float) -> list[bytes]:
        """All that is young enough, in order; nothing is held any more."""
        self._trim(now)
        taken = [payload for _, payload in self._held]
        self._held.clear()
        self._held_bytes = 0
        return taken

    def _trim(self, now: float) -> None:
        while self._held and (self._held_bytes > EARLY_MAX_BYTES or now - self._held[0][0] > EARLY_MAX_S):
            self._held_bytes -= len(self._held.popleft()[1])
            self.dropped += 1
