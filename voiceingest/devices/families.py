"""Whose tokens were found to hold a moment ago: what spares the store a question for each request.

Pure: ``now`` is in monotonic seconds. What another process revokes is heard of at once where
processes tell one another, and else ``HOLDS_S`` later at the most.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

# For how long it is believed that tokens still hold.
HOLDS_S: Final = 1.0

# For how long that they do not: nothing that was revoked ever holds again.
REVOKED_S: Final = 60.0

# About 300 bytes each; past it the one that was asked for longest ago goes.
FAMILIES_MAX_COUNT: Final = 10_000


class KnownFamilies:
    """A bounded memory, least recently asked for goes first."""

    def __init__(self, max_count: int = FAMILIES_MAX_COUNT) -> None:
        self._max_count = max_count
        self._known: OrderedDict[str, tuple[str, bool, float]] = OrderedDict()
        # Grows with whatever is forgotten: who has asked the store before that has an old answer.
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._known)

    def holds(self, family_id: str, now: float) -> bool | None:
        """Whether the tokens of a family hold; ``None`` where the store has to be asked."""
        found = self._known.get(family_id)
        if found is None:
            return None
        _, holds, until = found
        if now >= until:
            del self._known[family_id]
            return None
        self._known.move_to_end(family_id)
        return holds

    def keep(self, family_id: str, device_id: str, now: float, *, holds: bool) -> None:
        """Remember what the store has said."""
        self._known[family_id] = (device_id, holds, now + (HOLDS_S if holds else REVOKED_S))
        self._known.move_to_end(family_id)
        if len(self._known) > self._max_count:
            self._known.popitem(last=False)

    def forget(self, family_id: str) -> None:
        """Ask the store the next time."""
        self.forgotten += 1
        self._known.pop(family_id, None)

    def forget_device(self, device_id: str) -> None:
        """The same for every family of a device."""
        self.forgotten += 1
        for family_id in [key for key, (of, _, _) in self._known.items() if of == device_id]:
            del self._known[family_id]
