"""Who comes after whom; test_delivery.SuccessionTests shows it on the bus."""

from __future__ import annotations

from twisted.internet.task import Clock

from tests.publishers.fakes import FakeBus, NotingSink, make_settings
from tests.support.case import SynchronousTestCase
from voiceingest.audio import AudioFormat
from voiceingest.interfaces import StreamFacts
from voiceingest.metrics import Metrics
from voiceingest.publishers.delivery import Delivery
from voiceingest.publishers.lane import Lane
from voiceingest.publishers.succession import Succession, with_successors


class SuccessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.delivery = Delivery(FakeBus(), make_settings(), Clock(), lambda: 1.0, Metrics())
        self.succession = Succession()

    def lane(self, name: str = "call", tenant: str = "acme") -> Lane:
        facts = StreamFacts(tenant, name, AudioFormat(8000))
        lane = Lane(self.delivery, None, facts, NotingSink(), 1000)
        self.succession.stand(lane)
        return lane

    def test_each_waits_for_the_one_before(self) -> None:
        first, second, third = (self.lane() for _ in range(3))
        self.assertEqual([one.before for one in (first, second, third)], [None, first, second])
        self.assertEqual(with_successors([first]), {first, second, third})
        self.assertIs(self.succession.leave(first), second)
        self.assertEqual((second.before, third.before), (None, second))
        self.assertIs(self.succession.leave(second), third)
        self.assertIsNone(self.succession.leave(third))
        self.assertEqual(self.succession._newest, {})

    def test_other_interactions_and_other_tenants_do_not(self) -> None:
        lanes = [self.lane(), self.lane("other"), self.lane(tenant="other")]
        self.assertEqual([one.before for one in lanes], [None] * 3)

    def test_one_that_leaves_twice_takes_nobody_along(self) -> None:
        first, second = self.lane(), self.lane()
        self.succession.leave(first)
        self.assertIsNone(self.succession.leave(first))
        self.assertEqual(self.succession._newest, {("acme", "call"): second})

    def test_one_from_the_middle_leaves_and_those_beside_it_close_up(self) -> None:
        first, second, third = (self.lane() for _ in range(3))
        self.assertIsNone(self.succession.leave(second))
        self.assertIs(third.before, first)
        self.assertIs(self.succession.leave(first), third)

    def test_the_last_of_them_may_leave_before_the_first(self) -> None:
        first, second = self.lane(), self.lane()
        self.assertIsNone(self.succession.leave(second))
        third = self.lane()
        self.assertIs(third.before, first)
        self.assertIs(self.succession.leave(first), third)
