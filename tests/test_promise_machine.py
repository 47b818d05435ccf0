"""The whole of the promise by chance: clients, streams, the real delivery, and a bus that comes and goes.

Outages, closes, resumes, take-overs, refusals and time in any order. After every step the account of
every stream holds, in frames and in samples; what is on the bus is in order, an old numbering never
after a new one. At the end the bus comes back: every frame that was taken is on it, or was declared.
"""

from __future__ import annotations

import dataclasses
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

from tests.publishers.fakes import FakeBus, SteadyClock, make_settings
from tests.support.case import SynchronousTestCase
from tests.support.world import AUDIO, FRAME, Far, World
from voiceingest.driver import StreamDriver
from voiceingest.flow import Flow
from voiceingest.limits import COALESCE_S
from voiceingest.publishers.delivery import Delivery
from voiceingest.publishers.gap_reports import GAP_INTERVAL_S
from voiceingest.registry import FLUSH_GRACE_S
from voiceingest.stream import State, Wish

WINDOW_S = 2.0
SAMPLES = len(FRAME) // 2


class Client:
    """Knows its token and its newest connection."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.driver: StreamDriver | None = None
        self.far: Far
        self.token = ""


class PromiseMachine(RuleBasedStateMachine):
    """See the head of this file."""

    @initialize(drains=st.booleans())
    def begin(self, drains: bool) -> None:
        self.drains = drains
        clock = SteadyClock()
        self.world = World(clock=clock, resume_window_s=WINDOW_S, ack_interval=1, idle_timeout_s=0.0)
        self.bus = FakeBus()
        config = make_settings(
            buffer_duration_ms=100, publish_buffer_bytes=60_000, publish_inflight_bytes=8_000
        )
        self.delivery = Delivery(self.bus, config, clock, self.world.wall, self.world.metrics)
        self.delivery.start()
        self.world.house = dataclasses.replace(self.world.house, publisher=self.delivery)
        self.clients: list[Client] = []
        self.flows: list[Flow] = []
        self.connections = [0]

    # --- clients

    def _connect(self, client: Client, wish: Wish) -> None:
        driver, far = self.world.connect()
        driver.start("acme", client.name, AUDIO, wish)
        if driver._flow is None:
            driver.lost(1000)
            return
        client.driver, client.far = driver, far
        client.token = far.last("started")["resume_token"]
        if driver._flow not in self.flows:
            self.flows.append(driver._flow)

    @rule(name=st.sampled_from("ab"))
    def start(self, name: str) -> None:
        """A call begins, or is taken over."""
        client = Client(name)
        self.clients.append(client)
        self._connect(client, Wish())

    @rule(data=st.data(), ahead=st.integers(0, 2))
    @precondition(lambda self: self.clients)
    def resume(self, data: st.DataObject, ahead: int) -> None:
        client = data.draw(st.sampled_from(self.clients), label="client")
        seq = client.driver.stream.seq if client.driver is not None else 0
        self._connect(client, Wish(client.token, from_seq=seq + ahead + 1 if ahead else 1))

    @rule(data=st.data(), count=st.integers(1, 6))
    @precondition(lambda self: any(client.driver for client in self.clients))
    def send(self, data: st.DataObject, count: int) -> None:
        driver = data.draw(st.sampled_from([one.driver for one in self.clients if one.driver]), label="who")
        for _ in range(count):
            driver.frame(FRAME)

    @rule(data=st.data(), stop=st.booleans())
    @precondition(lambda self: any(client.driver for client in self.clients))
    def leave(self, data: st.DataObject, stop: bool) -> None:
        client = data.draw(st.sampled_from([one for one in self.clients if one.driver]), label="client")
        assert client.driver is not None
        if stop:
            client.driver.stop()
        else:
            client.driver.lost(1006)
            client.driver = None

    # --- the bus and time

    @rule(trusted=st.booleans())
    def up(self, trusted: bool) -> None:
        if not self.bus.is_up:
            self.connections.append(len(self.bus.batches))
            self.bus.up(trusted)

    @rule()
    def down(self) -> None:
        self.bus.down("lost")

    @rule(data=st.data())
    @precondition(lambda self: self.bus.inflight)
    def confirm(self, data: st.DataObject) -> None:
        self.bus.confirm(data.draw(st.integers(1, len(self.bus.inflight)), label="count"))

    @rule()
    @precondition(lambda self: self.bus.inflight)
    def refuse(self) -> None:
        self.bus.refuse()

    @rule(seconds=st.sampled_from([COALESCE_S, COALESCE_S, 0.05, GAP_INTERVAL_S, WINDOW_S]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    # --- what must hold

    @invariant()
    def the_account_of_every_stream_holds(self) -> None:
        for flow in self.flows:
            account = flow.stream.ledger
            assert account.received == account.published + account.dropped + account.pending
            assert account.pending == flow.lane.pending  # type: ignore[attr-defined]
            assert account.samples == SAMPLES * account.received
            assert account.samples_published == SAMPLES * account.published
            assert account.samples_dropped == SAMPLES * account.dropped
            assert account.samples_pending == SAMPLES * account.pending
        metrics = self.world.metrics
        assert metrics.frames_received == sum(flow.stream.ledger.received for flow in self.flows)
        assert metrics.frames_published == sum(flow.stream.ledger.published for flow in self.flows)
        assert metrics.samples_published == SAMPLES * metrics.frames_published
        assert metrics.errors["internal", "publishing"] == 0

    @invariant()
    def the_bus_has_every_numbering_in_order(self) -> None:
        newest: dict[str, int] = defaultdict(int)
        for first, end in zip(self.connections, [*self.connections[1:], None], strict=True):
            carried: dict[str, list[int]] = defaultdict(list)
            for batch in self.bus.batches[first:end]:
                for name, seq, _, _ in batch:
                    call, _, epoch = name.partition("@")
                    assert int(epoch) >= newest[call], "an old numbering after a new one"
                    newest[call] = int(epoch)
                    if seq:
                        carried[name].append(seq)
            for seqs in carried.values():
                assert seqs == sorted(set(seqs)), "twice, or out of order, on one connection"

    @invariant()
    def an_ack_is_never_ahead_of_the_bus(self) -> None:
        for client in self.clients:
            if client.driver is not None and client.driver._flow is not None:
                stream = client.driver.stream
                assert all(seq <= stream.ledger.settled_seq for seq in client.far.acks)
                assert client.far.acks == sorted(set(client.far.acks))

    @invariant()
    def an_interaction_has_one_stream(self) -> None:
        for name in "ab":
            streams = [flow.stream for flow in self.flows if flow.stream.interaction_id == name]
            assert sum(stream.state in (State.LIVE, State.DETACHED) for stream in streams) <= 1

    def teardown(self) -> None:
        """The end: a shutdown without the bus, or everybody leaves and the bus comes back."""
        if not hasattr(self, "world"):
            return
        if self.drains:
            self._shut_down()
        else:
            self._come_to_rest()

    def _shut_down(self) -> None:
        """Whoever is moved is told of a frame before which the fate of all is known."""
        self.bus.down("lost")
        self.world.registry.drain(1.0)
        self.world.clock.advance(1.0 + FLUSH_GRACE_S + 1.0)
        said = self._events()
        for client in self.clients:
            if client.driver is None or "moved" not in client.far.words():
                continue
            moved, stream = client.far.last("moved"), client.driver.stream
            name = f"{stream.interaction_id}@{stream.epoch}"
            heard = {seq for one, seq in self.bus.taken if one == name and seq}
            for gap in said[name]["gap"]:
                heard |= set(range(gap["from"], gap["to"] + 1))
            assert set(range(1, moved["next_seq"])) <= heard, "not on the bus, nor declared, nor returned"
            assert moved["received"] == moved["published"] + moved["dropped"] + moved["pending"]
        assert self.world.registry.draining
        stopped = self.delivery.stop(1.0)
        self.world.clock.advance(1.0)
        assert stopped.called

    def _come_to_rest(self) -> None:
        """Nothing is pending, nothing is missing, nothing is left."""
        for client in self.clients:
            if client.driver is not None:
                client.driver.lost(1006)
        self.up(False)
        for _ in range(400):
            self.world.clock.advance(0.05)
            if self.bus.inflight:
                self.bus.confirm_all()
        self.the_account_of_every_stream_holds()
        self.the_bus_has_every_numbering_in_order()
        said = self._events()
        for flow in self.flows:
            stream = flow.stream
            name = f"{stream.interaction_id}@{stream.epoch}"
            on_bus = {seq for one, seq in self.bus.sent if one == name and seq}
            declared: set[int] = set()
            for gap in said[name]["gap"]:
                span = set(range(gap["from"], gap["to"] + 1))
                assert not span & declared, "declared twice"
                # What was refused has been sent; of the rest nothing may have been.
                assert gap["reason"] == "refused" or not span & on_bus, "declared, and yet on the bus"
                declared |= span
            assert on_bus | declared == set(range(1, stream.seq + 1)), "neither on the bus nor declared"
            assert len(said[name]["stopped"]) == 1
            assert said[name]["stopped"][0]["pending"] == stream.ledger.pending == 0
        assert (self.delivery.held_frames, self.delivery.held_bytes, len(self.world.registry)) == (0, 0, 0)
        assert self.world.metrics.sessions_active == 0

    def _events(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Events that were sent, or wait for the bus, by stream and kind; one sent twice counts once."""
        found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        sent = [(seq, payload) for batch in self.bus.batches for _, seq, _, payload in batch]
        waiting = [frame[::2] for flow in self.flows for frame in flow.lane.ring]  # type: ignore[attr-defined]
        for seq, payload in [*sent, *waiting]:
            if not seq:
                event = json.loads(payload)
                kind = found[f"{event['interaction_id']}@{event['epoch']}"][event["event"]]
                if event not in kind:
                    kind.append(event)
        return found


class MachineTests(SynchronousTestCase):
    def test_whatever_happens_the_promise_is_kept(self) -> None:
        run_state_machine_as_test(
            PromiseMachine, settings=settings(max_examples=100, stateful_step_count=40, deadline=None)
        )
