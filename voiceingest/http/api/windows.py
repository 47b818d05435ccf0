"""Moving windows in memory, for ``limits``: bounded, without tasks and without threads.

The storage of ``limits`` itself looks through every key, in a thread for each, at every request.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from limits.aio.storage import MovingWindowSupport, Storage

# Keys that are remembered: past it the one that was silent for longest is forgotten.
KEYS_MAX_COUNT: Final = 20_000


class MemoryWindows(Storage, MovingWindowSupport):
    """``seconds`` is a clock that does not jump.

    What is kept is what came within a window: keys that were silent for longer go with the next request.
    """

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
        before = self._seconds() - expiry
        moments = self._moments.setdefault(key, deque())
        self._moments.move_to_end(key)
        while len(self._moments) > 1 and (len(self._moments) > KEYS_MAX_COUNT or self._is_silent(before)):
            self._moments.popitem(last=False)
        while moments and moments[0] <= before:
            moments.popleft()
        return moments

    def _is_silent(self, before: float) -> bool:
        """Whether the key that was asked about longest ago holds nothing that counts any more."""
        oldest = next(iter(self._moments.values()))
        return not oldest or oldest[-1] <= before

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
