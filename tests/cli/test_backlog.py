from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.backlog import KEPT_MAX_BYTES, KEPT_MAX_S, Backlog, kept_bytes


class BacklogTests(SynchronousTestCase):
    def test_frames_are_kept_by_number_until_they_are_released(self) -> None:
        backlog = Backlog(100)
        for number in range(1, 6):
            backlog.add(bytes([number]) * 4)
        self.assertEqual((backlog.first, backlog.last, backlog.is_full), (1, 5, False))
        backlog.release(2)
        self.assertEqual(backlog.frame(3), bytes([3]) * 4)
        for gone in (2, 6):
            with self.assertRaises(IndexError):
                backlog.frame(gone)
        backlog.release(9)
        self.assertEqual((backlog.first, backlog.last), (6, 5))
        backlog.add(b"next")
        self.assertEqual((backlog.frame(6), backlog.forgotten), (b"next", 0))

    def test_the_oldest_is_forgotten_and_counted(self) -> None:
        backlog = Backlog(10)
        for number in range(1, 5):
            backlog.add(bytes([number]) * 4)
        self.assertEqual((backlog.first, backlog.last, backlog.forgotten), (3, 4, 2))
        backlog.add(bytes(50))
        self.assertEqual((backlog.first, backlog.last, backlog.is_full), (5, 5, True))

    def test_an_old_release_takes_nothing(self) -> None:
        backlog = Backlog(10)
        backlog.add(b"a")
        backlog.release(1)
        backlog.add(b"b")
        backlog.release(1)
        self.assertEqual(backlog.frame(2), b"b")

    def test_how_much(self) -> None:
        self.assertEqual(kept_bytes(8000), KEPT_MAX_S * 16000)
        self.assertEqual(kept_bytes(10**9), KEPT_MAX_BYTES)

    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=60))
    def test_against_a_list(self, steps: list[tuple[bool, int]]) -> None:
        backlog, frames = Backlog(60), [b""]
        for is_frame, value in steps:
            if is_frame:
                frames.append(bytes(value))
                backlog.add(frames[-1])
            else:
                backlog.release(min(value, backlog.last))
            self.assertEqual(backlog.last, len(frames) - 1)
            kept = [backlog.frame(number) for number in range(backlog.first, backlog.last + 1)]
            self.assertEqual(kept, frames[backlog.first :])
            self.assertLessEqual(sum(map(len, kept)), 60)
