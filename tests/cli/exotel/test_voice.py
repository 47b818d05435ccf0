from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel.voice import LOUD, Source, Voice, first_loud, is_audible
from voiceingest.cli.speech import tone


class VoiceTests(SynchronousTestCase):
    def test_silence_speech_silence(self) -> None:
        voice = Voice(Source(b"abcdef", 6, b"."))
        self.assertEqual((voice.read(0, 4), voice.ends_at), (b"....", None))
        voice.begin(2)
        self.assertEqual(voice.read(0, 12), b"..abcdef....")
        self.assertEqual((voice.read(4, 2), voice.ends_at), (b"cd", 8))

    def test_repeated_and_cut(self) -> None:
        repeated, cut = Voice(Source(b"abc", 8, b".")), Voice(Source(b"abc", 2, b"."))
        for voice in (repeated, cut):
            voice.begin(0)
        self.assertEqual(repeated.read(0, 10), b"abcabcab..")
        self.assertEqual(cut.read(0, 4), b"ab..")

    @given(
        st.binary(min_size=1, max_size=9),
        st.integers(0, 40),
        st.integers(0, 20),
        st.lists(st.integers(1, 9), max_size=9),
    )
    def test_pieces_are_the_whole(self, coded: bytes, length: int, begin: int, sizes: list[int]) -> None:
        voice = Voice(Source(coded, length))
        voice.begin(begin)
        pieces, at = b"", 0
        for size in sizes:
            pieces += voice.read(at, size)
            at += size
        whole = bytes(begin) + (coded * (length + 1))[:length] + bytes(at)
        self.assertEqual(pieces, whole[:at])


class LoudnessTests(SynchronousTestCase):
    def test_the_first_loud_sample(self) -> None:
        for samples, expected in (
            ((0, LOUD - 1, -LOUD), 2),
            ((LOUD,), 0),
            ((0, 1, 0), 0),
            ((), 0),
        ):
            self.assertEqual(first_loud(struct.pack(f"<{len(samples)}h", *samples)), expected)

    def test_audible(self) -> None:
        self.assertTrue(is_audible(tone(440, 0.1, 8000)))
        self.assertFalse(is_audible(bytes(1600)))
        self.assertFalse(is_audible(b""))
        self.assertTrue(is_audible(struct.pack("<h", -LOUD)))
