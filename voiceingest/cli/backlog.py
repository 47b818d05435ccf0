"""The frames a client keeps until they are acknowledged, so that it can send them again. Pure.

Frames are numbered over the whole life of the client, from 1; what a frame is called on the wire is
a matter of the numbering it is sent in (see ``client``).
"""

from __future__ import annotations

from collections import deque
from typing import Final

# Longer than the window in which the daemon waits for a client to come back, which is 30 seconds.
KEPT_MAX_S: Final = 60.0
KEPT_MAX_BYTES: Final = 8 * 1024 * 1024


def kept_bytes(sample_rate: int) -> int:
    """How much PCM16 audio of that rate is kept, in bytes."""
    return min(KEPT_MAX_BYTES, int(KEPT_MAX_S * sample_rate * 2))


class Backlog:
    """A bounded queue of frames, the oldest first; when it is full the oldest is forgotten."""

    def __init__(self, max_bytes: int) -> None:
        self._frames: deque[bytes] = deque()
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self.first = 1
        self.forgotten = 0

    @property
    def last(self) -> int:
        """The number of the newest frame there has been; ``first - 1`` when none is kept."""
        return self.first + len(self._frames) - 1

    @property
    def is_full(self) -> bool:
        """Whether the next frame makes the oldest be forgotten."""
        return self._size_bytes >= self._max_bytes

    def add(self, frame: bytes) -> None:
        """Keep the next frame."""
        self._frames.append(frame)
        self._size_bytes += len(frame)
        while self._size_bytes > self._max_bytes and len(self._frames) > 1:
            self._drop_oldest()
            self.forgotten += 1

    def frame(self, number: int) -> bytes:
        """A frame that is kept. Raises: ``IndexError`` for one that is not."""
        if number < self.first:
            raise IndexError(number)
        return self._frames[number - self.first]

    def release(self, number: int) -> None:
        """The frames up to ``number`` need not be sent again."""
        while self._frames and self.first <= number:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._size_bytes -= len(self._frames.popleft())
        self.first += 1
