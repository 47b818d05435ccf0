"""The watermark: every frame says in its samples whose it is, which it is and when it was spoken.

So loss, repeats, order and latency are measured in audio, whatever numbers the daemon gave it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

RATE_HZ: Final = 24000
FRAME_BYTES: Final = 960
FRAME_S: Final = 0.02

# Magic, who generated it (the load or the neighbour), stream, number from 1, monotonic nanoseconds.
_MARK: Final = struct.Struct("<4sIIIQ")
_MAGIC: Final = b"mark"
_REPEATS: Final = FRAME_BYTES // _MARK.size


class Mark(NamedTuple):
    """What a frame says of itself. ``spoken_ns`` is of the machine's monotonic clock."""

    source: int
    stream: int
    number: int
    spoken_ns: int


def frame_of(mark: Mark) -> bytes:
    """20 ms at 24 kHz that say ``mark`` from the first sample to the last."""
    return _MARK.pack(_MAGIC, *mark) * _REPEATS


def read_mark(audio: bytes) -> Mark | None:
    """The mark of a frame; ``None`` when a single bit of the frame is not as it was spoken."""
    head = audio[: _MARK.size]
    if len(audio) != FRAME_BYTES or head * _REPEATS != audio:
        return None
    magic, *fields = _MARK.unpack(head)
    return Mark(*fields) if magic == _MAGIC else None


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Numbers in the order they came, runs of neighbours put together."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] + 1 == number:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def numbers(found: Iterable[Iterable[int]]) -> list[int]:
    """What ``ranges`` was made of."""
    return [number for first, last, *_ in found for number in range(first, last + 1)]
