"""Another rate, the same sound; and what is said where the extra is not installed."""

from __future__ import annotations

import math
import subprocess
import sys
from array import array
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import ExtraMissing, OperatorError
from voiceingest.stream.resampler import Resampler

PAIRS = [(8000, 24000), (24000, 8000), (8000, 16000), (16000, 8000), (16000, 24000), (24000, 16000)]


def packed(samples: list[float]) -> bytes:
    """PCM16LE."""
    values = array("h", map(round, samples))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def samples(pcm: bytes) -> array[int]:
    """The samples of PCM16LE."""
    values = array("h", pcm)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def sine(rate: int, hz: float, count: int, peak: float = 12000.0) -> list[float]:
    """A sine."""
    return [peak * math.sin(2 * math.pi * hz * n / rate) for n in range(count)]


def resampled(pcm: bytes, pair: tuple[int, int], sizes: list[int]) -> bytes:
    """All of it, fed in pieces of these sizes, over and over."""
    resampler, out, at, turn = Resampler(*pair), bytearray(), 0, 0
    while at < len(pcm):
        size = sizes[turn % len(sizes)]
        out += resampler.feed(pcm[at : at + size])
        at += size
        turn += 1
    return bytes(out + resampler.flush())


class SameRate(SynchronousTestCase):
    """There is nothing to do."""

    def test_what_comes_goes(self) -> None:
        resampler = Resampler(8000, 8000)
        for pcm in (b"", b"\1\2", b"\1\2\3"):
            self.assertIs(resampler.feed(pcm), pcm)
        self.assertEqual(resampler.flush(), b"")

    def test_it_needs_no_extra(self) -> None:
        with patch.dict(sys.modules, {"numpy": None, "soxr": None}):
            Resampler(16000, 16000)


class Sound(SynchronousTestCase):
    """What comes out is what went in."""

    def test_a_sine_stays_a_sine(self) -> None:
        for pair in PAIRS:
            hz, count = 1000.0, pair[0] // 2
            out = samples(resampled(packed(sine(pair[0], hz, count)), pair, [321]))
            expected = sine(pair[1], hz, pair[1] // 2)
            self.assertEqual(len(out), len(expected))
            # The first and last 20 ms: there the filter sees the beginning and the end of the world.
            edge = pair[1] // 50
            wanted, got = expected[edge:-edge], out[edge:-edge]
            error = sum((a - b) ** 2 for a, b in zip(wanted, got, strict=True))
            snr_db = 10 * math.log10(sum(a * a for a in wanted) / error)
            self.assertGreater(snr_db, 80.0, pair)

    def test_what_the_new_rate_cannot_hold_is_filtered_out(self) -> None:
        out = samples(resampled(packed(sine(24000, 6000.0, 12000)), (24000, 8000), [960]))
        self.assertLess(max(map(abs, out[200:-200])), 3)

    def test_the_whole_band_of_a_telephone_passes(self) -> None:
        """3400 Hz of the 4000 that 8 kHz can hold: a cheaper filter takes a part of them."""
        for pair in ((8000, 16000), (16000, 8000), (8000, 24000)):
            out = samples(resampled(packed(sine(pair[0], 3400, pair[0])), pair, [320]))
            middle = out[len(out) // 4 : 3 * len(out) // 4]
            power = math.sqrt(sum(one * one for one in middle) / len(middle)) * math.sqrt(2)
            self.assertLess(abs(power - 12000), 60, pair)

    def test_full_scale_does_not_wrap_round(self) -> None:
        square = packed([32767.0 if n // 40 % 2 else -32768.0 for n in range(8000)])
        out = samples(resampled(square, (8000, 24000), [320]))
        middle = [out[n * 120 + 60] for n in range(2, 190)]
        self.assertTrue(all((value > 20000) is bool(n % 2) for n, value in enumerate(middle, 2)))

    def test_silence_stays_silence(self) -> None:
        self.assertEqual(resampled(bytes(16000), (8000, 24000), [320]), bytes(48000))


class Counts(SynchronousTestCase):
    """No sample is lost or made."""

    def test_an_hour(self) -> None:
        for pair in ((8000, 24000), (24000, 16000)):
            resampler, fed, out, turn = Resampler(*pair), 0, 0, 0
            while fed < 3600 * pair[0] * 2:
                size = (99_999, 64_001, 100_003, 7)[turn % 4]
                out += len(resampler.feed(bytes(size)))
                fed += size
                turn += 1
            out += len(resampler.flush())
            self.assertLessEqual(abs(out // 2 - fed // 2 * pair[1] / pair[0]), 1, pair)

    @settings(deadline=None, max_examples=60)
    @given(
        st.sampled_from(PAIRS), st.lists(st.integers(1, 3000), min_size=1, max_size=10), st.integers(0, 20000)
    )
    def test_any_pieces_give_the_same_as_one(
        self, pair: tuple[int, int], sizes: list[int], count: int
    ) -> None:
        pcm = (packed(sine(pair[0], 700.0, 500, 30000.0)) * 40)[: 2 * count]
        whole = resampled(pcm, pair, [len(pcm) or 1])
        self.assertEqual(resampled(pcm, pair, sizes), whole)
        self.assertLessEqual(abs(len(whole) // 2 - count * pair[1] / pair[0]), 1)

    def test_after_a_flush_it_begins_anew(self) -> None:
        resampler, pcm = Resampler(8000, 24000), packed(sine(8000, 440.0, 1000))
        once = resampler.feed(pcm) + resampler.flush()
        self.assertEqual(len(once), 6000)
        self.assertEqual(resampler.flush(), b"")
        self.assertEqual(resampler.feed(pcm + b"\1") + resampler.flush(), once)
        self.assertEqual(resampler.feed(pcm) + resampler.flush(), once)


class WithoutTheExtra(SynchronousTestCase):
    """One line that says what to do."""

    def test_what_is_missing(self) -> None:
        for name in ("numpy", "soxr"):
            with patch.dict(sys.modules, {name: None}):
                error = self.assertRaises(ExtraMissing, Resampler, 8000, 24000)
            self.assertIsInstance(error, OperatorError)
            self.assertEqual(error.message, f"{name} is not installed: pip install 'voiceingest[resample]'")

    def test_it_is_not_imported_before_it_is_needed(self) -> None:
        code = (
            "import sys, voiceingest.stream, voiceingest.stream.resampler as r; r.Resampler(8000, 8000);"
            "print(sorted({'numpy', 'soxr'} & set(sys.modules)))"
        )
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(shown.stdout, "[]\n")
