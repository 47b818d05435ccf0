from __future__ import annotations

from twisted.internet.task import Clock

from tests.publishers.fakes import SteadyClock
from tests.support.case import SynchronousTestCase
from voiceingest.publishers.reply_watch import ReplyWatch


class ReplyWatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = SteadyClock()
        self.expired: list[float] = []
        self.watch = ReplyWatch(self.clock, 10.0, lambda: self.expired.append(self.clock.seconds()))

    def test_silence_expires_once(self) -> None:
        self.watch.sent(first=True)
        self.clock.pump([1.0] * 30)
        self.assertEqual(self.expired, [10.0])

    def test_progress_puts_it_off(self) -> None:
        self.watch.sent(first=True)
        self.clock.advance(9.0)
        self.watch.progress_at = self.clock.seconds()
        self.watch.sent(first=False)
        self.clock.advance(9.0)
        self.assertEqual(self.expired, [])
        self.clock.pump([1.0] * 2)
        self.assertEqual(self.expired, [19.0])

    def test_what_follows_an_idle_time_has_its_whole_time(self) -> None:
        self.watch.sent(first=True)
        self.watch.is_waiting = False
        self.clock.advance(8.0)
        self.watch.sent(first=True)
        self.clock.advance(9.0)
        self.assertEqual(self.expired, [])
        self.clock.advance(1.0)
        self.assertEqual(self.expired, [18.0])

    def test_a_stall_of_our_own_is_not_held_against_the_bus(self) -> None:
        self.watch.sent(first=True)
        Clock.advance(self.clock, 13.0)
        self.assertEqual(self.expired, [])
        self.clock.advance(10.0)
        self.assertEqual(self.expired, [23.0])

    def test_nothing_in_flight_is_not_watched(self) -> None:
        self.watch.sent(first=True)
        self.watch.is_waiting = False
        self.clock.advance(20.0)
        self.assertEqual((self.expired, self.clock.getDelayedCalls()), ([], []))

    def test_stopped_it_has_no_timer(self) -> None:
        self.watch.sent(first=True)
        self.watch.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
