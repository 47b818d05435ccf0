"""Two processes, one store, any order: streams begin, move, end; users end sessions; the store goes away.

Whatever the order: what is over stays over, no stream has two rows, and in the end every stream that lives
has an active row at its process, and nothing else is active.
"""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.case import SynchronousTestCase
from tests.support.session_world import FakeBus, FakeStream, SessionWorld
from voiceingest.errors import IllegalMove, StoreUnavailable, TooManySessions
from voiceingest.session_interfaces import Session, SessionEdit
from voiceingest.stream import SessionState

PENDING, ACTIVE = SessionState.PENDING, SessionState.ACTIVE
TTL_S = 300.0


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what waits for nothing: store and cache are in memory."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


@dataclass
class Client:
    """Who speaks, and where; ``leftover`` is a stream that waits for it at the process it has left."""

    name: str
    epoch: int
    world: SessionWorld
    stream: FakeStream
    leftover: tuple[SessionWorld, FakeStream] | None = None
    is_moving: bool = False

    @property
    def is_live(self) -> bool:
        """Whether its stream has not ended."""
        return self.world.live._by_stream.get(self.stream) is not None


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        wire: list[FakeBus] = []
        one = SessionWorld(node="one", bus=FakeBus(wire), session_ttl_s=TTL_S)
        shared = {"store": one.store, "cache": one.cache, "clock": one.clock}
        self.store, self.clock = one.store, one.clock
        self.worlds = [one, SessionWorld(node="two", bus=FakeBus(wire), session_ttl_s=TTL_S, **shared)]
        self.wire = list(wire)
        self.clients: dict[str, Client] = {}
        self.epoch = 0
        self.over: dict[str, Session] = {}

    def write(self, world: SessionWorld) -> None:
        """What the writer's task does, as long as the store answers."""
        writer = world.writer
        while writer._waiting:
            one = next(iter(writer._waiting))
            ending = one.ending
            try:
                run(world.rows.write(one))
            except StoreUnavailable:
                break
            if one.ending is ending:
                del writer._waiting[one]

    # --- clients

    @rule(where=st.integers(0, 1), number=st.integers(0, 3))
    def begin(self, where: int, number: int) -> None:
        """A client begins, or begins anew: by a name of its own, or by that of a session."""
        waiting = [row.session_id for row in self.store.rows.values() if row.transport == "rest"]
        named = [*("a", "b"), *waiting, *(name for name in self.clients if name.startswith("ses_"))]
        name = named[number % len(named)]
        world = self.worlds[where]
        before = self.clients.get(name)
        if before is not None:
            for place, stream in filter(None, ((before.world, before.stream), before.leftover)):
                if place is world:
                    place.end(stream, "replaced")
        left = None if before is None or before.world is world or not before.is_live else before
        self.epoch += 1
        stream = world.begin(name, epoch=self.epoch)
        leftover = (left.world, left.stream) if left is not None else None
        if before is not None and before.leftover is not None and before.leftover[0] is not world:
            before.leftover[0].end(before.leftover[1], "disconnected")
        self.clients[name] = Client(name, self.epoch, world, stream, leftover)

    @precondition(lambda self: any(one.is_live for one in self.clients.values()))
    @rule(number=st.integers(0, 5), is_known=st.booleans())
    def resume_elsewhere(self, number: int, is_known: bool) -> None:
        """It comes to the other process, where the first knows of it (a shutdown) or not."""
        live = [one for one in self.clients.values() if one.is_live]
        one = live[number % len(live)]
        if one.leftover is not None:
            one.leftover[0].end(one.leftover[1], "disconnected")
            one.leftover = None
        before = (one.world, one.stream)
        if is_known:
            one.world.end(one.stream, "moved", 3)
        else:
            one.leftover = before
        one.world = next(world for world in self.worlds if world is not one.world)
        one.stream = one.world.begin(one.name, epoch=one.epoch)

    @precondition(lambda self: any(one.leftover for one in self.clients.values()))
    @rule()
    def give_up(self) -> None:
        one = next(one for one in self.clients.values() if one.leftover)
        assert one.leftover is not None
        one.leftover[0].end(one.leftover[1], "disconnected")
        one.leftover = None

    @rule(number=st.integers(0, 5), reason=st.sampled_from(["stopped", "disconnected", "internal"]))
    def end(self, number: int, reason: str) -> None:
        live = [one for one in self.clients.values() if one.is_live]
        if live:
            one = live[number % len(live)]
            one.world.end(one.stream, reason, 5)

    # --- users

    @rule(where=st.integers(0, 1))
    def create(self, where: int) -> None:
        world = self.worlds[where]
        with contextlib.suppress(StoreUnavailable, TooManySessions):
            run(world.sessions.create(world.caller, "rest", SessionEdit(), None))

    @rule(where=st.integers(0, 1), number=st.integers(0, 9), is_end=st.booleans())
    def ask(self, where: int, number: int, is_end: bool) -> None:
        rows = [row for row in self.store.rows.values() if row.status.is_open]
        if not rows:
            return
        name, sessions = rows[number % len(rows)].session_id, self.worlds[where].sessions
        with contextlib.suppress(StoreUnavailable, IllegalMove):
            if is_end:
                run(sessions.end("usr_1", name))
            else:
                run(sessions.edit("usr_1", name, SessionEdit(metadata={"n": number})))

    # --- what else happens

    @rule(where=st.integers(0, 1))
    def work(self, where: int) -> None:
        self.write(self.worlds[where])

    @rule(seconds=st.sampled_from([5.0, 5.0, 35.0, 130.0]), who=st.sampled_from([(0,), (1,), (0, 1)]))
    def time(self, seconds: float, who: tuple[int, ...]) -> None:
        self.clock.advance(seconds)
        for number in who:
            run(self.worlds[number].sweeper.sweep())

    @rule(is_away=st.booleans(), forgets=st.booleans())
    def store_changes(self, is_away: bool, forgets: bool) -> None:
        self.store.is_away, self.store.forgets_to_answer = is_away, forgets

    @rule(is_deaf=st.booleans())
    def bus_changes(self, is_deaf: bool) -> None:
        self.wire[0].wire[:] = [] if is_deaf else self.wire

    # --- what holds

    @invariant()
    def what_is_over_stays_over(self) -> None:
        for name, before in self.over.items():
            row = self.store.rows[name]
            assert (row.status, row.reason, row.ended_at) == (before.status, before.reason, before.ended_at)
        self.over = {name: row for name, row in self.store.rows.items() if not row.status.is_open}

    def calm(self) -> None:
        """All that waits is written, and everybody looks around a few times."""
        self.store.is_away = self.store.forgets_to_answer = False
        for _ in range(5):
            self.clock.advance(5.0)
            for world in self.worlds:
                self.write(world)
                run(world.sweeper.sweep())
                self.write(world)
            self.what_is_over_stays_over()

    def teardown(self) -> None:
        while any(one.leftover for one in self.clients.values()):
            self.give_up()
        self.calm()
        live = [one for one in self.clients.values() if one.is_live]
        for one in live:
            row = one.world.row(one.stream)
            assert row.status is ACTIVE, row
            assert (row.interaction_id, row.epoch, row.node) == (one.name, one.epoch, one.world.archive.node)
        for one in live:
            one.world.end(one.stream, "stopped", 9)
        self.calm()
        for _ in range(40):
            self.clock.advance(TTL_S / 20)
            for world in self.worlds:
                run(world.sweeper.sweep())
        left = [row for row in self.store.rows.values() if row.status.is_open]
        assert left == [], left


class MachineTests(SynchronousTestCase):
    def test_whatever_the_order(self) -> None:
        run_state_machine_as_test(
            Machine, settings=settings(deadline=None, max_examples=30, stateful_step_count=30)
        )
