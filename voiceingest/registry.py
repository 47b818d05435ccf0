"""All live streams: who is admitted, who is here, and how they are led out at a shutdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from .errors import Draining, DuplicateInteraction, Forbidden
from .interfaces import IClock, IDelayedCall

# What a shutdown may take after its deadline, to flush what has been accepted (seconds).
FLUSH_GRACE_S = 5.0


class IStream(Protocol):
    """What the registry asks of a stream's driver."""

    def goaway(self, after_s: float) -> None:
        """Tell the peer to end within ``after_s``."""

    def finish(self) -> None:
        """Take no more, flush, close."""

    def cut(self) -> None:
        """End now, and say what is still pending."""


class Registry:
    """The connections and the streams of one process. An interaction has one stream at a time."""

    _log = Logger()

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._connected: set[IStream] = set()
        self._live: dict[str, tuple[str, IStream]] = {}
        self._names: dict[IStream, str] = {}
        self._waiting: list[Deferred[None]] = []
        self._is_drained = False
        self._timer: IDelayedCall | None = None
        self.draining = False

    def __len__(self) -> int:
        """How many streams are live."""
        return len(self._live)

    def connected(self, stream: IStream) -> None:
        """A connection stands that may become a stream."""
        self._connected.add(stream)

    def gone(self, stream: IStream) -> None:
        """A connection is gone."""
        self._connected.discard(stream)
        if self.draining and not self._connected:
            self._drained()

    def admit(self, stream: IStream, tenant_id: str, interaction_id: str) -> None:
        """Give ``stream`` the interaction.

        Raises: ``Draining``; ``DuplicateInteraction`` while the tenant has a live stream of it;
        ``Forbidden`` while another tenant has.
        """
        if self.draining:
            raise Draining
        holder = self._live.get(interaction_id)
        if holder is not None:
            raise DuplicateInteraction() if holder[0] == tenant_id else Forbidden()
        self._live[interaction_id] = (tenant_id, stream)
        self._names[stream] = interaction_id

    def release(self, stream: IStream) -> None:
        """The stream takes no more audio; its interaction may begin again."""
        interaction_id = self._names.pop(stream, None)
        if interaction_id is not None:
            del self._live[interaction_id]

    def drain(self, deadline_s: float) -> Deferred[None]:
        """Take no one new, tell everybody, and fire when all are gone or the deadline has passed."""
        done: Deferred[None] = Deferred()
        if self._is_drained:
            done.callback(None)
            return done
        self._waiting.append(done)
        if self.draining:
            return done
        self.draining = True
        self._log.info(
            "draining", event="drain_started", connections=len(self._connected), deadline_s=deadline_s
        )
        self._each(lambda stream: stream.goaway(deadline_s))
        if not self._connected:
            self._drained()
        else:
            self._timer = self._clock.callLater(deadline_s, self._time_is_up)
        return done

    def _time_is_up(self) -> None:
        self._timer = self._clock.callLater(FLUSH_GRACE_S, self._cut)
        self._each(lambda stream: stream.finish())

    def _cut(self) -> None:
        self._log.warn("streams left at the deadline", event="drain_cut", connections=len(self._connected))
        self._each(lambda stream: stream.cut())
        self._drained()

    def _each(self, call: Callable[[IStream], None]) -> None:
        for stream in list(self._connected):
            try:
                call(stream)
            except Exception:
                # One that fails must not keep the others from being led out.
                self._log.failure("a stream failed at the shutdown", event="stream_failed")

    def _drained(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._is_drained = True
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
