"""G.711 by its known values and by what compression may do to a sample."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.wire.g711 import alaw_to_pcm16, pcm16_to_alaw, pcm16_to_ulaw, ulaw_to_pcm16

Coding = Callable[[bytes], bytes]
BOTH: Final[list[tuple[Coding, Coding]]] = [(ulaw_to_pcm16, pcm16_to_ulaw), (alaw_to_pcm16, pcm16_to_alaw)]
CODES: Final = bytes(range(256))


def packed(*samples: int) -> bytes:
    """PCM16LE."""
    return struct.pack(f"<{len(samples)}h", *samples)


def samples(pcm: bytes) -> list[int]:
    """The samples of PCM16LE."""
    return list(struct.unpack(f"<{len(pcm) // 2}h", pcm))


ALL: Final = packed(*range(-32768, 32768))


class KnownValues(SynchronousTestCase):
    """Of the tables in the recommendation (there in 14 and 13 bits)."""

    def test_mu_law(self) -> None:
        codes = bytes.fromhex("80 8f 9f af bf cf df ef f0 fe ff 7f 7e 70 0f 00")
        upper = [32124, 16764, 8316, 4092, 1980, 924, 396, 132, 120, 8, 0]
        self.assertEqual(samples(ulaw_to_pcm16(codes)), [*upper, 0, -8, -120, -16764, -32124])

    def test_a_law(self) -> None:
        codes = bytes.fromhex("aa 2a d5 55 d4 54 c5 80 ea")
        self.assertEqual(samples(alaw_to_pcm16(codes)), [32256, -32256, 8, -8, 24, -24, 264, 5504, 2016])

    def test_the_sequence_of_a_tone(self) -> None:
        """G.711 tables 5 and 6: the codes of 1 kHz at 0 dBm0, sampled at 8 kHz."""
        ulaw, alaw = bytes.fromhex("1e0b0b1e9e8b8b9e"), bytes.fromhex("34212134b4a1a1b4")
        for code, expand, compress in (
            (ulaw, ulaw_to_pcm16, pcm16_to_ulaw),
            (alaw, alaw_to_pcm16, pcm16_to_alaw),
        ):
            tone = samples(expand(code))
            self.assertEqual(tone[:4], [-value for value in tone[4:]])
            self.assertApproximates(tone[5] / tone[4], 1 + 2**0.5, 0.1)
            self.assertEqual(compress(packed(*tone)), code)

    def test_silence_and_full_scale(self) -> None:
        self.assertEqual(pcm16_to_ulaw(packed(0, -1, 32767, -32768)), bytes.fromhex("ff7f8000"))
        self.assertEqual(pcm16_to_alaw(packed(0, -1, 32767, -32768)), bytes.fromhex("d555aa2a"))

    def test_nothing(self) -> None:
        for expand, compress in BOTH:
            self.assertEqual((expand(b""), compress(b"")), (b"", b""))


class Properties(SynchronousTestCase):
    """Over every code and every sample there is."""

    def test_every_code_comes_back(self) -> None:
        self.assertEqual(pcm16_to_alaw(alaw_to_pcm16(CODES)), CODES)
        # Mu-law has two codes for 0; the positive one is sent.
        self.assertEqual(pcm16_to_ulaw(ulaw_to_pcm16(CODES)), CODES.replace(b"\x7f", b"\xff"))

    def test_louder_stays_louder(self) -> None:
        for expand, compress in BOTH:
            coded = samples(expand(compress(ALL)))
            self.assertEqual(coded, sorted(coded))

    def test_the_error_is_small_beside_the_sample(self) -> None:
        for expand, compress in BOTH:
            for sample, coded in zip(samples(ALL), samples(expand(compress(ALL))), strict=True):
                self.assertLessEqual(
                    abs(coded - sample), max(16, abs(sample) / 16 if abs(sample) < 32256 else 644)
                )

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.integers(-32768, 32767), max_size=50))
    def test_sample_by_sample(self, values: list[int]) -> None:
        for expand, compress in BOTH:
            code = compress(packed(*values))
            self.assertEqual(code, b"".join(compress(packed(value)) for value in values))
            self.assertEqual(expand(code), b"".join(expand(code[at : at + 1]) for at in range(len(code))))

    def test_without_the_module_that_is_gone(self) -> None:
        self.assertNotIn("audioop", sys.modules)
