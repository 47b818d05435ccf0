"""Who is admitted, and how everybody is led out."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from voiceingest.errors import Draining, Forbidden
from voiceingest.registry import FLUSH_GRACE_S, Registry


class FakeStream:
    """Notes what it is told, and leaves when told the word in ``leaves_at``."""

    def __init__(self, registry: Registry, leaves_at: str = "") -> None:
        self.registry = registry
        self.leaves_at = leaves_at
        self.told: list[str] = []
        self.is_movable = False
        self.epoch = 1

    def replaced(self) -> None:
        """Note it."""
        self.hear("replaced")

    def give_up(self) -> None:
        """Note it."""
        self.hear("give up")

    def hear(self, word: str) -> None:
        """Note one word."""
        self.told.append(word)
        if word.partition(" ")[0] == self.leaves_at:
            self.registry.gone(self)

    def goaway(self, after_s: float) -> None:
        """Note it."""
        self.hear(f"goaway {after_s:g}")

    def finish(self) -> None:
        """Note it."""
        self.hear("finish")

    def cut(self) -> None:
        """Note it."""
        self.hear("cut")


class Case(SynchronousTestCase):
    """A registry on a fake clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = Registry(self.clock)

    def stream(self, leaves_at: str = "") -> FakeStream:
        """A connected stream."""
        stream = FakeStream(self.registry, leaves_at)
        self.registry.connected(stream)
        return stream


class Admission(Case):
    """An interaction has one stream at a time."""

    def test_the_newer_has_it(self) -> None:
        first, second = self.stream(), self.stream()
        self.registry.admit(first, "acme", "call")
        self.assertIs(self.registry.holder("acme", "call"), first)
        self.assertRaises(Forbidden, self.registry.holder, "other", "call")
        self.registry.admit(second, "acme", "call")
        self.assertIs(self.registry.holder("acme", "call"), second)
        self.registry.release(first)
        self.assertEqual(len(self.registry), 1)
        self.registry.admit(first, "acme", "another call")
        self.assertEqual(len(self.registry), 2)
        self.assertIsNone(self.registry.holder("acme", "a third"))

    def test_those_that_wait_for_their_client_are_counted_while_they_do(self) -> None:
        first, second = self.stream(), self.stream()
        for name, stream in (("a", first), ("b", second)):
            self.registry.admit(stream, "acme", name)
            self.registry.detached(stream)
        self.assertEqual((self.registry.detached_count, len(self.registry)), (2, 2))
        self.registry.attached(first)
        self.registry.release(second)
        self.assertEqual((self.registry.detached_count, len(self.registry)), (0, 1))

    def test_epochs_are_the_time_and_never_the_same(self) -> None:
        self.assertEqual(self.registry.next_epoch(1000), 1000)
        self.assertEqual(self.registry.next_epoch(1000), 1001)
        self.assertEqual(self.registry.next_epoch(900), 1002)
        self.assertEqual(self.registry.next_epoch(2000, after=5000), 5001)

    def test_what_was_released_may_be_taken_by_anybody(self) -> None:
        first, second = self.stream(), self.stream()
        self.registry.admit(first, "acme", "call")
        self.registry.release(first)
        self.registry.admit(second, "other", "call")
        self.assertEqual(len(self.registry), 1)

    def test_only_the_holder_releases(self) -> None:
        first, second = self.stream(), self.stream()
        self.registry.admit(first, "acme", "call")
        self.registry.release(second)
        self.assertEqual(len(self.registry), 1)
        self.registry.release(first)
        self.registry.release(first)
        self.assertEqual(len(self.registry), 0)

    def test_nobody_is_admitted_while_draining(self) -> None:
        self.stream()
        self.registry.drain(30.0)
        self.assertTrue(self.registry.draining)
        self.assertRaises(Draining, self.registry.holder, "acme", "call")

    def test_a_connection_that_never_was_may_be_gone(self) -> None:
        self.registry.gone(FakeStream(self.registry))
        self.assertEqual(len(self.registry), 0)


