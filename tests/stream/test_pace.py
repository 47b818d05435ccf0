"""Live audio goes at once, kept audio at 1.25 times real time."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.stream.pace import BURST_S, PIECE_S, REALTIME_FACTOR, Pace

RATE = 1000


class PaceTests(SynchronousTestCase):
    def drain(self, pace: Pace, unsent: int, now: float) -> tuple[int, float]:
        """Send all, as early as allowed; how many at the first moment, and when the last went."""
        first = None
        while unsent:
            if not (count := pace.room(unsent, now)):
                first = unsent if first is None else first
                now = pace.next_at
                continue
            unsent -= count
            pace.spent(count, unsent, now)
        return unsent if first is None else first, now

    def test_a_backlog_is_sent_at_its_speed(self) -> None:
        pace = Pace(RATE)
        pace.begin(50.0)
        self.assertEqual(pace.room(4000, 50.0), int(PIECE_S * RATE))
        left, ended = self.drain(pace, 4000, 50.0)
        self.assertEqual(left, 4000 - int(PIECE_S * RATE))
        self.assertAlmostEqual(ended - 50.0, (4.0 - PIECE_S) / REALTIME_FACTOR)

    def test_no_faster_than_deepgram_takes_it(self) -> None:
        """"No faster than 1.25x": its page on recovering from errors."""
        self.assertLessEqual(REALTIME_FACTOR, 1.25)

    def test_live_audio_may_come_in_bursts(self) -> None:
        pace = Pace(RATE)
        pace.begin(50.0)
        self.drain(pace, 100, 50.0)
        _, ended = self.drain(pace, int(BURST_S * RATE), 51.0)
        self.assertEqual(ended, 51.0)
        # Ten seconds at once are not a burst.
        _, ended = self.drain(pace, 10_000, 60.0)
        self.assertAlmostEqual(ended, 60.0 + (10.0 - PIECE_S) / REALTIME_FACTOR - BURST_S)
