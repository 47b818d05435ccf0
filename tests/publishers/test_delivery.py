"""The delivery, case by case; test_delivery_machine does it by chance."""

from __future__ import annotations

import gc
import json
import tracemalloc
import weakref
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher

from tests.publishers.fakes import FACTS, FakeBus, NotingSink, SteadyClock, make_settings
from tests.support.case import SynchronousTestCase
from voiceingest.audio import AudioFormat
from voiceingest.interfaces import StreamFacts
from voiceingest.limits import COALESCE_S, QUEUED_FRAME_OVERHEAD_BYTES
from voiceingest.metrics import Metrics
from voiceingest.publishers.delivery import PROBE_MAX_BYTES, WRITE_MAX_BYTES, Delivery
from voiceingest.publishers.gap_reports import GAP_INTERVAL_S
from voiceingest.publishers.lane import EVENTS_PER_LANE_MAX_COUNT, GAPS_PER_LANE_MAX_COUNT, Lane

NOW_S = 1790000000.5

# At 8 kHz, 100 ms are 1600 bytes: ten frames of 160.
FRAME = bytes(160)


class DeliveryTestCase(SynchronousTestCase):
    """One delivery over a bus that does as it is told."""

    def setUp(self) -> None:
        self.make()

    def make(self, **settings: Any) -> None:
        self.clock = SteadyClock()
        self.bus = FakeBus()
        self.metrics = Metrics()
        settings = {"buffer_duration_ms": 100, **settings}
        self.delivery = Delivery(self.bus, make_settings(**settings), self.clock, lambda: NOW_S, self.metrics)
        self.delivery.start()

    def open(self, name: str = "call-1", epoch: int = 0) -> tuple[Lane, NotingSink]:
        sink = NotingSink()
        return self.delivery.open_lane(StreamFacts("acme", name, AudioFormat(8000), epoch), sink), sink

    def publish(self, lane: Lane, *seqs: int, audio: bytes = FRAME) -> None:
        for seq in seqs:
            lane.publish(seq, 1000 + seq, audio)

    def flush(self) -> None:
        self.clock.advance(COALESCE_S)

    def gauge(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"voiceingest_{name}")


