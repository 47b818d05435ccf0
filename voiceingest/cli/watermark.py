"""A mark in the audio itself: which stream, which sample, when it was spoken. Pure.

Every frame is one block of 16 samples, repeated until it is full. The block holds a name of the run,
the number of the stream, the number of the frame's first sample, when it was spoken (microseconds of
a monotonic clock), the samples of the frame, and a CRC-32 of all that; little-endian, 32 bytes. Each
byte of a frame is thereby known from its first 32, and a frame that was cut, mixed, resampled or put
together from two is told from a whole one.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

_FACTS: Final = struct.Struct("<4sIQQI")
_CRC: Final = struct.Struct("<I")
BLOCK_BYTES: Final = _FACTS.size + _CRC.size
RUN_BYTES: Final = 4


class Mark(NamedTuple):
    """What a frame says about itself; ``first`` is its first sample, counted from 0."""

    stream: int
    first: int
    spoken_us: int
    samples: int


def marked(run: bytes, mark: Mark) -> bytes:
    """The PCM16 of a frame of ``mark.samples`` samples, at least 16."""
    facts = _FACTS.pack(run, *mark)
    block = facts + _CRC.pack(crc32(facts))
    size = mark.samples * 2
    return (block * -(-size // BLOCK_BYTES))[:size]


def read_mark(run: bytes, audio: bytes) -> Mark | None:
    """What is marked in a frame; ``None`` unless every byte of it is as it was made for this run."""
    block = audio[:BLOCK_BYTES]
    if len(block) < BLOCK_BYTES or not block.startswith(run):
        return None
    facts = block[: _FACTS.size]
    if _CRC.unpack_from(block, _FACTS.size)[0] != crc32(facts):
        return None
    mark = Mark(*_FACTS.unpack(facts)[1:])
    if mark.samples * 2 != len(audio) or audio != (block * -(-len(audio) // BLOCK_BYTES))[: len(audio)]:
        return None
    return mark
