"""Which streams have ended here, so that no old token of another process brings one of them back."""

from __future__ import annotations

from typing import Final

from .farewells import Name

# Each is some 500 bytes; past this the oldest is forgotten, and its token may begin it once more.
ENDED_MAX_COUNT: Final = 4096


class Ended:
    """Streams by name, and when each came here for the last time. Times are in monotonic seconds."""

    def __init__(self) -> None:
        self._came_at: dict[Name, float] = {}

    def __len__(self) -> int:
        return len(self._came_at)

    def remember(self, name: Name, came_at: float) -> None:
        """A stream that had its client since ``came_at`` has ended."""
        self._came_at.pop(name, None)
        if len(self._came_at) >= ENDED_MAX_COUNT:
            del self._came_at[next(iter(self._came_at))]
        self._came_at[name] = came_at

    def knows(self, name: Name, issued_at: float) -> bool:
        """Whether the stream came here after a token was issued for it, and has ended.

        One that was issued later is of a process at which it went on, for all we know to this day.
        """
        came_at = self._came_at.get(name)
        return came_at is not None and came_at >= issued_at
