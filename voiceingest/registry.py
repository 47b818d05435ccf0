"""All live streams: who is admitted, who is here, who may come back, how they are led out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from .errors import Draining, Forbidden
from .interfaces import IClock, IDelayedCall
from .stream import Ended, Farewells

# What a shutdown may take after its deadline, to flush what has been accepted (seconds).
FLUSH_GRACE_S: Final = 5.0

# Streams that are moved at a shutdown each second: their clients come to another process at this rate.
MOVES_PER_S: Final = 100.0

# From ``goaway`` to the end of a stream that is moved, in seconds: what is on its way arrives.
MOVE_NOTICE_S: Final = 0.5

# Streams that wait for their client at once; each is some 9 KiB. Past it the oldest is given up.
DETACHED_MAX_COUNT: Final = 10_000

One = TypeVar("One")


class IConnection(Protocol):
    """What the registry asks of a connection at a shutdown."""

    @property
    def is_movable(self) -> bool:
        """Whether its client would rather be moved early."""

    def goaway(self, after_s: float) -> None:
        """Tell the peer to end within ``after_s``."""

    def finish(self) -> None:
        """Take no more, flush, close."""

    def cut(self) -> None:
        """End now, and say what is still pending."""


class ILive(Protocol):
    """What the registry asks of a stream."""

    @property
    def epoch(self) -> int:
        """Which numbering of its interaction it is."""

    def replaced(self) -> None:
        """A newer connection has begun the interaction anew."""

    def finish(self) -> None:
        """Take no more, flush."""

    def give_up(self) -> None:
        """Nobody comes back any more."""


class Registry:
    """The connections and the streams of one process. An interaction has one stream at a time."""

    _log = Logger()

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._connected: set[IConnection] = set()
        self._live: dict[str, tuple[str, ILive]] = {}
        # The interaction of each, and when its client came, for the last time.
        self._names: dict[ILive, tuple[str, float]] = {}
        # In the order in which they were lost.
        self._detached: dict[ILive, None] = {}
        self._waiting: list[Deferred[None]] = []
        self._is_drained = False
        self._calls: list[IDelayedCall] = []
        self._epoch = 0
        self._farewells = Farewells()
        self._ended = Ended()
        self.draining = False

    def __len__(self) -> int:
        """How many streams are live, those without a connection included."""
        return len(self._live)

    @property
    def detached_count(self) -> int:
        """How many streams wait for their client."""
        return len(self._detached)

    def connected(self, connection: IConnection) -> None:
        """A connection stands that may become a stream."""
        self._connected.add(connection)

    def gone(self, connection: IConnection) -> None:
        """A connection is gone."""
        self._connected.discard(connection)
        if self.draining and not self._connected:
            self._drained()

    # --- who has an interaction

    def holder(self, tenant_id: str, interaction_id: str) -> ILive | None:
        """The stream that has the interaction.

        Raises: ``Draining``; ``Forbidden`` while another tenant has it.
        """
        if self.draining:
            raise Draining
        found = self._live.get(interaction_id)
        if found is None:
            return None
        if found[0] != tenant_id:
            raise Forbidden
        return found[1]

    def admit(self, stream: ILive, tenant_id: str, interaction_id: str) -> None:
        """Give ``stream`` the interaction; who had it has it no more."""
        before = self._live.get(interaction_id)
        if before is not None:
            self.release(before[1])
        self._live[interaction_id] = (tenant_id, stream)
        self._names[stream] = interaction_id, self._clock.seconds()

    def release(self, stream: ILive) -> None:
        """The stream takes no more audio; its interaction may begin again."""
        self._detached.pop(stream, None)
        found = self._names.pop(stream, None)
        if found is not None:
            interaction_id, came_at = found
            tenant_id, _ = self._live.pop(interaction_id)
            self._ended.remember((tenant_id, interaction_id, stream.epoch), came_at)

    def next_epoch(self, wall_ms: int, after: int = 0) -> int:
        """A number for a new numbering: the time, and larger than every one before."""
        self._epoch = max(wall_ms, self._epoch + 1, after + 1)
        return self._epoch

    def note_epoch(self, epoch: int) -> None:
        """An epoch another process gave: what begins here is to be newer."""
        self._epoch = max(self._epoch, epoch)

    def attached(self, stream: ILive) -> None:
        """The client of a stream has come back."""
        self._detached.pop(stream, None)
        self._names[stream] = self._names[stream][0], self._clock.seconds()

    def detached(self, stream: ILive) -> None:
        """A stream has lost its connection and waits for its client."""
        self._detached[stream] = None
        if len(self._detached) > DETACHED_MAX_COUNT:
            next(iter(self._detached)).give_up()

    def remember(self, name: tuple[str, str, int], last: dict[str, Any], window_s: float) -> None:
        """Keep the last word of a stream (tenant, interaction, epoch) that was stopped."""
        self._farewells.remember(name, last, window_s, self._clock.seconds())

    def recall(self, name: tuple[str, str, int]) -> dict[str, Any] | None:
        """The last word of a stream, where it was stopped not long ago."""
        return self._farewells.recall(name, self._clock.seconds())

    def has_ended(self, name: tuple[str, str, int], token_age_s: float) -> bool:
        """Whether a stream has ended that came here after a token of that age was issued elsewhere."""
        return self._ended.knows(name, self._clock.seconds() - token_age_s)

    # --- the end of all

    def drain(self, deadline_s: float) -> Deferred[None]:
        """Take no one new, tell everybody, and fire when all are gone or the deadline has passed."""
        done: Deferred[None] = Deferred()
        if self._is_drained:
            done.callback(None)
            return done
        self._waiting.append(done)
        if not self.draining:
            self.draining = True
            self._begin_drain(deadline_s)
        return done

    def _begin_drain(self, deadline_s: float) -> None:
        self._log.info(
            "draining",
            event="drain_started",
            connections=len(self._connected),
            detached=len(self._detached),
            deadline_s=deadline_s,
        )
        self._each(list(self._detached), lambda stream: stream.finish())
        movable = [one for one in self._connected if one.is_movable]
        others = [one for one in self._connected if not one.is_movable]
        self._each(others, lambda connection: connection.goaway(deadline_s))
        # Spread over half of the time at the most, so that the last has the other half to flush.
        step_s = min(1.0 / MOVES_PER_S, deadline_s / 2 / max(1, len(movable)))
        notice_s = min(MOVE_NOTICE_S, deadline_s / 2)
        for number, connection in enumerate(movable):
            self._calls.append(self._clock.callLater(step_s * number, self._move, connection, notice_s))
        if not self._connected:
            self._drained()
        else:
            self._calls.append(self._clock.callLater(deadline_s, self._time_is_up))

    def _move(self, connection: IConnection, notice_s: float) -> None:
        if connection in self._connected:
            self._each([connection], lambda one: one.goaway(notice_s))
            self._calls.append(self._clock.callLater(notice_s, self._finish, connection))

    def _finish(self, connection: IConnection) -> None:
        if connection in self._connected:
            self._each([connection], lambda one: one.finish())

    def _time_is_up(self) -> None:
        self._calls.append(self._clock.callLater(FLUSH_GRACE_S, self._cut))
        self._each(list(self._connected), lambda connection: connection.finish())

    def _cut(self) -> None:
        self._log.warn("streams left at the deadline", event="drain_cut", connections=len(self._connected))
        self._each(list(self._connected), lambda connection: connection.cut())
        self._drained()

    def _each(self, ones: list[One], call: Callable[[One], None]) -> None:
        for one in ones:
            try:
                call(one)
            except Exception:
                # One that fails must not keep the others from being led out.
                self._log.failure("a stream failed at the shutdown", event="stream_failed")

    def _drained(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            if call.active():
                call.cancel()
        self._is_drained = True
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
