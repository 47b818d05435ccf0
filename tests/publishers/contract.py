"""What every bus promises, as a mix-in that the test of each bus inherits.

The test says how to make the bus (``make_bus``), how to listen to it (``listen``: subscribe to the two
channels below for this test) and what has arrived (``arrived``: ``(channel, payload)`` in order).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.publishers.fakes import NotingSink
from voiceingest.audio import AudioFormat
from voiceingest.config.settings import Settings
from voiceingest.interfaces import IBus, StreamFacts
from voiceingest.metrics import Metrics
from voiceingest.publishers.delivery import Delivery
from voiceingest.wire.envelope import decode_event, decode_frame

FRAMES = "audio:frames"
EVENTS = "audio:events"
_WAIT_S = 45.0


async def until(there: Callable[[], object], what: str = "it") -> None:
    """Wait on the real reactor until ``there()`` is true; fails after a long time."""
    from twisted.internet import reactor

    deadline = time.monotonic() + _WAIT_S
    while not there():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen in {_WAIT_S} s")
        await deferLater(reactor, 0.005)


class NotingListener:
    """Notes what a bus says, in order; confirmations are added up."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.confirmed = 0
        self.is_up = False

    def bus_up(self) -> None:
        self.is_up = True
        self.heard.append("up")

    def bus_down(self, reason: str) -> None:
        self.is_up = False
        self.heard.append(("down", reason))

    def bus_confirmed(self, count: int) -> None:
        self.confirmed += count

    def bus_refused(self, reason: str) -> None:
        self.heard.append(("refused", reason))

    def bus_writable(self) -> None:
        self.heard.append("writable")


class PublisherContract:
    """See the head of this file; mix it into a ``TestCase``."""

    def make_bus(self, settings: Settings, metrics: Metrics) -> IBus:
        """A bus that can be reached."""
        raise NotImplementedError

    def listen(self, bus: IBus) -> None:
        """Begin to take down what arrives; called before anything is sent."""
        raise NotImplementedError

    def arrived(self) -> list[tuple[str, bytes]]:
        """What has arrived so far."""
        raise NotImplementedError

    def make_settings(self) -> Settings:
        """Settings for the bus."""
        return Settings()

    async def begin(self) -> tuple[Any, NotingListener]:
        bus = self.make_bus(self.make_settings(), Metrics())
        self.addCleanup(bus.stop)
        self.listen(bus)
        listener = NotingListener()
        bus.start(listener)
        await until(lambda: listener.is_up, "bus_up")
        return bus, listener

    async def test_it_comes_up_and_takes_messages_in_order(self) -> None:
        bus, listener = await self.begin()
        self.assertEqual(listener.heard, ["up"])
        self.assertTrue(bus.writable)
        one = bus.prepare(StreamFacts("acme", 'a"\r\n', AudioFormat(24000)))
        two = bus.prepare(StreamFacts("umbrella", "b", AudioFormat(8000)))
        event = b'{"event":"stopped","tenant_id":"acme","interaction_id":"a\\"\\r\\n","timestamp_ms":5}'
        sound = b"\x01\x02" * 480
        batch = [(one, 1, 11, sound), (two, 7, 12, b"\r\n"), (one, 0, 13, event), (one, 2, 14, b"")]
        written = bus.send(batch)
        bus.send([(two, 8, 15, bytes(9600))])
        await until(lambda: listener.confirmed == 5 and len(self.arrived()) == 5, "five confirmations")
        self.assertGreater(written, 2 * 480 * 4 // 3)
        # Order is promised per stream: what another stream says may come between or before.
        ones, twos = self.of_stream('a"\r\n'), self.of_stream("b")
        self.assertEqual([channel for channel, _ in ones], [FRAMES, EVENTS, FRAMES])
        self.assertEqual([channel for channel, _ in twos], [FRAMES, FRAMES])
        frames = [decode_frame(ones[0][1]), decode_frame(ones[2][1]), *(decode_frame(two) for _, two in twos)]
        self.assertEqual(
            [(frame.seq, frame.timestamp_ms, frame.audio) for frame in frames],
            [(1, 11, sound), (2, 14, b""), (7, 12, b"\r\n"), (8, 15, bytes(9600))],
        )
        self.assertEqual([frame.sample_rate for frame in frames], [24000, 24000, 8000, 8000])
        self.assertEqual(ones[1][1], event)

    def of_stream(self, interaction_id: str) -> list[tuple[str, bytes]]:
        """What has arrived of one stream."""
        return [one for one in self.arrived() if json.loads(one[1])["interaction_id"] == interaction_id]

    async def test_a_cut_connection_is_told_and_made_again(self) -> None:
        bus, listener = await self.begin()
        bus.drop_connection("timeout")
        await until(lambda: listener.heard[-1] == "up" and len(listener.heard) == 3, "bus_up again")
        self.assertEqual(listener.heard, ["up", ("down", "timeout"), "up"])
        prepared = bus.prepare(StreamFacts("acme", "a", AudioFormat()))
        bus.send([(prepared, 1, 1, b"\0\0")])
        await until(lambda: listener.confirmed == 1, "a confirmation")

    async def test_after_stop_it_says_nothing_more(self) -> None:
        bus, listener = await self.begin()
        await bus.stop()
        await pause(0.05)
        self.assertEqual(listener.heard, ["up"])

    async def test_it_may_be_stopped_before_it_is_up(self) -> None:
        bus = self.make_bus(self.make_settings(), Metrics())
        listener = NotingListener()
        bus.start(listener)
        await bus.stop()
        await pause(0.05)
        self.assertEqual(listener.heard, [])

    async def test_the_delivery_brings_everything_over_it(self) -> None:
        from twisted.internet import reactor

        settings, metrics = self.make_settings(), Metrics()
        bus = self.make_bus(settings, metrics)
        self.listen(bus)
        delivery = Delivery(bus, settings, reactor, lambda: 17.25, metrics)
        delivery.start()
        await until(lambda: delivery.ready is None, "readiness")
        sinks = [NotingSink() for _ in range(5)]
        lanes = [
            delivery.open_lane(StreamFacts("acme", str(number), AudioFormat()), sink)
            for number, sink in enumerate(sinks)
        ]
        for lane in lanes:
            lane.publish_event("started", {"x": 1})
        for seq in range(1, 101):
            for number, lane in enumerate(lanes):
                lane.publish(seq, 1000 + seq, bytes([number, seq]) * 480)
            if seq % 10 == 0:
                await pause(0.001)
        self.assertEqual(await delivery.stop(_WAIT_S), 0)
        await until(lambda: len(self.arrived()) == 505, "arrival")
        for number, sink in enumerate(sinks):
            self.assertEqual(sink.heard, [*range(1, 101)])
            frames = [decode_frame(payload) for channel, payload in self.arrived() if channel == FRAMES]
            own = [frame for frame in frames if frame.interaction_id == str(number)]
            self.assertEqual([frame.seq for frame in own], [*range(1, 101)])
            sounds = [bytes([number, seq]) * 480 for seq in range(1, 101)]
            self.assertEqual([frame.audio for frame in own], sounds)
        events = [decode_event(payload) for channel, payload in self.arrived() if channel == EVENTS]
        self.assertEqual([event["timestamp_ms"] for event in events], [17250] * 5)
        self.assertEqual((metrics.frames_published, metrics.events_published), (500, 5))
        self.assertGreater(500, metrics.bus_writes)


def pause(seconds: float) -> Deferred[None]:
    """Let the real reactor run for a moment."""
    from twisted.internet import reactor

    return deferLater(reactor, seconds)
