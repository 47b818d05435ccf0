"""From one sample rate to another, frame by frame, as if it were one piece.

libsoxr does it; it and NumPy are the extra ``resample`` and are imported when first needed. At its
quality HQ it gives audio out in blocks, 60 to 120 ms after it went in (measured, soxr 1.1.0).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import ExtraMissing


class Resampler:
    """Resamples one direction of one call. With equal rates it hands on what it gets.

    Raises: ``ExtraMissing`` when the rates differ and a package is not there.
    """

    __slots__ = ("_half", "_numpy", "_soxr")

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self._half = b""
        self._numpy: Any = None
        self._soxr: Any = None
        if from_rate != to_rate:
            self._numpy, soxr = _installed("numpy"), _installed("soxr")
            # Not int16: libsoxr would then add dither from a random seed, and no two runs be the same.
            self._soxr = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")

    def feed(self, pcm: bytes) -> bytes:
        """Take PCM16LE of any number of bytes; returns what is ready, which may be nothing for a while."""
        if self._soxr is None:
            return pcm
        pcm = self._half + pcm
        whole = len(pcm) & ~1
        self._half = pcm[whole:]
        return self._resampled(pcm[:whole], is_last=False)

    def flush(self) -> bytes:
        """Returns the rest; what is fed after it is a new piece."""
        if self._soxr is None:
            return b""
        self._half = b""
        rest = self._resampled(b"", is_last=True)
        self._soxr.clear()
        return rest

    def _resampled(self, pcm: bytes, *, is_last: bool) -> bytes:
        numpy = self._numpy
        samples = numpy.frombuffer(pcm, "<i2").astype(numpy.float32)
        out = self._soxr.resample_chunk(samples, last=is_last)
        # The filter overshoots where full scale is cut off; without a bound that would wrap round.
        rounded: bytes = numpy.rint(out).clip(-32768, 32767).astype("<i2").tobytes()
        return rounded


def _installed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ExtraMissing(f"{name} is not installed: pip install 'voiceingest[resample]'") from None
