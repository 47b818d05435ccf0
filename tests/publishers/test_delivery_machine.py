"""The delivery by chance: streams, an unsteady bus and a clock, checked after every step.

``DeliveryMachine`` does what streams and buses do, in any order. After each step the ledger of every
stream must hold, nothing may be confirmed twice or out of order, and all bounds must hold. At the end
the bus comes back for good: everything that was not dropped has to arrive.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.publishers.fakes import FakeBus, NotingSink, SteadyClock, make_settings
from tests.support.case import SynchronousTestCase
from voiceingest.audio import AudioFormat
from voiceingest.interfaces import StreamFacts
from voiceingest.limits import COALESCE_S, QUEUED_FRAME_OVERHEAD_BYTES
from voiceingest.metrics import Metrics
from voiceingest.publishers.delivery import Delivery
from voiceingest.publishers.gap_reports import GAP_INTERVAL_S
from voiceingest.publishers.lane import EVENTS_PER_LANE_MAX_COUNT, Lane

BUFFER_S = 0.05
LANE_BYTES = int(16000 * BUFFER_S)
ALL_BYTES = 12_000
WINDOW_BYTES = 2_500
LARGEST_BYTES = 1_200
REPLY_TIMEOUT_S = 1.0
LANES_MAX = 5


class Caller(NotingSink):
    """One stream: numbers its frames and events, and answers gaps with an event."""

    def __init__(self, delivery: Delivery, name: str, epoch: int) -> None:
        super().__init__()
        self.name = f"{name}@{epoch}"
        self.call, self.epoch = name, epoch
        self.seq = 0
        self.events = 0
        # What was handed over, in order: a seq, or ("event", number).
        self.said: list[Any] = []
        self.closed = False
        self.lane: Lane = delivery.open_lane(StreamFacts("acme", name, AudioFormat(8000), epoch), self)

    def frame(self, size_bytes: int) -> None:
        self.seq += 1
        if not self.closed:
            self.said.append(self.seq)
        self.lane.publish(self.seq, self.seq, bytes(size_bytes))

    def event(self) -> None:
        self.events += 1
        self.said.append(("event", self.events))
        self.lane.publish_event("x", {"n": self.events})

    def dropped(self, first_seq: int, last_seq: int, reason: str, size_bytes: int) -> None:
        super().dropped(first_seq, last_seq, reason, size_bytes)
        self.event()


class DeliveryMachine(RuleBasedStateMachine):
    """See the head of this file."""

    @initialize()
    def begin(self) -> None:
        self.clock = SteadyClock()
        self.bus = FakeBus()
        self.metrics = Metrics()
        config = make_settings(
            buffer_duration_ms=int(BUFFER_S * 1000),
            publish_buffer_bytes=ALL_BYTES,
            publish_inflight_bytes=WINDOW_BYTES,
            publish_reply_timeout_s=REPLY_TIMEOUT_S,
        )
        self.delivery = Delivery(self.bus, config, self.clock, lambda: 1.0, self.metrics)
        self.delivery.start()
        self.callers: list[Caller] = []
        self.connections: list[int] = [0]

    # --- what streams do

    @rule()
    @precondition(lambda self: len(self.callers) < LANES_MAX)
    def open(self) -> None:
        self.callers.append(Caller(self.delivery, str(len(self.callers)), 1))

    @rule(data=st.data())
    @precondition(lambda self: self.callers and len(self.callers) < LANES_MAX)
    def begin_anew(self, data: st.DataObject) -> None:
        """A newer connection takes the interaction over: the old stream ends, its frames do not."""
        before = data.draw(st.sampled_from(self.callers), label="caller")
        epoch = max(one.epoch for one in self.callers if one.call == before.call) + 1
        for one in self.callers:
            if one.call == before.call and not one.closed:
                one.closed = True
                one.lane.close()
        self.callers.append(Caller(self.delivery, before.call, epoch))

    @rule(data=st.data(), sizes=st.lists(st.sampled_from([0, 2, 160, 160, 320, LARGEST_BYTES]), max_size=8))
    @precondition(lambda self: self.callers)
    def publish(self, data: st.DataObject, sizes: list[int]) -> None:
        caller = data.draw(st.sampled_from(self.callers), label="caller")
        for size_bytes in sizes:
            caller.frame(size_bytes)

    @rule(data=st.data())
    @precondition(lambda self: self.callers)
    def say(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.callers), label="caller").event()

    @rule(data=st.data())
    @precondition(lambda self: len(self.callers) > 2)
    def close(self, data: st.DataObject) -> None:
        caller = data.draw(st.sampled_from(self.callers), label="caller")
        if caller.closed:
            return
        caller.closed = True
        caller.lane.close()

    # --- what the bus and the time do

    @rule(seconds=st.sampled_from([COALESCE_S, COALESCE_S, 0.01, BUFFER_S, GAP_INTERVAL_S, REPLY_TIMEOUT_S]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(trusted=st.booleans())
    def up(self, trusted: bool) -> None:
        if not self.bus.is_up:
            self.connections.append(len(self.bus.batches))
            self.bus.up(trusted)

    @rule()
    def down(self) -> None:
        self.bus.down("lost")

    @rule(writable=st.booleans())
    @precondition(lambda self: self.bus.is_up)
    def turn(self, writable: bool) -> None:
        was, self.bus.writable = self.bus.writable, writable
        if writable and not was:
            self.delivery.bus_writable()

    @rule(data=st.data())
    @precondition(lambda self: self.bus.inflight)
    def confirm(self, data: st.DataObject) -> None:
        self.bus.confirm(data.draw(st.integers(1, len(self.bus.inflight)), label="count"))

    @rule()
    @precondition(lambda self: self.bus.inflight)
    def refuse(self) -> None:
        self.bus.refuse()

    # --- what must hold

    @invariant()
    def the_ledger_of_every_stream_holds(self) -> None:
        for caller in self.callers:
            told = caller.confirmed_seqs + caller.dropped_seqs
            assert len(set(told)) == len(told), "told twice of a frame"
            assert len(told) + caller.lane.pending == caller.seq
            assert caller.confirmed_seqs == sorted(caller.confirmed_seqs)

    @invariant()
    def the_figures_are_those_of_the_frames_held(self) -> None:
        delivery = self.delivery
        inflight = [frame for _, frame in delivery._inflight]
        held = inflight + [frame for caller in self.callers for frame in caller.lane.ring]
        assert delivery.held_frames == len(held)
        assert delivery.held_bytes == cost(held)
        assert delivery._inflight_bytes == cost(inflight)
        assert [payload for *_, payload in self.bus.inflight] == [payload for _, _, payload, _ in inflight]
        for caller in self.callers:
            lane = caller.lane
            audio = [frame for frame in lane.ring if frame[0]]
            assert lane.unsent_audio == len(audio)
            audio += [frame for owner, frame in delivery._inflight if owner is lane and frame[0]]
            assert lane.audio_bytes == sum(len(frame[2]) for frame in audio)
            assert lane.pending == len(audio) + lane._gapped

    @invariant()
    def every_bound_holds(self) -> None:
        delivery = self.delivery
        assert delivery.held_bytes <= ALL_BYTES
        assert delivery._inflight_bytes < WINDOW_BYTES + LARGEST_BYTES + QUEUED_FRAME_OVERHEAD_BYTES
        waiting = {caller.lane for caller in self.callers if caller.lane.ring and caller.lane.before is None}
        assert set(delivery.order) == waiting
        assert len(self.clock.getDelayedCalls()) <= 3
        for caller in self.callers:
            # Events in flight may come back on top of those that wait.
            assert len(caller.lane.ring) - caller.lane.unsent_audio <= EVENTS_PER_LANE_MAX_COUNT + 12

    @invariant()
    def nothing_old_comes_after_something_new(self) -> None:
        newest: dict[str, int] = defaultdict(int)
        for batch in self.bus.batches:
            for name, *_ in batch:
                call, _, epoch = name.partition("@")
                assert int(epoch) >= newest[call], "an old numbering after a new one"
                newest[call] = int(epoch)

    @invariant()
    def what_was_in_flight_is_never_dropped_as_overflow(self) -> None:
        sent = set(self.bus.sent)
        for caller in self.callers:
            dropped = [one for one in caller.heard if not isinstance(one, int)]
            for first, last, reason in dropped:
                if reason == "overflow":
                    assert not sent & {(caller.name, seq) for seq in range(first, last + 1)}

    @invariant()
    def each_connection_carries_each_stream_in_order(self) -> None:
        for first, end in zip(self.connections, [*self.connections[1:], None], strict=True):
            carried: dict[str, list[Any]] = defaultdict(list)
            for batch in self.bus.batches[first:end]:
                for name, seq, _, payload in batch:
                    carried[name].append(seq or ("event", json.loads(payload)["n"]))
            for caller in self.callers:
                places = {what: place for place, what in enumerate(caller.said)}
                order = [places[what] for what in carried[caller.name]]
                assert order == sorted(set(order)), "repeated or out of order on one connection"

    def teardown(self) -> None:
        """The bus comes back for good: nothing may be left, and nothing missing."""
        if not hasattr(self, "bus"):
            return
        self.up(False)
        self.turn(True)
        for caller in self.callers:
            # An interaction's next numbering waits for the end of this one.
            caller.closed = True
            caller.lane.close()
        for _ in range(1000):
            self.clock.advance(COALESCE_S)
            if not self.bus.inflight:
                break
            self.bus.confirm_all()
        self.clock.advance(GAP_INTERVAL_S)
        # The event that answers a last gap.
        self.clock.advance(COALESCE_S)
        if self.bus.inflight:
            self.bus.confirm_all()
        self.the_ledger_of_every_stream_holds()
        self.each_connection_carries_each_stream_in_order()
        for caller in self.callers:
            assert caller.lane.pending == 0
            assert sorted(caller.confirmed_seqs + caller.dropped_seqs) == [*range(1, caller.seq + 1)]
        assert (self.delivery.held_bytes, self.delivery.held_frames) == (0, 0)
        assert self.metrics.frames_published == sum(len(caller.confirmed_seqs) for caller in self.callers)
        assert sum(self.metrics.frames_dropped.values()) == sum(len(one.dropped_seqs) for one in self.callers)
        said = sum(caller.events for caller in self.callers)
        assert self.metrics.events_published + self.metrics.events_dropped == said
        assert self.metrics.errors.total() == 0


def cost(frames: list[Any]) -> int:
    return sum(len(frame[2]) + QUEUED_FRAME_OVERHEAD_BYTES for frame in frames)


class MachineTests(SynchronousTestCase):
    def test_anything_may_happen(self) -> None:
        run_state_machine_as_test(
            DeliveryMachine,
            settings=settings(
                max_examples=150, stateful_step_count=40, deadline=None, report_multiple_bugs=False
            ),
        )
