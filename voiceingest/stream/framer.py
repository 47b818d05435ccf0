"""Cuts what an agent says into the pieces Exotel plays without a gap.

A payload that is not a multiple of 320 bytes leaves a silence of 20 ms, and more than 100 000 bytes
is refused (protocols.md section 1.5). So nothing leaves here in another size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# 100 ms at 16 and 24 kHz; at 8 kHz the documented least of 3200 bytes, which is 200 ms there.
_EXOTEL_BYTES: Final = {24000: 4800}
_EXOTEL_LEAST_BYTES: Final = 3200

# Mu-law is announced by one beta page only and always at 8 kHz: 200 ms. Its silence is no zero.
_MULAW_BYTES: Final = 1600
_MULAW_SILENCE: Final = 0xFF


@dataclass(frozen=True, slots=True)
class ChunkProfile:
    """The sizes a far end takes: whole chunks, and a last piece that is a multiple of something."""

    chunk_bytes: int
    multiple_bytes: int = 320
    max_bytes: int = 100_000
    sample_bytes: int = 2
    silence: int = 0

    def __post_init__(self) -> None:
        # The settings are checked where they are read; here it would be our own mistake.
        assert 0 < self.multiple_bytes <= self.chunk_bytes <= self.max_bytes
        assert self.chunk_bytes % self.multiple_bytes == 0


def exotel_profile(sample_rate: int, chunk_bytes: int | None, encoding: str = "pcm16") -> ChunkProfile:
    """What Exotel takes at this rate; ``chunk_bytes`` is what an operator has set."""
    if encoding == "mulaw":
        return ChunkProfile(chunk_bytes or _MULAW_BYTES, sample_bytes=1, silence=_MULAW_SILENCE)
    return ChunkProfile(chunk_bytes or _EXOTEL_BYTES.get(sample_rate, _EXOTEL_LEAST_BYTES))


class Framer:
    """Takes audio in any sizes, gives it back in legal ones, and holds less than one chunk."""

    __slots__ = ("_held", "_profile")

    def __init__(self, profile: ChunkProfile) -> None:
        self._profile = profile
        self._held = bytearray()

    @property
    def held_bytes(self) -> int:
        """What waits for the rest of its chunk."""
        return len(self._held)

    def feed(self, pcm: bytes) -> list[bytes]:
        """Take audio; returns the chunks that are whole now."""
        held, size = self._held, self._profile.chunk_bytes
        held += pcm
        whole = len(held) - len(held) % size
        if not whole:
            return []
        with memoryview(held) as view:
            chunks = [bytes(view[at : at + size]) for at in range(0, whole, size)]
        del held[:whole]
        return chunks

    def flush(self) -> bytes:
        """Give the rest up, padded with silence; ``b""`` when there is none."""
        tail = bytes(self._held)
        self._held.clear()
        profile = self._profile
        return tail + bytes([profile.silence]) * (-len(tail) % profile.multiple_bytes)

    def clear(self) -> int:
        """Forget the rest; returns how many bytes that was."""
        dropped = len(self._held)
        self._held.clear()
        return dropped
