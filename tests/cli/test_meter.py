from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.meter import FLOOR_DBFS, bar, bytes_of, peak_dbfs, rms_dbfs, samples_of


def pcm(*samples: int) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


class SampleTests(SynchronousTestCase):
    def test_little_endian_and_a_last_odd_byte_is_left_out(self) -> None:
        self.assertEqual(list(samples_of(b"\x01\x00\xff\x7f\x00\x80\x05")), [1, 32767, -32768])

    @given(st.binary().filter(lambda data: len(data) % 2 == 0))
    def test_there_and_back(self, data: bytes) -> None:
        self.assertEqual(bytes_of(samples_of(data)), data)


class LevelTests(SynchronousTestCase):
    def test_table(self) -> None:
        for samples, rms, peak in (
            ((), FLOOR_DBFS, FLOOR_DBFS),
            ((0, 0, 0, 0), FLOOR_DBFS, FLOOR_DBFS),
            ((-32768, -32768), 0.0, 0.0),
            ((16384, -16384), -6.02, -6.02),
            ((3277, 0, 0, 0), -26.02, -20.0),
        ):
            self.assertAlmostEqual(rms_dbfs(pcm(*samples)), rms, places=1)
            self.assertAlmostEqual(peak_dbfs(pcm(*samples)), peak, places=1)

    def test_a_step_sees_every_so_many_samples(self) -> None:
        self.assertEqual(rms_dbfs(pcm(0, 1000, 0, 1000), step=2), FLOOR_DBFS)

    @given(st.binary(max_size=200))
    def test_levels_are_within_the_scale_and_the_peak_is_not_below_the_mean(self, data: bytes) -> None:
        rms, peak = rms_dbfs(data), peak_dbfs(data)
        self.assertTrue(FLOOR_DBFS <= rms <= 0.0)
        self.assertTrue(rms <= peak + 1e-9 <= 1e-6)


class BarTests(SynchronousTestCase):
    def test_table(self) -> None:
        for dbfs, drawn in (
            (-96, "    "),
            (-60, "    "),
            (-30, "██  "),
            (0, "████"),
            (6, "████"),
            (-28, "██▏ "),
        ):
            self.assertEqual(bar(dbfs, 4), drawn)

    @given(st.floats(-200, 50), st.integers(1, 40))
    def test_it_never_changes_its_width(self, dbfs: float, width: int) -> None:
        self.assertEqual(len(bar(dbfs, width)), width)
