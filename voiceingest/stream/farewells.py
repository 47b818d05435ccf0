"""The last words of streams, for a client whose connection was lost before it heard them."""

from __future__ import annotations

from typing import Any, Final

# Each is some 700 bytes; past this the oldest is forgotten, and its client hears ``resume_expired``.
FAREWELLS_MAX_COUNT: Final = 4096

# Tenant, interaction, epoch.
Name = tuple[str, str, int]


class Farewells:
    """What ``stopped`` said, by stream, for a while. ``now`` is in monotonic seconds."""

    def __init__(self) -> None:
        self._said: dict[Name, tuple[float, dict[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self._said)

    def remember(self, name: Name, last: dict[str, Any], window_s: float, now: float) -> None:
        """Keep the last word of a stream for ``window_s``; all are kept equally long."""
        self._forget(now)
        if len(self._said) >= FAREWELLS_MAX_COUNT:
            del self._said[next(iter(self._said))]
        self._said[name] = (now + window_s, last)

    def recall(self, name: Name, now: float) -> dict[str, Any] | None:
        """What was said last, where that is known."""
        self._forget(now)
        found = self._said.get(name)
        return None if found is None else found[1]

    def _forget(self, now: float) -> None:
        while self._said:
            oldest = next(iter(self._said))
            if self._said[oldest][0] > now:
                return
            del self._said[oldest]
