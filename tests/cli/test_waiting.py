from __future__ import annotations

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.cli.waiting import Waiting


class WaitingTests(SynchronousTestCase):
    def test_until_it_is_true(self) -> None:
        clock, facts = Clock(), []
        waiting = Waiting(clock)
        waits = ensureDeferred(waiting.until(lambda: bool(facts), 5.0))
        waiting.changed()
        self.assertNoResult(waits)
        facts.append(1)
        waiting.changed()
        self.assertTrue(self.successResultOf(waits))
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_until_it_is_too_late(self) -> None:
        clock = Clock()
        waits = ensureDeferred(Waiting(clock).until(lambda: False, 5.0))
        clock.advance(4.9)
        self.assertNoResult(waits)
        clock.advance(0.2)
        self.assertFalse(self.successResultOf(waits))

    def test_what_is_true_already_waits_for_nothing(self) -> None:
        waits = ensureDeferred(Waiting(Clock()).until(lambda: True, 5.0))
        self.assertTrue(self.successResultOf(waits))

    def test_several_at_once(self) -> None:
        clock, facts = Clock(), set()
        waiting = Waiting(clock)
        one = ensureDeferred(waiting.until(lambda: 1 in facts, 5.0))
        two = ensureDeferred(waiting.until(lambda: 2 in facts, 5.0))
        facts.add(2)
        waiting.changed()
        self.assertNoResult(one)
        self.assertTrue(self.successResultOf(two))
        clock.advance(5)
        self.assertFalse(self.successResultOf(one))
