"""How loud a frame is, in dBFS, and how that looks as a bar. Pure.

0 dBFS is the largest value a 16-bit sample can take; silence is :data:`FLOOR_DBFS`.
"""

from __future__ import annotations

import math
import operator
import sys
from array import array
from typing import Final

FULL_SCALE: Final = 32768
FLOOR_DBFS: Final = -96.0

# Speech on a telephone line lives between these; the bar shows no more.
BAR_LOW_DBFS: Final = -60.0
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def samples_of(pcm: bytes) -> array[int]:
    """The samples of little-endian 16-bit PCM; a last odd byte is left out."""
    samples = array("h")
    samples.frombytes(pcm[: len(pcm) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def bytes_of(samples: array[int]) -> bytes:
    """Little-endian 16-bit PCM of ``samples``."""
    if sys.byteorder == "big":
        samples = samples[:]
        samples.byteswap()
    return samples.tobytes()


def _dbfs(amplitude: float) -> float:
    if amplitude <= 0:
        return FLOOR_DBFS
    return max(FLOOR_DBFS, 20 * math.log10(amplitude / FULL_SCALE))


def peak_dbfs(pcm: bytes) -> float:
    """The loudest sample of a frame, in dBFS."""
    samples = samples_of(pcm)
    if not samples:
        return FLOOR_DBFS
    highest, lowest = max(samples), min(samples)
    return _dbfs(max(highest, -lowest))


def rms_dbfs(pcm: bytes, step: int = 1) -> float:
    """Root mean square of every ``step``-th sample, in dBFS. A meter can do with step 4."""
    samples = samples_of(pcm)[::step]
    if not samples:
        return FLOOR_DBFS
    return _dbfs(math.sqrt(sum(map(operator.mul, samples, samples)) / len(samples)))


def bar(dbfs: float, width: int = 12) -> str:
    """A bar of exactly ``width`` characters, empty at :data:`BAR_LOW_DBFS`, full at 0 dBFS."""
    share = min(1.0, max(0.0, (dbfs - BAR_LOW_DBFS) / -BAR_LOW_DBFS))
    eighths = round(share * width * 8)
    whole, rest = divmod(eighths, 8)
    drawn = _EIGHTHS[8] * whole + (_EIGHTHS[rest] if rest else "")
    return drawn.ljust(width)
