"""A stream's audio on its way to a transcriber; by chance it is in ``test_transcription_machine``."""

from __future__ import annotations

import struct

from tests.support.case import SynchronousTestCase
from voiceingest.stream.backlog import STRETCHES_MAX_COUNT, Backlog, Stretch

KEPT = 100


def counted(first: int, count: int) -> bytes:
    """Samples that are their own positions."""
    return struct.pack(f"<{count}H", *range(first, first + count))


class BacklogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.backlog = Backlog(KEPT)

    def speak(self, count: int) -> None:
        self.backlog.take(counted(self.backlog.received, count))

    def send(self, count: int = 10**6) -> list[int]:
        piece = self.backlog.next(count)
        return list(struct.unpack(f"<{len(piece) // 2}H", piece))

    def lost(self) -> list[Stretch]:
        self.backlog.report()
        lost, self.backlog.lost = self.backlog.lost, []
        return lost

    def test_what_is_final_is_not_sent_again(self) -> None:
        self.backlog.attach()
        self.speak(50)
        self.send()
        self.backlog.cover(30)
        self.backlog.detach()
        self.backlog.attach()
        self.assertEqual(self.send(), list(range(30, 50)))
        self.assertEqual(self.backlog.place(0), 30)
        self.assertEqual(self.lost(), [])

    def test_what_left_the_ring_is_lost_when_the_connection_dies(self) -> None:
        self.backlog.attach()
        for _ in range(5):
            self.speak(50)
            self.send()
        self.backlog.cover(120)
        self.assertEqual(self.lost(), [])
        self.backlog.detach()
        self.assertEqual(self.lost(), [Stretch(120, 150, "lost")])
        self.backlog.attach()
        self.assertEqual(self.send(), list(range(150, 250)))

    def test_without_a_connection_the_oldest_goes(self) -> None:
        for _ in range(8):
            self.speak(50)
        self.assertEqual(self.lost(), [Stretch(0, 300, "overflow")])
        self.speak(10)
        self.assertEqual(self.lost(), [Stretch(300, 310, "overflow")])

    def test_results_about_two_stretches_are_put_back_where_they_belong(self) -> None:
        self.backlog.attach()
        self.speak(20)
        self.send()
        # It takes nothing while 130 more come: 30 of them are dropped.
        self.speak(130)
        self.assertEqual(self.lost(), [Stretch(20, 50, "overflow")])
        self.assertEqual(self.send(), list(range(50, 150)))
        place = self.backlog.place
        self.assertEqual([place(19), place(20), place(21)], [19, 50, 51])
        self.assertEqual([place(end, is_end=True) for end in (19, 20, 21)], [19, 20, 51])
        self.assertEqual(place(10**9), 150)
        self.backlog.cover(20)
        self.assertEqual(self.backlog.settled, 50)
        self.backlog.cover(60)
        self.backlog.detach()
        self.assertEqual(self.lost(), [])

    def test_where_all_was_final_nothing_before_a_dropped_stretch_is_pending(self) -> None:
        self.backlog.attach()
        self.speak(20)
        self.send()
        self.backlog.cover(20)
        self.speak(130)
        self.assertEqual(self.backlog.settled, 50)

    def test_the_piece_before_a_dropped_stretch_is_lost_with_the_connection(self) -> None:
        self.backlog.attach()
        self.speak(20)
        self.send()
        self.speak(130)
        self.lost()
        self.backlog.detach()
        self.assertEqual(self.lost(), [Stretch(0, 20, "lost")])

    def test_stretches_are_bounded(self) -> None:
        self.backlog.attach()
        for _ in range(STRETCHES_MAX_COUNT + 10):
            self.speak(10)
            self.send(10)
            self.speak(KEPT + 10)
            self.send(0)
        self.assertLessEqual(len(self.backlog._stretches), STRETCHES_MAX_COUNT)
        self.backlog.give_up("ended")
        covered = sorted((gap.first, gap.end) for gap in self.lost())
        ends = [0] + [end for _, end in covered]
        self.assertEqual(([first for first, _ in covered], ends[-1]), (ends[:-1], self.backlog.received))

    def test_given_up_it_keeps_nothing(self) -> None:
        self.backlog.attach()
        self.speak(20)
        self.send()
        self.speak(10)
        self.backlog.give_up("refused")
        self.assertEqual(self.lost(), [Stretch(0, 30, "refused")])
        self.speak(40)
        self.assertEqual((self.backlog.unsent, len(self.backlog._held)), (0, 0))
        self.assertTrue(self.backlog.is_growing)
        self.assertEqual(self.lost(), [Stretch(30, 70, "refused")])
