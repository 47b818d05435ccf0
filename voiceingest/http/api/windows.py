"""Moving windows in memory, for ``limits``: bounded, without tasks and without threads.

The storage of ``limits`` itself looks through every key, in a thread for each, at every request.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from limits.aio.storage import MovingWindowSupport, Storage

# Keys that are remembered: past it the one that was silent for longest is forgotten. Moments are as many
# as requests came in a minute.
KEYS_MAX_COUNT: Final = 20_000


class MemoryWindows(Storage, MovingWindowSupport):
    """``seconds`` is a clock that does not jump."""

    STORAGE_SCHEME = None

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__()
        self._seconds = seconds
        self._moments: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._moments)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What goes wrong here: nothing."""
        return ValueError

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Take ``amount`` of a window, or nothing."""
        moments = self._window(key, expiry)
        if len(moments) + amount > limit:
            return False
        moments.extend([self._seconds()] * amount)
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the window begins, and how much of it is taken."""
        moments = self._window(key, expiry)
        return (moments[0] if moments else self._seconds()), len(moments)

    def _window(self, key: str, expiry: int) -> deque[float]:
        moments = self._moments.get(key)
        if moments is None:
            moments = self._moments[key] = deque()
            if len(self._moments) > KEYS_MAX_COUNT:
                self._moments.popitem(last=False)
        self._moments.move_to_end(key)
        before = self._seconds() - expiry
        while moments and moments[0] <= before:
            moments.popleft()
        return moments

    # What a storage has to have and a moving window does not need.

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """No fixed windows here."""
        raise NotImplementedError

    async def get(self, key: str) -> int:
        """How many moments are kept."""
        return len(self._moments.get(key, ()))

    async def get_expiry(self, key: str) -> float:
        """No fixed windows here."""
        raise NotImplementedError

    async def check(self) -> bool:
        """It is always there."""
        return True

    async def reset(self) -> int | None:
        """Forget everything; how many keys."""
        count = len(self._moments)
        self._moments.clear()
        return count

    async def clear(self, key: str) -> None:
        """Forget one key."""
        self._moments.pop(key, None)
