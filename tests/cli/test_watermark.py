from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.watermark import BLOCK_BYTES, Mark, marked, read_mark

RUN = b"run1"


class WatermarkTests(SynchronousTestCase):
    @given(
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**48),
        st.integers(0, 2**53),
        st.integers(BLOCK_BYTES // 2, 5000),
    )
    def test_what_is_marked_is_read(self, stream: int, index: int, spoken_us: int, samples: int) -> None:
        mark = Mark(stream, index, spoken_us, samples)
        audio = marked(RUN, mark)
        self.assertEqual(len(audio), samples * 2)
        self.assertEqual(read_mark(RUN, audio), mark)

    def test_every_byte_counts(self) -> None:
        audio = marked(RUN, Mark(3, 4800, 123456, 50))
        for place in range(len(audio)):
            changed = bytearray(audio)
            changed[place] ^= 1
            self.assertIsNone(read_mark(RUN, bytes(changed)), place)

    def test_what_is_no_whole_frame_of_this_run(self) -> None:
        audio = marked(RUN, Mark(3, 4800, 123456, 50))
        for odd in (b"", audio[:-2], audio[2:], audio + audio, audio[:31], bytes(100)):
            self.assertIsNone(read_mark(RUN, odd))
        self.assertIsNone(read_mark(b"run2", audio))
