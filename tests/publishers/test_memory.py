"""The bus inside the process."""

from __future__ import annotations

from twisted.internet.task import Clock

from tests.publishers.contract import EVENTS, FRAMES, NotingListener, PublisherContract
from tests.publishers.fakes import FACTS, make_settings
from tests.support.case import SynchronousTestCase, TestCase
from voiceingest.config.settings import Settings
from voiceingest.metrics import Metrics
from voiceingest.publishers.memory import MESSAGES_MAX_COUNT, Memory
from voiceingest.wire.envelope import decode_frame


class MemoryContractTests(PublisherContract, TestCase):
    def make_bus(self, settings: Settings, metrics: Metrics) -> Memory:
        from twisted.internet import reactor

        return Memory(settings, reactor, metrics)

    def listen(self, bus: Memory) -> None:
        self._arrived: list[tuple[str, bytes]] = []
        bus.subscribe(lambda channel, payload: self._arrived.append((channel, payload)))

    def arrived(self) -> list[tuple[str, bytes]]:
        return self._arrived


class MemoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.bus = Memory(make_settings(redis_channel="f:{tenant_id}"), self.clock, self.metrics)
        self.listener = NotingListener()
        self.bus.start(self.listener)
        self.clock.advance(0)
        self.prepared = self.bus.prepare(FACTS)

    def test_confirmations_come_on_the_next_turn(self) -> None:
        self.bus.send([(self.prepared, 1, 5, b"ab"), (self.prepared, 0, 5, b"{}")])
        self.assertEqual(self.listener.confirmed, 0)
        self.clock.advance(0)
        self.assertEqual(self.listener.confirmed, 2)
        self.assertEqual([channel for channel, _ in self.bus.messages], ["f:acme", EVENTS])
        self.assertEqual(decode_frame(self.bus.messages[0][1]).audio, b"ab")

    def test_what_is_kept_is_bounded(self) -> None:
        for seq in range(1, MESSAGES_MAX_COUNT + 11):
            self.bus.send([(self.prepared, seq, 5, b"")])
            self.clock.advance(0)
        self.assertEqual(len(self.bus.messages), MESSAGES_MAX_COUNT)
        self.assertEqual(decode_frame(self.bus.messages[0][1]).seq, 11)
        self.assertLessEqual(len(self.bus._calls), 1)

    def test_what_a_cut_connection_carried_is_not_confirmed(self) -> None:
        self.bus.send([(self.prepared, 1, 5, b"")])
        self.bus.drop_connection("timeout")
        self.clock.advance(0)
        self.assertEqual(self.listener.heard, ["up", ("down", "timeout"), "up"])
        self.assertEqual(self.listener.confirmed, 0)

    def test_a_subscriber_that_fails_is_taken_off_and_the_others_go_on(self) -> None:
        good: list[str] = []

        def bad(channel: str, payload: bytes) -> None:
            raise ZeroDivisionError

        self.bus.subscribe(bad)
        leave = self.bus.subscribe(lambda channel, payload: good.append(channel))
        self.bus.send([(self.prepared, 1, 5, b""), (self.prepared, 2, 5, b"")])
        self.assertEqual(good, ["f:acme", "f:acme"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.metrics.errors["internal", "publishing"], 1)
        leave()
        leave()
        self.bus.send([(self.prepared, 3, 5, b"")])
        self.assertEqual(len(good), 2)

    def test_default_channels(self) -> None:
        bus = Memory(Settings(), self.clock, self.metrics)
        frames, _, events = bus.prepare(FACTS)
        self.assertEqual((frames, events), (FRAMES, EVENTS))
