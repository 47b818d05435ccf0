"""Lanes that are transcribed: what reaches the bus is as without, and the end waits for the last words."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred

from tests.support.case import SynchronousTestCase
from voiceingest.audio import AudioFormat
from voiceingest.errors import SettingsError
from voiceingest.interfaces import ILane, IStreamSink, StreamFacts
from voiceingest.transcribing.publisher import STOP_S, Transcribing

from .world import FRAME, Listener, World, results

FACTS = StreamFacts("acme", "call-1", AudioFormat(8000))


class Lane:
    """A lane of the bus: notes what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def publish(self, seq: int, timestamp_ms: int, audio: bytes) -> None:
        self.said.append((seq, timestamp_ms, audio))

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        self.said.append((event, fields))

    def close(self) -> None:
        self.said.append("closed")

    def withdraw(self, after_seq: int) -> tuple[int, int]:
        return after_seq, 7

    @property
    def events(self) -> list[str]:
        return [said[0] if isinstance(said[0], str) else "frame" for said in self.said if said != "closed"]


class Publisher:
    """Opens them."""

    ready = "connecting"

    def __init__(self) -> None:
        self.lanes: list[Lane] = []

    def open_lane(self, facts: StreamFacts, sink: IStreamSink) -> Lane:
        self.lanes.append(Lane())
        return self.lanes[-1]


class TranscribingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(deepgram_api_key="k")
        dial = mock.patch("voiceingest.transcribing.publisher.Dial", lambda *_: self.world)
        dial.start()
        self.addCleanup(dial.stop)
        self.transcribing = Transcribing(self.world.means.settings, self.world.clock, self.world.metrics)
        self.bus = Publisher()
        self.listener = Listener()
        self.publisher = self.transcribing.around(self.bus, self.listener)

    def open(self, facts: StreamFacts = FACTS) -> tuple[ILane, Lane]:
        """A lane with one frame, and the one below; its connection stands."""
        lane = self.publisher.open_lane(facts, mock.Mock())
        lane.publish(1, 5, FRAME)
        self.world.connections[-1].open()
        return lane, self.bus.lanes[-1]

    def test_what_reaches_the_bus_is_as_without(self) -> None:
        lane, below = self.open()
        lane.publish_event("x", {"a": 1})
        self.assertEqual(below.said, [(1, 5, FRAME), ("x", {"a": 1})])
        self.assertEqual(lane.withdraw(3), (3, 7))
        self.assertEqual(self.publisher.ready, "connecting")
        self.assertEqual(self.world.connections[0].audio, FRAME)

    def test_its_end_waits_for_the_last_words(self) -> None:
        lane, below = self.open()
        connection = self.world.connections[0]
        lane.close()
        self.assertEqual((connection.texts, below.events), (["CloseStream"], ["frame"]))
        connection.link.heard(results(0, 0.02, "last"))
        connection.end("closed_1000", close_code=1000)
        self.assertEqual((below.events, below.said[-1]), (["frame", "transcript"], "closed"))
        self.assertEqual([heard.text for heard in self.listener.heard], ["last"])

    def test_but_not_for_ever(self) -> None:
        lane, below = self.open()
        lane.close()
        self.world.pump(3.2)
        self.assertEqual((below.events[1:], below.said[-1]), (["transcript_gap"], "closed"))

    def test_nobody_waits_where_the_interaction_begins_anew(self) -> None:
        lane, below = self.open()
        lane.close()
        self.open()
        self.assertEqual((below.said[-1], self.world.connections[0].aborted), ("closed", True))

    def test_nor_where_it_has_begun_anew_before_the_end(self) -> None:
        lane, below = self.open()
        self.open()
        lane.publish(2, 6, FRAME)
        self.assertFalse(self.world.connections[0].aborted)
        lane.close()
        self.assertEqual((below.said[-1], self.world.connections[0].aborted), ("closed", True))

    def test_other_interactions_are_left_alone(self) -> None:
        lane, _ = self.open()
        lane.close()
        self.open(StreamFacts("acme", "call-2", AudioFormat(8000)))
        self.open(StreamFacts("other", "call-1", AudioFormat(8000)))
        self.assertFalse(self.world.connections[0].aborted)

    def test_a_frame_after_the_end_is_the_bus_own_affair(self) -> None:
        lane, below = self.open()
        lane.close()
        lane.publish(2, 6, FRAME)
        self.assertEqual(below.said[-2:], ["closed", (2, 6, FRAME)])

    def test_a_transcription_that_failed_leaves_the_lane_as_it_is(self) -> None:
        lane, below = self.open()
        self.listener.heard = None  # type: ignore[assignment]
        self.world.connections[0].link.heard(results(0, 0.02))
        self.flushLoggedErrors(AttributeError)
        lane.publish(2, 6, FRAME)
        lane.close()
        self.assertEqual(below.said[-2:], [(2, 6, FRAME), "closed"])

    def test_one_that_cannot_begin_costs_the_stream_nothing(self) -> None:
        with mock.patch("voiceingest.transcribing.publisher.Transcriber", side_effect=RuntimeError):
            lane = self.publisher.open_lane(FACTS, mock.Mock())
        self.assertIs(lane, self.bus.lanes[-1])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.world.metrics.errors["internal", "transcribing"], 1)

    def test_stopping_waits_a_moment_for_all_of_them(self) -> None:
        self.open()
        self.open(StreamFacts("acme", "call-2", AudioFormat(8000)))
        done: list[None] = []
        stopping: Deferred[None] = self.transcribing.stop()
        stopping.addCallback(done.append)
        self.assertIs(self.transcribing.stop(), stopping)
        self.assertEqual([connection.texts for connection in self.world.connections], [["CloseStream"]] * 2)
        self.world.connections[0].end("closed_1000", close_code=1000)
        self.assertEqual(done, [])
        self.world.pump(STOP_S + 0.1)
        self.assertEqual((done, self.world.connections[1].aborted), ([None], True))
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_after_that_nothing_is_transcribed(self) -> None:
        self.transcribing.start()
        self.successResultOf(self.transcribing.stop())
        lane = self.publisher.open_lane(FACTS, mock.Mock())
        self.assertIs(lane, self.bus.lanes[-1])
        self.assertEqual(self.world.clock.getDelayedCalls(), [])


class SettingsTests(SynchronousTestCase):
    def test_a_key_that_fits_in_no_header(self) -> None:
        for key in ("a\nb", "schlüssel", ""):
            world = World(deepgram_api_key=key)
            self.assertRaises(SettingsError, Transcribing, world.means.settings, world.clock, world.metrics)
