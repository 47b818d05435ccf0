from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.publishers.fakes import FakeBus
from tests.support.case import SynchronousTestCase
from voiceingest.publishers.closing import Closing


class ClosingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.bus = Clock(), FakeBus()
        self.asked = 0
        self.closing = Closing(self.bus, self.clock, self.let_go)

    def let_go(self) -> int:
        self.asked += 1
        return 7

    def test_it_waits_so_long_and_says_what_is_left(self) -> None:
        done = self.closing.begin(5.0)
        self.clock.advance(4.9)
        self.assertNoResult(done)
        self.assertTrue(self.closing.is_waiting)
        self.clock.advance(0.1)
        self.assertEqual((self.successResultOf(done), self.bus.is_stopped), (7, True))
        self.assertFalse(self.closing.is_waiting)

    def test_with_nothing_held_it_waits_for_nothing(self) -> None:
        done = self.closing.begin(5.0)
        self.closing.now()
        self.assertEqual(self.successResultOf(done), 7)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_happens_once_whoever_asks(self) -> None:
        asked = [self.closing.begin(5.0), self.closing.begin(1.0)]
        self.closing.now()
        self.closing.now()
        asked.append(self.closing.begin(3.0))
        self.assertEqual([self.successResultOf(one) for one in asked], [7, 7, 7])
        self.assertEqual(self.asked, 1)

    def test_it_fires_when_the_bus_is_closed(self) -> None:
        self.bus.stopped = Deferred()
        done = self.closing.begin(5.0)
        self.closing.now()
        self.assertNoResult(done)
        self.bus.stopped.errback(ZeroDivisionError())
        self.assertEqual(self.successResultOf(done), 7)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_nobody_asked(self) -> None:
        self.closing.now()
        self.assertEqual((self.asked, self.bus.is_stopped), (0, False))
