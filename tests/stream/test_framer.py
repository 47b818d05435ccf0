"""Only legal sizes come out, and the same samples."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.stream.framer import ChunkProfile, Framer, exotel_profile

PROFILES = st.sampled_from([ChunkProfile(320), ChunkProfile(640), ChunkProfile(960), ChunkProfile(8, 4)])


class Profiles(SynchronousTestCase):
    """The sizes of Exotel."""

    def test_by_rate(self) -> None:
        for rate, size in ((8000, 3200), (16000, 3200), (24000, 4800)):
            self.assertEqual(exotel_profile(rate, None), ChunkProfile(size, 320, 100_000))

    def test_an_operator_knows_better(self) -> None:
        for rate in (8000, 16000, 24000):
            self.assertEqual(exotel_profile(rate, 640), ChunkProfile(640))
            self.assertEqual(exotel_profile(rate, 99_840).chunk_bytes, 99_840)

    def test_what_would_not_be_played_is_a_mistake(self) -> None:
        for wrong in (0, 100, 330, -320, 100_160):
            self.assertRaises(AssertionError, ChunkProfile, wrong)


class Framing(SynchronousTestCase):
    """By hand."""

    def test_whole_chunks_only(self) -> None:
        framer = Framer(ChunkProfile(320))
        self.assertEqual(framer.feed(bytes(319)), [])
        self.assertEqual(framer.held_bytes, 319)
        self.assertEqual(framer.feed(b"\1"), [bytes(319) + b"\1"])
        self.assertEqual(framer.held_bytes, 0)
        self.assertEqual([len(chunk) for chunk in framer.feed(bytes(1000))], [320, 320, 320])
        self.assertEqual(framer.held_bytes, 40)

    def test_the_tail_is_padded_to_the_multiple_and_not_to_the_chunk(self) -> None:
        framer = Framer(ChunkProfile(3200))
        for size, padded in ((1, 320), (320, 320), (321, 640), (3199, 3200)):
            framer.feed(b"\1" * size)
            self.assertEqual(framer.flush(), b"\1" * size + bytes(padded - size))
            self.assertEqual((framer.held_bytes, framer.flush()), (0, b""))

    def test_clear(self) -> None:
        framer = Framer(ChunkProfile(320))
        framer.feed(bytes(330))
        self.assertEqual((framer.clear(), framer.clear(), framer.held_bytes, framer.flush()), (10, 0, 0, b""))

    def test_ten_minutes_at_once(self) -> None:
        """Quadratic work on 29 MB would be seen, and felt."""
        framer = Framer(exotel_profile(24000, None))
        self.assertEqual(len(framer.feed(bytes(600 * 48000))), 6000)
        big = Framer(ChunkProfile(99_840))
        self.assertEqual(sum(len(big.feed(b"\1\2")) for _ in range(2 * 99_840)), 4)


class Properties(SynchronousTestCase):
    """Whatever comes in."""

    @settings(deadline=None, max_examples=200)
    @given(PROFILES, st.lists(st.binary(max_size=2000) | st.sampled_from([b"f", b"c"]), max_size=15))
    def test_sizes_are_legal_and_samples_the_same(self, profile: ChunkProfile, pieces: list[bytes]) -> None:
        framer, said, out = Framer(profile), bytearray(), bytearray()
        for piece in pieces:
            if piece == b"f":
                tail = framer.flush()
                self.assertEqual(len(tail) % profile.multiple_bytes, 0)
                self.assertLessEqual(len(tail), profile.chunk_bytes)
                out += tail
                self.assertEqual(out[: len(said)], said)
                self.assertEqual(out[len(said) :].count(0), len(out) - len(said))
                said[:] = out
            elif piece == b"c":
                dropped = framer.clear()
                self.assertEqual(dropped, len(said) - len(out))
                del said[len(out) :]
            else:
                said += piece
                for chunk in framer.feed(piece):
                    self.assertEqual(len(chunk), profile.chunk_bytes)
                    out += chunk
            self.assertEqual(len(out) + framer.held_bytes, len(said))
            self.assertEqual(out, said[: len(out)])
            self.assertLess(framer.held_bytes, profile.chunk_bytes)
