"""What a caller says, by its place in the call: silence, then speech, then silence. Pure.

Nothing is kept of what was said: any part of it can be asked for again, for the comparison with an echo.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Final

from ..meter import samples_of

# 40 dB below full scale: what a detector of speech cannot take for a quiet line.
LOUD: Final = 328

# Every fourth sample tells as much: no voice is shorter than a millisecond.
_STEP: Final = 4


@dataclass(frozen=True, slots=True)
class Source:
    """Speech as it goes onto the wire, repeated or cut to ``length_bytes``; shared by all calls.

    ``loud_at`` is its first loud sample, 0 where there is none.
    """

    coded: bytes
    length_bytes: int
    silence: bytes = b"\0"
    loud_at: int = 0

    def read(self, at: int, count: int) -> bytes:
        """``count`` bytes from byte ``at`` on; both within the length."""
        start, size = at % len(self.coded), len(self.coded)
        if start + count <= size:
            return self.coded[start : start + count]
        return (self.coded[start:] + self.coded * (count // size + 1))[:count]


def first_loud(pcm: bytes) -> int:
    """The first sample of PCM16 that is loud; 0 where none is."""
    return next((n for n, sample in enumerate(samples_of(pcm)) if abs(sample) >= LOUD), 0)


def is_audible(pcm: bytes) -> bool:
    """Whether anything in it is loud."""
    samples: array[int] = samples_of(pcm)[::_STEP]
    return bool(samples) and (max(samples) >= LOUD or min(samples) <= -LOUD)


class Voice:
    """One caller: silent until ``begin``, then ``source``, then silent for ever."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.began_at: int | None = None

    def begin(self, at: int) -> None:
        """Speak from byte ``at`` of the call on."""
        self.began_at = at

    @property
    def ends_at(self) -> int | None:
        """The byte of the call after the last one spoken; ``None`` before it has begun."""
        return None if self.began_at is None else self.began_at + self._source.length_bytes

    def read(self, first: int, count: int) -> bytes:
        """``count`` bytes from byte ``first`` of the call on."""
        silence = self._source.silence
        if self.began_at is None:
            return silence * count
        lead = min(count, max(0, self.began_at - first))
        at = first + lead - self.began_at
        spoken = max(0, min(count - lead, self._source.length_bytes - at))
        return silence * lead + self._source.read(at, spoken) + silence * (count - lead - spoken)
