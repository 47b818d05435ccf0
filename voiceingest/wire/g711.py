"""Mu-law and A-law, the two encodings of the telephone network, by table.

Source: ITU-T G.711, tables 2a to 2b (mu-law) and 1a to 1b (A-law); the arithmetic is that of the
reference code of ITU-T G.191 (``g711.c``). PCM16LE on our side: its 14 or 13 upper bits are used.
``audioop`` of the standard library is gone in Python 3.13.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Final

# For each code the lower and the upper byte of its sample.
_Expanding = tuple[bytes, bytes]

_SIGN: Final = 0x80
_MULAW_BIAS: Final = 33
_MULAW_CLIP: Final = 0x1FFF
_ALAW_INVERTED: Final = 0x55


def ulaw_to_pcm16(data: bytes) -> bytes:
    """Expand mu-law."""
    return _expand(data, _expanding(_ulaw_sample))


def pcm16_to_ulaw(pcm: bytes) -> bytes:
    """Compress a whole number of samples to mu-law."""
    return _compress(pcm, _compressing(_ulaw_code))


def alaw_to_pcm16(data: bytes) -> bytes:
    """Expand A-law."""
    return _expand(data, _expanding(_alaw_sample))


def pcm16_to_alaw(pcm: bytes) -> bytes:
    """Compress a whole number of samples to A-law."""
    return _compress(pcm, _compressing(_alaw_code))


# --- by table ------------------------------------------------------------------------------


def _expand(data: bytes, tables: _Expanding) -> bytes:
    pcm = bytearray(2 * len(data))
    pcm[0::2], pcm[1::2] = data.translate(tables[0]), data.translate(tables[1])
    return bytes(pcm)


def _compress(pcm: bytes, table: bytes) -> bytes:
    return bytes(map(table.__getitem__, memoryview(pcm).cast("H")))


# Made when first needed: the larger ones take some 50 ms each, and few calls come in G.711.
@cache
def _expanding(sample_of: Callable[[int], int]) -> _Expanding:
    samples = [sample_of(code).to_bytes(2, "little", signed=True) for code in range(256)]
    return bytes(sample[0] for sample in samples), bytes(sample[1] for sample in samples)


@cache
def _compressing(code_of: Callable[[int], int]) -> bytes:
    # The index is what this machine reads where the two bytes of a sample stand.
    table = bytearray(65536)
    for sample in range(-32768, 32768):
        table[int.from_bytes(sample.to_bytes(2, "little", signed=True), sys.byteorder)] = code_of(sample)
    return bytes(table)


# --- by arithmetic -------------------------------------------------------------------------


def _ulaw_sample(code: int) -> int:
    inverted = ~code & 0xFF
    exponent, mantissa = inverted >> 4 & 7, inverted & 15
    magnitude = ((2 * mantissa + _MULAW_BIAS << exponent) - _MULAW_BIAS) * 4
    return magnitude if code & _SIGN else -magnitude


def _ulaw_code(sample: int) -> int:
    sign = _SIGN if sample >= 0 else 0
    magnitude = min(((sample if sign else ~sample) >> 2) + _MULAW_BIAS, _MULAW_CLIP)
    segment = (magnitude >> 6).bit_length() + 1
    return sign | (8 - segment) << 4 | 15 - (magnitude >> segment & 15)


def _alaw_sample(code: int) -> int:
    inverted = code ^ _ALAW_INVERTED
    exponent, mantissa = inverted >> 4 & 7, inverted & 15
    magnitude = (mantissa << 4) + 8
    if exponent:
        magnitude = magnitude + 256 << exponent - 1
    return magnitude if code & _SIGN else -magnitude


def _alaw_code(sample: int) -> int:
    sign = _SIGN if sample >= 0 else 0
    magnitude = (sample if sign else ~sample) >> 4
    exponent = max(0, magnitude.bit_length() - 4)
    mantissa = magnitude >> max(0, exponent - 1) & 15
    return (sign | exponent << 4 | mantissa) ^ _ALAW_INVERTED