class Leaving(Case):
    """Tell, wait, flush, cut."""

    def drain(self, deadline_s: float = 30.0) -> list[object]:
        """Drain; what the Deferred fires with is put into the list."""
        fired: list[object] = []
        self.registry.drain(deadline_s).addBoth(fired.append)
        return fired

    def test_with_nobody_here_it_is_done_at_once(self) -> None:
        self.assertEqual(self.drain(), [None])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_everybody_is_told_once(self) -> None:
        streams = [self.stream() for _ in range(3)]
        self.assertEqual(self.drain(12.5), [])
        self.assertEqual([stream.told for stream in streams], [["goaway 12.5"]] * 3)

    def test_it_is_done_when_the_last_has_gone(self) -> None:
        one, other = self.stream(), self.stream()
        fired = self.drain()
        self.registry.gone(one)
        self.assertEqual(fired, [])
        self.registry.gone(other)
        self.assertEqual((fired, self.clock.getDelayedCalls()), ([None], []))

    def test_those_who_leave_when_told_leave_no_timer(self) -> None:
        for _ in range(3):
            self.stream(leaves_at="goaway")
        self.assertEqual(self.drain(), [None])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_the_deadline_the_rest_is_flushed(self) -> None:
        stays, flushes = self.stream(), self.stream(leaves_at="finish")
        fired = self.drain(30.0)
        self.clock.advance(29.9)
        self.assertEqual(flushes.told, ["goaway 30"])
        self.clock.advance(0.1)
        self.assertEqual((stays.told, fired), (["goaway 30", "finish"], []))
        self.registry.gone(stays)
        self.assertEqual((fired, self.clock.getDelayedCalls()), ([None], []))

    def test_those_who_all_flush_at_the_deadline_leave_no_timer(self) -> None:
        for _ in range(3):
            self.stream(leaves_at="finish")
        fired = self.drain(30.0)
        self.clock.advance(30.0)
        self.assertEqual((fired, self.clock.getDelayedCalls()), ([None], []))

    def test_who_is_still_here_after_the_grace_is_cut(self) -> None:
        stream, late = self.stream(), self.stream(leaves_at="refuse")
        fired = self.drain(30.0)
        self.clock.advance(30.0)
        self.clock.advance(FLUSH_GRACE_S)
        self.assertEqual(stream.told, ["goaway 30", "finish", "cut"])
        self.assertEqual(late.told, stream.told)
        self.assertEqual((fired, self.clock.getDelayedCalls()), ([None], []))
        self.registry.gone(stream)
        self.assertEqual(fired, [None])

    def test_deadline_0_does_not_wait(self) -> None:
        stream = self.stream()
        fired = self.drain(0.0)
        self.clock.advance(0.0)
        self.assertEqual(stream.told, ["goaway 0", "finish"])
        self.registry.gone(stream)
        self.assertEqual(fired, [None])

    def test_a_second_drain_tells_nobody_again_and_is_done_with_the_first(self) -> None:
        stream = self.stream()
        first, second = self.drain(30.0), self.drain(5.0)
        self.assertEqual(stream.told, ["goaway 30"])
        self.registry.gone(stream)
        self.assertEqual((first, second, self.drain()), ([None], [None], [None]))

    def test_what_one_who_waits_does_is_nothing_to_the_other(self) -> None:
        stream = self.stream()
        slow: Deferred[None] = Deferred()
        self.registry.drain(30.0).addCallback(lambda _: slow)
        second = self.drain()
        self.registry.gone(stream)
        self.assertEqual(second, [None])

    def test_one_who_no_longer_waits_does_not_end_the_wait_of_the_other(self) -> None:
        stream = self.stream()
        impatient = self.registry.drain(30.0)
        given_up: list[object] = []
        impatient.addErrback(given_up.append)
        second = self.drain()
        impatient.cancel()
        self.assertEqual((len(given_up), second), (1, []))
        self.registry.gone(stream)
        self.assertEqual(second, [None])

    def test_a_live_stream_is_not_forgotten_by_the_drain(self) -> None:
        stream = self.stream()
        self.registry.admit(stream, "acme", "call")
        self.drain()
        self.assertEqual(len(self.registry), 1)
        self.registry.release(stream)
        self.assertEqual(len(self.registry), 0)