class SendingTests(DeliveryTestCase):
    def test_what_comes_within_two_milliseconds_is_one_write(self) -> None:
        self.bus.up()
        one, _ = self.open("one")
        two, _ = self.open("two")
        self.publish(one, 1, 2)
        self.publish(two, 1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(self.bus.batches, [])
        self.flush()
        self.assertEqual(
            self.bus.batches,
            [[("one", 1, 1001, FRAME), ("two", 1, 1001, FRAME), ("one", 2, 1002, FRAME)]],
        )
        self.assertEqual((self.metrics.bus_writes, self.metrics.bus_bytes), (1, 3 * 160))

    def test_a_flush_leaves_no_timer_but_the_deadline(self) -> None:
        self.bus.up()
        lane, _ = self.open()
        for seq in range(1, 9):
            self.publish(lane, seq)
            self.flush()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_down_nothing_is_sent_and_no_timer_runs(self) -> None:
        lane, _ = self.open()
        self.publish(lane, 1, 2, 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.bus.up()
        self.flush()
        self.assertEqual(self.bus.sent, [("call-1", 1), ("call-1", 2), ("call-1", 3)])

    def test_after_an_outage_the_streams_take_turns(self) -> None:
        lanes = [self.open(name)[0] for name in "abc"]
        for lane in lanes:
            self.publish(lane, 1, 2, 3)
        self.bus.up()
        self.flush()
        self.assertEqual(self.bus.sent, [(name, seq) for seq in (1, 2, 3) for name in "abc"])

    def test_an_unwritable_bus_is_left_alone(self) -> None:
        self.bus.up()
        lane, _ = self.open()
        self.bus.writable = False
        self.publish(lane, 1)
        self.flush()
        self.assertEqual(self.bus.batches, [])
        self.bus.writable = True
        self.delivery.bus_writable()
        self.flush()
        self.assertEqual(self.bus.sent, [("call-1", 1)])

    def test_a_bus_that_turns_unwritable_before_the_flush_is_left_alone(self) -> None:
        self.bus.up()
        lane, _ = self.open()
        self.publish(lane, 1)
        self.bus.writable = False
        self.flush()
        self.assertEqual(self.bus.batches, [])

    def test_much_goes_in_several_writes_and_stops_when_the_bus_has_enough(self) -> None:
        cost = 1000 + QUEUED_FRAME_OVERHEAD_BYTES
        self.make(buffer_duration_ms=60_000)
        lane, sink = self.open()
        self.publish(lane, *range(1, 501), audio=bytes(1000))
        writes: list[int] = []
        send = self.bus.send

        def send_until_full(batch: list[Any]) -> int:
            writes.append(len(batch))
            written = send(batch)
            self.bus.writable = len(writes) != 2
            return written

        self.bus.send = send_until_full
        self.bus.up()
        self.flush()
        each = WRITE_MAX_BYTES // cost + 1
        self.assertEqual(writes, [each, each])
        self.bus.writable = True
        # Without another wait: what was held back has waited long enough.
        self.delivery.bus_writable()
        self.assertEqual(sum(writes), 500)
        self.bus.confirm_all()
        self.assertEqual(sink.heard, [*range(1, 501)])

    def test_no_more_is_in_flight_than_the_window_and_one_frame(self) -> None:
        cost = len(FRAME) + QUEUED_FRAME_OVERHEAD_BYTES
        self.make(publish_inflight_bytes=2 * cost + 1)
        self.bus.up()
        lane, sink = self.open()
        self.publish(lane, *range(1, 8))
        self.flush()
        self.flush()
        self.assertEqual(len(self.bus.inflight), 3)
        self.assertEqual(self.gauge("inflight_bytes"), 3 * cost)
        self.bus.confirm(2)
        self.flush()
        self.assertEqual(len(self.bus.inflight), 3)
        while self.bus.inflight:
            self.bus.confirm_all()
            self.flush()
        self.assertEqual(sink.heard, [1, 2, 3, 4, 5, 6, 7])

    def test_confirmations_go_to_their_streams_in_order(self) -> None:
        self.bus.up()
        one, heard_one = self.open("one")
        two, heard_two = self.open("two")
        self.publish(one, 1, 2)
        self.publish(two, 1)
        self.flush()
        self.clock.advance(0.03)
        self.bus.confirm(2)
        self.assertEqual((heard_one.heard, heard_two.heard), ([1], [1]))
        self.assertEqual((one.pending, two.pending), (1, 0))
        self.bus.confirm(1)
        self.assertEqual(heard_one.heard, [1, 2])
        self.assertEqual(self.metrics.frames_published, 3)
        self.assertEqual(self.metrics.publish_latency.count, 3)
        self.assertAlmostEqual(self.metrics.publish_latency.sum, 3 * 0.032)

    def test_the_gauges_say_what_is_held(self) -> None:
        self.bus.up()
        lane, _ = self.open()
        cost = len(FRAME) + QUEUED_FRAME_OVERHEAD_BYTES
        self.publish(lane, 1, 2)
        self.assertEqual(self.gauge("queue_frames"), 2)
        self.assertEqual(self.gauge("queue_bytes"), 2 * cost)
        self.flush()
        self.assertEqual(self.gauge("queue_frames"), 0)
        self.assertEqual(self.gauge("queue_bytes"), 2 * cost)
        self.bus.confirm_all()
        self.assertEqual(self.gauge("queue_bytes"), 0)
        self.assertEqual(self.gauge("inflight_bytes"), 0)


class BoundTests(DeliveryTestCase):
    def test_over_its_duration_a_stream_loses_its_own_oldest(self) -> None:
        lane, sink = self.open()
        other, other_sink = self.open("other")
        self.publish(other, 1)
        self.publish(lane, *range(1, 16))
        self.assertEqual(sink.heard, [])
        self.assertEqual(lane.pending, 15)
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual(sink.heard, [(1, 5, "overflow")])
        self.assertEqual(lane.pending, 10)
        self.assertEqual(self.metrics.frames_dropped["overflow"], 5)
        self.bus.up()
        self.flush()
        self.bus.confirm_all()
        self.assertEqual(sink.confirmed_seqs, [*range(6, 16)])
        self.assertEqual(other_sink.heard, [1])

    def test_a_flood_of_drops_is_one_call_each_quarter_of_a_second(self) -> None:
        lane, sink = self.open()
        seq = 0
        for _ in range(4):
            for _ in range(1000):
                seq += 1
                self.publish(lane, seq)
            self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual(len(sink.heard), 4)
        self.assertEqual(sink.dropped_seqs, [*range(1, seq - 9)])

    def test_drops_are_told_before_the_next_confirmation(self) -> None:
        self.make(publish_inflight_bytes=1)
        self.bus.up()
        lane, sink = self.open()
        self.publish(lane, 1)
        self.flush()
        self.publish(lane, *range(2, 15))
        self.clock.advance(0.11)
        self.publish(lane, 15)
        self.assertEqual(sink.heard, [])
        self.bus.confirm()
        self.assertEqual(sink.heard, [(2, 6, "overflow"), 1])

    def test_neighbours_lost_for_different_reasons_are_two_gaps(self) -> None:
        self.make(publish_inflight_bytes=1)
        self.bus.up()
        lane, sink = self.open()
        self.publish(lane, 1)
        self.flush()
        self.bus.refuse()
        self.bus.down()
        self.publish(lane, *range(2, 13))
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual(sink.heard, [(1, 1, "refused"), (2, 2, "overflow")])

    def test_what_is_in_flight_is_never_dropped(self) -> None:
        self.bus.up()
        lane, sink = self.open()
        self.publish(lane, *range(1, 11))
        self.flush()
        self.bus.writable = False
        self.publish(lane, 11, 12)
        self.clock.advance(0.11)
        self.publish(lane, 13)
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual(sink.heard, [(11, 12, "overflow")])
        self.bus.confirm_all()
        self.bus.writable = True
        self.delivery.bus_writable()
        self.flush()
        self.bus.confirm_all()
        self.assertEqual(sink.confirmed_seqs, [*range(1, 11), 13])

    def test_one_frame_is_kept_however_large(self) -> None:
        lane, sink = self.open()
        self.publish(lane, 1, audio=bytes(5000))
        self.publish(lane, 2, audio=bytes(5000))
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual(sink.heard, [(1, 1, "overflow")])
        self.bus.up()
        self.flush()
        self.bus.confirm_all()
        self.assertEqual(sink.heard[1:], [2])

    def test_over_the_bound_of_all_the_stream_that_pushes_pays(self) -> None:
        cost = len(FRAME) + QUEUED_FRAME_OVERHEAD_BYTES
        self.make(publish_buffer_bytes=5 * cost)
        rich, rich_sink = self.open("rich")
        poor, poor_sink = self.open("poor")
        self.publish(rich, 1, 2, 3)
        self.publish(poor, 1, 2)
        self.publish(poor, 3)
        late, late_sink = self.open("late")
        self.publish(late, 1)
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual(rich_sink.heard, [])
        self.assertEqual(poor_sink.heard, [(1, 1, "overflow")])
        self.assertEqual(late_sink.heard, [(1, 1, "overflow")])
        self.assertEqual(late.pending, 0)
        self.assertEqual(self.delivery.held_bytes, 5 * cost)
        self.bus.up()
        self.flush()
        self.assertEqual(len(self.bus.sent), 5)

    def test_a_frame_larger_than_all_of_it_is_dropped(self) -> None:
        self.make(publish_buffer_bytes=1000)
        lane, sink = self.open()
        self.publish(lane, 1)
        self.publish(lane, 2, audio=bytes(2000))
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual(sink.heard, [(1, 2, "overflow")])
        self.assertEqual((self.delivery.held_bytes, self.delivery.held_frames), (0, 0))
        self.assertEqual(len(self.delivery.order), 0)

    def test_a_hundred_streams_and_no_bus_stay_under_the_bound_in_real_memory(self) -> None:
        bound = 2_000_000
        self.make(publish_buffer_bytes=bound, buffer_duration_ms=3000)
        lanes = [self.open(str(number))[0] for number in range(100)]
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        for seq in range(1, 101):
            for number, lane in enumerate(lanes):
                # A fresh object each, as a socket gives them.
                lane.publish(seq, seq, b"%d" % number + bytes(900))
            self.assertLessEqual(self.delivery.held_bytes, bound)
        after, _ = tracemalloc.get_traced_memory()
        self.assertGreater(self.delivery.held_bytes, bound * 0.95)
        self.assertLess(after - before, bound)
        self.assertEqual(len(self.delivery.order), 100)

    def test_streams_that_come_and_go_while_the_bus_is_down_leave_nothing(self) -> None:
        self.make(publish_buffer_bytes=1000)
        for number in range(200):
            lane, _ = self.open(str(number))
            self.publish(lane, 1)
            self.publish(lane, 2, audio=bytes(3000))
            lane.close()
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual(len(self.delivery.order), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.delivery.gaps._lanes), 0)

    def test_a_caller_that_catches_up_loses_nothing_to_a_bus_that_is_up(self) -> None:
        self.bus.up()
        lane, sink = self.open()
        self.publish(lane, *range(1, 101))
        self.flush()
        self.bus.confirm_all()
        self.assertEqual(sink.heard, [*range(1, 101)])

    def test_what_a_bus_that_is_up_leaves_too_long_is_dropped(self) -> None:
        self.bus.up()
        lane, sink = self.open()
        self.bus.writable = False
        self.publish(lane, *range(1, 21))
        self.clock.advance(0.09)
        self.publish(lane, 21)
        self.assertEqual(self.metrics.frames_dropped["overflow"], 0)
        self.clock.advance(0.02)
        self.publish(lane, 22)
        self.clock.advance(GAP_INTERVAL_S)
        # Down to what the stream may hold, and not one frame further.
        self.assertEqual(sink.heard, [(1, 12, "overflow")])

    def test_a_turn_that_is_longer_than_the_buffer_loses_nothing_to_a_bus_that_is_up(self) -> None:
        """A storm of callers may hold the flush up for seconds."""
        self.bus.up()
        lane, sink = self.open()
        for seq in range(1, 41):
            self.publish(lane, seq)
            self.clock.rightNow += 0.05
        self.flush()
        self.clock.advance(GAP_INTERVAL_S)
        self.bus.confirm_all()
        self.assertEqual(sink.heard, [*range(1, 41)])

    def test_ranges_that_do_not_touch_are_not_kept_without_end(self) -> None:
        self.make(buffer_duration_ms=1)
        self.bus.up()
        lane, sink = self.open()
        for seq in range(1, 2 * GAPS_PER_LANE_MAX_COUNT + 4, 2):
            # Odd ones go in flight, even ones wait too long: no two drops are neighbours.
            self.publish(lane, seq, audio=b"")
            self.bus.writable = True
            self.delivery.bus_writable()
            self.bus.writable = False
            self.publish(lane, seq + 1, audio=bytes(100))
            self.clock.advance(0.0012)
        self.assertLess(self.clock.seconds(), GAP_INTERVAL_S)
        self.publish(lane, seq + 2, audio=b"")
        self.assertEqual(len(sink.heard), GAPS_PER_LANE_MAX_COUNT + 1)
        self.assertLessEqual(len(lane._gaps), 1)


class OutageTests(DeliveryTestCase):
    def test_what_was_in_flight_is_sent_again_first_with_the_same_seq(self) -> None:
        self.bus.up()
        one, heard_one = self.open("one")
        two, heard_two = self.open("two")
        self.publish(one, 1, 2, 3)
        self.publish(two, 1)
        self.flush()
        self.bus.confirm(1)
        self.publish(one, 4)
        self.publish(two, 2)
        self.bus.down("lost")
        self.assertEqual(self.gauge("inflight_bytes"), 0)
        self.bus.batches.clear()
        self.bus.up()
        self.flush()
        # "two" 1 was the oldest in flight, then "one" 2 and 3.
        self.assertEqual(
            self.bus.sent, [("two", 1), ("one", 2), ("two", 2), ("one", 3), ("one", 4)]
        )
        self.bus.confirm_all()
        self.assertEqual((heard_one.heard, heard_two.heard), ([1, 2, 3, 4], [1, 2]))

    def test_ready_says_why_not(self) -> None:
        self.assertEqual(self.delivery.ready, "connecting")
        self.bus.up()
        self.assertIsNone(self.delivery.ready)
        self.assertEqual(self.gauge("bus_up"), 1)
        self.bus.down("timeout")
        self.assertEqual(self.delivery.ready, "timeout")
        self.assertEqual(self.gauge("bus_up"), 0)
        self.assertEqual(self.metrics.bus_disconnects["timeout"], 1)
        self.assertEqual(self.metrics.bus_connects, 1)

    def test_an_outage_is_logged_once_for_each_reason(self) -> None:
        lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        self.bus.up()
        for reason in ("lost", "refused", "refused", "refused", "dns"):
            self.bus.down(reason)
        told = [line["reason"] for line in lines if line.get("event") == "bus_down"]
        self.assertEqual(told, ["lost", "refused", "dns"])

    def test_a_bus_that_does_not_answer_is_cut(self) -> None:
        self.make(publish_reply_timeout_s=10.0)
        self.bus.up()
        lane, _ = self.open()
        self.publish(lane, 1, 2)
        self.flush()
        self.clock.advance(9.0)
        self.bus.confirm(1)
        self.clock.advance(9.9)
        self.assertEqual(self.bus.dropped_connections, [])
        self.clock.advance(0.2)
        self.assertEqual(self.bus.dropped_connections, ["timeout"])
        self.assertEqual(self.delivery.ready, "timeout")

    def test_a_refusal_is_an_answer_too(self) -> None:
        self.make(publish_reply_timeout_s=10.0)
        self.bus.up()
        lane, _ = self.open()
        self.publish(lane, 1, 2)
        self.flush()
        self.clock.advance(9.0)
        self.bus.refuse()
        self.clock.advance(9.0)
        self.assertEqual(self.bus.dropped_connections, [])

    def test_an_idle_bus_is_not_cut(self) -> None:
        self.make(publish_reply_timeout_s=10.0)
        self.bus.up()
        lane, _ = self.open()
        self.publish(lane, 1)
        self.flush()
        self.bus.confirm(1)
        self.clock.pump([1.0] * 60)
        self.assertEqual(self.bus.dropped_connections, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_time_without_anything_in_flight_does_not_count(self) -> None:
        self.make(publish_reply_timeout_s=10.0)
        self.bus.up()
        lane, _ = self.open()
        self.publish(lane, 1)
        self.flush()
        self.bus.confirm(1)
        self.clock.advance(9.5)
        self.publish(lane, 2)
        self.flush()
        self.clock.advance(9.5)
        self.assertEqual(self.bus.dropped_connections, [])
        self.clock.advance(0.6)
        self.assertEqual(self.bus.dropped_connections, ["timeout"])

    def test_more_answers_than_questions_cut_the_connection(self) -> None:
        self.bus.up()
        lane, sink = self.open()
        self.publish(lane, 1)
        self.flush()
        self.delivery.bus_confirmed(2)
        self.assertEqual(sink.heard, [1])
        self.assertEqual(self.bus.dropped_connections, ["protocol"])
        self.bus.up()
        self.delivery.bus_refused("noperm")
        self.assertEqual(self.bus.dropped_connections, ["protocol", "protocol"])

    def test_what_is_refused_is_a_gap_and_the_others_go_on(self) -> None:
        self.bus.up()
        bad, bad_sink = self.open("bad")
        good, good_sink = self.open("good")
        self.publish(bad, 1, 2)
        self.publish(good, 1)
        bad.publish_event("x", {})
        self.flush()
        self.bus.refuse()
        self.bus.confirm()
        self.bus.refuse()
        self.bus.refuse()
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual((bad_sink.heard, good_sink.heard), ([(1, 2, "refused")], [1]))
        self.assertEqual((bad.pending, good.pending), (0, 0))
        self.assertEqual(self.metrics.bus_refused["noperm"], 3)
        self.assertEqual(self.metrics.frames_dropped["refused"], 2)
        self.assertEqual(self.metrics.events_dropped, 1)
        self.assertEqual(self.delivery.held_bytes, 0)


class EventTests(DeliveryTestCase):
    def test_events_keep_their_place_between_the_frames(self) -> None:
        self.bus.up()
        lane, sink = self.open()
        lane.publish_event("started", {"sample_rate": 8000})
        self.publish(lane, 1)
        lane.publish_event("stopped", {})
        self.flush()
        self.assertEqual([seq for _, seq in self.bus.sent], [0, 1, 0])
        self.assertEqual(
            json.loads(self.bus.batches[0][0][3]),
            {
                "event": "started",
                "tenant_id": "acme",
                "interaction_id": "call-1",
                "timestamp_ms": 1790000000500,
                "epoch": 0,
                "sample_rate": 8000,
            },
        )
        self.bus.confirm_all()
        self.assertEqual(sink.heard, [1])
        self.assertEqual((self.metrics.events_published, self.metrics.frames_published), (2, 1))

    def test_events_of_a_long_outage_are_bounded_and_the_oldest_goes(self) -> None:
        lane, _ = self.open()
        self.publish(lane, 1)
        for number in range(EVENTS_PER_LANE_MAX_COUNT + 3):
            lane.publish_event("gap", {"n": number})
        self.assertEqual(self.metrics.events_dropped, 3)
        self.bus.up()
        self.flush()
        events = [json.loads(payload)["n"] for _, seq, _, payload in self.bus.batches[0] if not seq]
        self.assertEqual(events, [*range(3, EVENTS_PER_LANE_MAX_COUNT + 3)])
        self.assertEqual(self.bus.sent[0], ("call-1", 1))

    def test_audio_is_given_up_for_an_event_and_events_are_kept_by_audio(self) -> None:
        self.make(publish_buffer_bytes=1100)
        lane, sink = self.open()
        lane.publish_event("started", {})
        self.publish(lane, 1, 2)
        lane.publish_event("dtmf", {"digit": "*"})
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual(sink.heard, [(1, 1, "overflow")])
        self.assertEqual(self.metrics.events_dropped, 0)
        self.bus.up()
        self.flush()
        self.assertEqual([seq for _, seq in self.bus.sent], [0, 2, 0])

    def test_an_event_that_finds_no_room_is_dropped(self) -> None:
        self.make(publish_buffer_bytes=400)
        lane, _ = self.open()
        other, _ = self.open("other")
        self.publish(other, 1)
        lane.publish_event("started", {})
        self.assertEqual(self.metrics.events_dropped, 1)
        self.assertEqual(self.delivery.held_frames, 1)
        self.assertEqual(len(self.delivery.order), 1)

    def test_fields_json_cannot_hold_change_nothing(self) -> None:
        lane, _ = self.open()
        with self.assertRaises(TypeError):
            lane.publish_event("x", {"value": b""})
        self.assertEqual((self.delivery.held_bytes, len(lane.ring)), (0, 0))


class SinkTests(DeliveryTestCase):
    def test_a_stream_that_raises_does_not_hurt_the_others(self) -> None:
        class Broken(NotingSink):
            def confirmed(self, seq: int, size_bytes: int) -> None:
                raise ZeroDivisionError

            def dropped(self, first_seq: int, last_seq: int, reason: str, size_bytes: int) -> None:
                raise ZeroDivisionError

        self.bus.up()
        bad = self.delivery.open_lane(FACTS, Broken())
        good, sink = self.open("good")
        self.publish(bad, 1, 2, 3)
        self.publish(good, 1, 2)
        self.flush()
        self.bus.refuse()
        self.bus.confirm_all()
        self.assertEqual(sink.heard, [1, 2])
        self.assertEqual((bad.pending, good.pending), (0, 0))
        self.assertEqual(self.metrics.errors["internal", "publishing"], 3)
        # Said once for a stream, or a broken one would log for every frame.
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_stream_may_answer_a_gap_with_an_event_at_once(self) -> None:
        class Telling(NotingSink):
            lane: Lane

            def dropped(self, first_seq: int, last_seq: int, reason: str, size_bytes: int) -> None:
                super().dropped(first_seq, last_seq, reason, size_bytes)
                self.lane.publish_event("gap", {"from": first_seq, "to": last_seq})

        sink = Telling()
        lane = sink.lane = self.delivery.open_lane(FACTS, sink)
        self.publish(lane, *range(1, 13))
        self.clock.advance(GAP_INTERVAL_S)
        self.bus.up()
        self.flush()
        self.assertEqual([seq for _, seq in self.bus.sent], [*range(3, 13), 0])

    def test_a_stream_may_bring_the_bus_down_while_it_is_told(self) -> None:
        bus = self.bus

        class Vandal(NotingSink):
            def confirmed(self, seq: int, size_bytes: int) -> None:
                super().confirmed(seq, size_bytes)
                if seq == 1:
                    bus.down("lost")

        bus.up()
        sink = Vandal()
        lane = self.delivery.open_lane(FACTS, sink)
        self.publish(lane, 1, 2, 3)
        self.flush()
        self.delivery.bus_confirmed(2)
        self.assertEqual(sink.heard, [1])
        bus.up()
        self.flush()
        bus.confirm_all()
        self.assertEqual(sink.heard, [1, 2, 3])

    def test_after_close_frames_are_dropped_and_what_was_handed_over_arrives(self) -> None:
        lane, sink = self.open()
        self.publish(lane, 1)
        lane.close()
        self.publish(lane, 2)
        lane.publish_event("stopped", {})
        self.assertEqual(sink.heard, [(2, 2, "closed")])
        self.bus.up()
        self.flush()
        self.bus.confirm_all()
        self.assertEqual(sink.heard, [(2, 2, "closed"), 1])
        self.assertEqual([seq for _, seq in self.bus.sent], [1, 0])
        self.assertEqual(lane.pending, 0)

    def test_a_lane_that_is_done_still_tells_what_was_dropped(self) -> None:
        lane, sink = self.open()
        lane.close()
        self.publish(lane, 1, 2)
        self.assertEqual(sink.heard, [(1, 1, "closed"), (2, 2, "closed")])
        self.assertEqual(lane.pending, 0)

    def test_close_tells_what_was_dropped_at_once(self) -> None:
        lane, sink = self.open()
        self.publish(lane, *range(1, 12))
        lane.close()
        self.assertEqual(sink.heard, [(1, 1, "overflow")])


    def test_a_lane_that_is_done_holds_its_stream_no_longer(self) -> None:
        self.bus.up()
        lane, sink = self.open()
        # As a flow does: each holds the other.
        sink.lane = lane  # type: ignore[attr-defined]
        held = weakref.ref(sink)
        self.publish(lane, 1)
        lane.close()
        del sink
        gc.collect()
        self.assertIsNotNone(held())
        gc.disable()
        self.addCleanup(gc.enable)
        self.flush()
        self.bus.confirm_all()
        self.assertIsNone(held())


class StopTests(DeliveryTestCase):
    def test_everything_is_delivered_first(self) -> None:
        self.bus.up()
        lane, sink = self.open()
        self.publish(lane, 1, 2)
        stopped = self.delivery.stop(5.0)
        self.flush()
        self.assertNoResult(stopped)
        self.assertFalse(self.bus.is_stopped)
        self.bus.confirm_all()
        self.assertEqual(self.successResultOf(stopped), 0)
        self.assertEqual(sink.heard, [1, 2])
        self.assertTrue(self.bus.is_stopped)
        self.assertEqual(self.delivery.ready, "stopped")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_with_nothing_to_deliver_it_is_at_once(self) -> None:
        self.assertEqual(self.successResultOf(self.delivery.stop(5.0)), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_the_deadline_it_says_what_is_left(self) -> None:
        self.bus.up()
        lane, _ = self.open()
        lane.publish_event("started", {})
        self.publish(lane, 1, 2, 3)
        self.flush()
        self.bus.writable = False
        self.bus.confirm(2)
        self.publish(lane, 4)
        stopped = self.delivery.stop(5.0)
        again = self.delivery.stop(99.0)
        self.clock.advance(4.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(stopped), 3)
        self.assertEqual(self.successResultOf(again), 3)
        self.assertEqual(self.successResultOf(self.delivery.stop(1.0)), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_bus_that_is_away_may_come_back_before_the_deadline(self) -> None:
        lane, sink = self.open()
        self.publish(lane, 1)
        stopped = self.delivery.stop(5.0)
        self.clock.advance(2.0)
        self.bus.up()
        self.flush()
        self.bus.confirm_all()
        self.assertEqual(self.successResultOf(stopped), 0)
        self.assertEqual(sink.heard, [1])

    def test_the_last_gap_is_told_and_what_the_stream_says_to_it_is_delivered(self) -> None:
        class Telling(NotingSink):
            lane: Lane

            def dropped(self, first_seq: int, last_seq: int, reason: str, size_bytes: int) -> None:
                super().dropped(first_seq, last_seq, reason, size_bytes)
                self.lane.publish_event("gap", {})

        self.bus.up()
        sink = Telling()
        lane = sink.lane = self.delivery.open_lane(FACTS, sink)
        self.publish(lane, 1)
        self.flush()
        self.bus.refuse()
        stopped = self.delivery.stop(5.0)
        self.assertEqual(sink.heard, [(1, 1, "refused")])
        self.flush()
        self.bus.confirm_all()
        self.assertEqual(self.successResultOf(stopped), 0)
        self.assertEqual(self.metrics.events_published, 1)

    def test_it_waits_for_the_bus_and_survives_its_failure(self) -> None:
        self.bus.stopped = Deferred()
        stopped = self.delivery.stop(5.0)
        self.assertNoResult(stopped)
        self.bus.stopped.errback(ZeroDivisionError())
        self.assertEqual(self.successResultOf(stopped), 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class LogTests(DeliveryTestCase):
    def test_a_refusal_is_logged_once_per_connection(self) -> None:
        lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        for name in ("one", "two"):
            self.bus.up()
            lane, _ = self.open(name)
            self.publish(lane, 1, 2, 3)
            self.flush()
            for _ in range(3):
                self.bus.refuse()
            self.bus.down()
        told = [line for line in lines if line.get("event") == "bus_refused"]
        self.assertEqual(len(told), 2)
        self.assertEqual({line["log_level"] for line in told}, {LogLevel.warn})


class LeftTests(DeliveryTestCase):
    """What the bus has not confirmed when the daemon ends is lost aloud."""

    def test_it_is_counted_and_logged(self) -> None:
        logged: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        self.bus.up()
        lane, _ = self.open()
        self.publish(lane, 1, 2)
        self.flush()
        self.publish(lane, 3)
        lane.publish_event("gap", {})
        stopped = self.delivery.stop(1.0)
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(stopped), 3)
        self.assertEqual(self.metrics.frames_dropped["shutdown"], 3)
        left = [event for event in logged if event.get("event") == "frames_left"]
        self.assertEqual([(event["frames"], event["log_level"]) for event in left], [(3, LogLevel.error)])


class BreakerTests(DeliveryTestCase):
    """A bus that has come back is sent a probe, and the rest when it has answered."""

    def test_one_small_batch_until_the_bus_answers(self) -> None:
        self.make(buffer_duration_ms=10_000)
        lane, _ = self.open()
        self.publish(lane, *range(1, 301))
        self.bus.up(trusted=False)
        self.flush()
        probe = len(self.bus.inflight)
        self.assertEqual(len(self.bus.batches), 1)
        self.assertLess(probe * 160, PROBE_MAX_BYTES)
        self.assertEqual(self.gauge("breaker_state"), 1)
        self.publish(lane, 301)
        self.clock.advance(0.1)
        self.assertEqual(len(self.bus.batches), 1)
        self.bus.confirm()
        self.assertEqual(self.gauge("breaker_state"), 0)
        self.flush()
        self.assertEqual([seq for _, seq in self.bus.sent], [*range(1, 302)])

    def test_a_bus_that_answers_nothing_is_given_no_more_than_the_probe(self) -> None:
        self.make(buffer_duration_ms=10_000, publish_reply_timeout_s=1.0)
        lane, _ = self.open()
        self.publish(lane, *range(1, 301))
        for attempt in range(1, 4):
            self.bus.up(trusted=False)
            self.flush()
            self.clock.advance(1.1)
            self.assertEqual(self.bus.dropped_connections, ["timeout"] * attempt)
            self.assertEqual(self.gauge("breaker_state"), 2)
            self.assertEqual(len(self.bus.batches), attempt)
        self.assertEqual(self.gauge("breaker_opens_total"), 3)

    def test_a_refusal_is_an_answer(self) -> None:
        lane, _ = self.open()
        self.publish(lane, 1)
        self.bus.up(trusted=False)
        self.flush()
        self.bus.refuse()
        self.assertEqual(self.gauge("breaker_state"), 0)


class ResendTests(DeliveryTestCase):
    """What was in flight when a connection broke may be on the bus: no gap says that it is not."""

    def test_it_is_sent_again_whatever_came_since(self) -> None:
        self.bus.up()
        lane, sink = self.open()
        self.publish(lane, 1, 2, 3)
        self.flush()
        self.bus.down()
        self.publish(lane, *range(4, 31))
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual(sink.heard, [(4, 23, "overflow")])
        self.bus.up()
        self.flush()
        self.bus.confirm_all()
        self.assertEqual(sink.confirmed_seqs, [1, 2, 3, *range(24, 31)])

    def test_the_bound_over_all_streams_holds_all_the_same(self) -> None:
        cost = 160 + QUEUED_FRAME_OVERHEAD_BYTES
        self.make(publish_buffer_bytes=3 * cost)
        self.bus.up()
        lane, sink = self.open()
        self.publish(lane, 1, 2, 3)
        self.flush()
        self.bus.down()
        self.publish(lane, 4)
        lane.publish_event("x", {})
        self.assertEqual(self.delivery.held_bytes, 3 * cost)
        self.assertEqual(self.metrics.events_dropped, 1)
        self.bus.up()
        self.flush()
        self.bus.confirm_all()
        self.assertEqual(sink.heard, [(4, 4, "overflow"), 1, 2, 3])


class SuccessionTests(DeliveryTestCase):
    """An interaction that begins anew comes onto the bus after all of what it was before."""

    def test_the_new_waits_until_the_old_is_confirmed(self) -> None:
        old, old_sink = self.open(epoch=1)
        self.publish(old, 1, 2)
        new, new_sink = self.open(epoch=2)
        self.publish(new, 1)
        other, _ = self.open("other")
        self.publish(other, 1)
        self.bus.up()
        self.flush()
        self.assertEqual(self.bus.sent, [("call-1@1", 1), ("other", 1), ("call-1@1", 2)])
        self.bus.confirm_all()
        old.publish_event("stopped", {})
        old.close()
        self.flush()
        self.assertEqual(self.bus.sent[3:], [("call-1@1", 0)])
        self.bus.down()
        self.bus.up()
        self.flush()
        self.assertEqual(self.bus.sent[4:], [("call-1@1", 0)])
        self.bus.confirm_all()
        self.flush()
        self.assertEqual(self.bus.sent[5:], [("call-1@2", 1)])
        self.assertEqual((old_sink.heard, new_sink.heard), ([1, 2], []))

    def test_one_after_the_other(self) -> None:
        lanes = [self.open(epoch=epoch)[0] for epoch in (1, 2, 3)]
        for lane in lanes:
            self.publish(lane, 1)
            lane.close()
        self.bus.up()
        for _ in lanes:
            self.flush()
            self.bus.confirm_all()
        self.assertEqual(self.bus.sent, [("call-1@1", 1), ("call-1@2", 1), ("call-1@3", 1)])
        # Nothing is remembered of them.
        fresh, _ = self.open(epoch=4)
        self.assertFalse(fresh.before is not None)

    def test_an_empty_one_between_two_does_not_let_the_last_go_first(self) -> None:
        first, _ = self.open(epoch=1)
        self.publish(first, 1)
        second, _ = self.open(epoch=2)
        second.close()
        third, _ = self.open(epoch=3)
        self.publish(third, 1)
        self.bus.up()
        self.flush()
        self.assertEqual(self.bus.sent, [("call-1@1", 1)])
        self.bus.confirm_all()
        first.close()
        self.flush()
        self.assertEqual(self.bus.sent, [("call-1@1", 1), ("call-1@3", 1)])

    def test_taking_over_again_and_again_leaves_no_trail(self) -> None:
        first, _ = self.open(epoch=1)
        self.publish(first, 1)
        first.close()
        for epoch in range(2, 5000):
            lane, _ = self.open(epoch=epoch)
            lane.close()
        last, _ = self.open(epoch=5000)
        self.publish(last, 1)
        self.assertIs(last.before, first)
        self.bus.up()
        self.flush()
        self.bus.confirm_all()
        self.flush()
        self.assertEqual(self.bus.sent, [("call-1@1", 1), ("call-1@5000", 1)])

    def test_an_empty_one_makes_room_at_once(self) -> None:
        old, _ = self.open(epoch=1)
        new, _ = self.open(epoch=2)
        self.bus.up()
        self.publish(new, 1)
        self.flush()
        self.assertEqual(self.bus.sent, [])
        old.close()
        self.flush()
        self.assertEqual(self.bus.sent, [("call-1@2", 1)])

    def test_one_whose_last_frame_is_dropped_makes_room(self) -> None:
        old, sink = self.open(epoch=1)
        self.publish(old, 1)
        new, _ = self.open(epoch=2)
        self.publish(new, 1)
        self.bus.up()
        self.flush()
        self.bus.refuse()
        old.close()
        self.assertEqual(sink.heard, [(1, 1, "refused")])
        self.flush()
        self.assertEqual(self.bus.sent[1:], [("call-1@2", 1)])

    def test_those_that_wait_are_counted_at_the_end(self) -> None:
        for epoch in (1, 2, 3):
            lane, _ = self.open(epoch=epoch)
            self.publish(lane, 1, 2)
        stopped = self.delivery.stop(1.0)
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(stopped), 6)


class WithdrawTests(DeliveryTestCase):
    """At a shutdown without the bus, what was not sent goes back to the client."""

    def test_what_is_unsent_is_forgotten_and_what_is_in_flight_is_not_sent_again(self) -> None:
        self.bus.up()
        lane, sink = self.open()
        self.publish(lane, 1, 2)
        self.flush()
        self.bus.writable = False
        self.publish(lane, 3, 4, 5)
        lane.publish_event("moved", {})
        self.assertEqual(lane.withdraw(0), (3, 480))
        self.assertEqual((lane.pending, sink.heard), (2, []))
        self.bus.down()
        self.bus.up()
        self.flush()
        self.assertEqual(self.bus.sent[2:], [("call-1", 0)])
        self.bus.confirm_all()
        self.assertEqual((self.delivery.held_bytes, self.delivery.held_frames), (0, 0))
        self.assertEqual(self.metrics.frames_dropped["returned"], 5)

    def test_what_is_in_flight_may_still_be_confirmed(self) -> None:
        self.bus.up()
        lane, sink = self.open()
        self.publish(lane, 1, 2)
        self.flush()
        self.assertEqual(lane.withdraw(0), (0, 0))
        lane.close()
        self.bus.confirm_all()
        self.assertEqual((lane.pending, sink.heard), (0, [1, 2]))
