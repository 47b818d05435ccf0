"""A stream and its lane, from its first event to its last; it may outlive the connection it came by.

It is what the bus tells (``IStreamSink``) and what the registry keeps. A connection drives it; when
that is lost the flow waits, and when the client comes back another connection drives it on.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from .entrance import Entry
from .errors import Draining, FlushTimeout, Replaced, VoiceIngestError
from .house import House, Silence
from .interfaces import IFarEnd, IFlowConnection, StreamFacts
from .stream import State, Step, Stream, Wake

_NORMAL = (1000, "")


class Flow:
    """See the head of this file. ``far`` is the peer, or silence while there is none."""

    __slots__ = (
        "__weakref__", "_connection", "_farewell", "_house", "_is_settled", "_metrics", "_window_s", "far",
        "is_willing", "lane", "stream", "why_ended",
    )

    _log = Logger()

    def __init__(self, stream: Stream, entry: Entry, facts: StreamFacts, house: House) -> None:
        """Begin ``stream``, as ``entry`` has decided; ``attach`` it to its connection next."""
        self.stream, self.why_ended, self.is_willing = stream, "", False
        self.far: IFarEnd
        self._house = house
        self._metrics = house.metrics
        self._window_s = house.rules.resume_window_s
        self._farewell = _NORMAL
        self._connection: IFlowConnection | None = None
        names = (facts.tenant_id, facts.interaction_id)
        stream.start(*names, facts.audio, house.clock.seconds(), epoch=entry.epoch, next_seq=entry.next_seq)
        # Before the end of the one it replaces: its first frame then waits for the other's last.
        self.lane = house.publisher.open_lane(facts, self)
        self._is_settled = False
        house.registry.admit(self, *names)
        if entry.replaces is not None:
            entry.replaces.replaced()
        self._metrics.sessions_started += 1
        self._metrics.sessions_active += 1
        shape = {"sample_rate": facts.audio.sample_rate, "encoding": facts.audio.encoding}
        place = {"next_seq": entry.next_seq} if entry.is_resumed else {}
        self.lane.publish_event("resumed" if entry.is_resumed else "started", {**place, **shape})

    # --- its connection

    def attach(self, connection: IFlowConnection, far: IFarEnd) -> None:
        """From now on it is driven by this connection."""
        self._connection, self.far = connection, far
        self.rearm()

    def resume(self, connection: IFlowConnection, far: IFarEnd, newcomer: Stream) -> None:
        """Its client has come back, at a connection with the credential of ``newcomer``."""
        before = self._connection
        self._connection = None
        if before is not None:
            before.fenced()
        self.stream.resume(newcomer, self._house.clock.seconds())
        self._house.registry.attached(self)
        self.lane.publish_event("resumed", {"next_seq": self.stream.seq + 1})
        self.attach(connection, far)
        self.note("stream resumed", "stream_resumed", seq=self.stream.seq)

    def skip_to(self, from_seq: int) -> None:
        """Declare lost what the client has no more."""
        missing = self.stream.seq + 1
        if from_seq > missing and self.stream.state is State.LIVE:
            self.stream.skip_to(from_seq)
            self._say_gap(missing, from_seq - 1, "client")

    def part(self, error: VoiceIngestError | None) -> None:
        """Its connection ends, with ``error`` or by itself."""
        state = self.stream.state
        can_come_back = self._window_s > 0 and (error is None or error.resumable)
        if can_come_back and state is State.LIVE and not self._house.registry.draining:
            self._detach()
        elif error is not None and not can_come_back:
            self.end(Step.CUT, error.code)
        elif state is State.LIVE:
            self.end(Step.GONE, Draining.code if can_come_back else "disconnected")
        # Else it waits already, or is flushed without anybody listening.

    def left(self) -> None:
        """Its connection is gone."""
        self.part(None)
        self._connection, self.far = None, Silence(self.far)
        if self.stream.state is State.ENDED:
            self._house.deadlines.forget(self._due)

    def _detach(self) -> None:
        self.stream.detach(self._house.clock.seconds())
        self._house.registry.detached(self)
        self.lane.publish_event("detached", {"seq": self.stream.seq})
        self.note("stream detached", "stream_detached", seq=self.stream.seq)
        self.rearm()

    # --- the registry's side

    @property
    def epoch(self) -> int:
        """Which numbering of its interaction it is."""
        return self.stream.epoch

    @property
    def is_movable(self) -> bool:
        """Whether its client would rather be moved early than stay until the deadline."""
        return self.is_willing and self._window_s > 0 and self.stream.state is State.LIVE

    def replaced(self) -> None:
        """A newer connection has begun the interaction anew."""
        self._metrics.streams_replaced += 1
        if self._connection is not None:
            self._connection.refuse(Replaced())
        else:
            self.end(Step.CUT, Replaced.code)

    def goaway(self, after_s: float) -> None:
        """The daemon will shut down: the peer has ``after_s`` seconds to end by itself."""
        if self.stream.state is State.LIVE:
            self.far.say("goaway", after_ms=int(after_s * 1000), **self._house.token(self.stream))

    def finish(self) -> None:
        """The time is up: take no more, flush, then close as draining."""
        if self.stream.state in (State.LIVE, State.DETACHED):
            self._farewell = (Draining.close_code, Draining.code)
            self.why_ended = Draining.code
            self.stop()

    def cut(self) -> None:
        """The bus did not confirm the last frames in time: say how many, give back the unsent."""
        stream, settled_seq = self.stream, self.stream.ledger.settled_seq
        if stream.state is State.STOPPING:
            # Where nobody hears of it nothing is given back: the bus may still take it.
            if self._is_moving and self._connection is not None:
                count, size_bytes = self.lane.withdraw(settled_seq)
                stream.ledger.drop(count, size_bytes >> 1, "returned")
            self._say_last(settled_seq + 1)
            # Now: by the refusal below, one that was stopped by its client would count as moved.
            self.end(Step.CUT, self.why_ended or FlushTimeout.code)
        if self._connection is not None:
            self._connection.refuse(Draining())
        self.end(Step.CUT, Draining.code)

    def hang_up(self, error: VoiceIngestError | None) -> None:
        """End it (``ILiveStream``): flushed and stopped, or refused."""
        if error is not None:
            if self._connection is not None:
                self._connection.refuse(error)
            # Nobody may come back to it, whatever the error allows elsewhere.
            self.end(Step.CUT, error.code)
        elif self.stream.state in (State.LIVE, State.DETACHED):
            self.why_ended = "ended"
            self.stop()

    def give_up(self) -> None:
        """Nobody comes back any more."""
        self.end(Step.GONE, "disconnected")

    # --- the bus' side

    def confirmed(self, seq: int, size_bytes: int) -> None:
        """The bus has taken ``seq``."""
        self._metrics.samples_published += size_bytes >> 1
        stream = self.stream
        if stream.confirmed(seq, size_bytes) and stream.state in (State.LIVE, State.STOPPING):
            self._metrics.acks_sent += 1
            self.far.ack(seq)
        if stream.state is not State.LIVE:
            self.settle()

    def dropped(self, first_seq: int, last_seq: int, reason: str, size_bytes: int) -> None:
        """The frames ``first_seq..last_seq`` will never be on the bus: say so on both sides."""
        self._metrics.samples_dropped[reason] += size_bytes >> 1
        self.stream.dropped(first_seq, last_seq, reason, size_bytes)
        self._say_gap(first_seq, last_seq, reason)
        if self.stream.state is not State.LIVE:
            self.settle()

    # --- the end

    def stop(self) -> None:
        """No more will come: flush. Raises: the ``PeerError`` where it has been said already."""
        self.stream.stop(self._house.clock.seconds())
        self.settle()
        self.rearm()

    def settle(self) -> None:
        """When the fate of every frame is known: write the stream's last event, say goodbye."""
        stream = self.stream
        is_over = stream.state in (State.STOPPING, State.ENDED)
        if not is_over or stream.ledger.pending or self._is_settled:
            return
        self._is_settled = True
        why = self.why_ended or "stopped"
        last = {"seq": stream.seq, **stream.ledger.summary()}
        if self._is_moving:
            self._metrics.streams_moved += 1
            self.lane.publish_event("moved", last)
        else:
            self.lane.publish_event("stopped", {**last, "reason": why})
            if self._window_s and stream.flushed:
                name = (stream.tenant_id, stream.interaction_id, stream.epoch)
                self._house.registry.remember(name, last, self._window_s)
        self.lane.close()
        if stream.flushed:
            self._say_last(stream.seq + 1)
            self.end(Step.FLUSHED, why)
            self.far.close(*self._farewell)

    def end(self, step: Step, why: str) -> None:
        """It takes nothing more; what was taken is still delivered."""
        if self.stream.state is State.ENDED:
            return
        self.stream.end(step)
        self.why_ended = why
        self._house.registry.release(self)
        self._metrics.sessions_active -= 1
        self._house.records.ended(self, "moved" if self._is_moving else why, self.stream.seq)
        figures = self.stream.ledger.summary()
        self.note("stream ended", "stream_ended", reason=why, seq=self.stream.seq, **figures)
        self.settle()

    # --- time

    def rearm(self) -> None:
        """Be woken when the stream wants to be."""
        self._house.deadlines.wake(self._due, self.stream.next_deadline())

    def _due(self, now: float) -> float:
        try:
            wake = self.stream.wake(now)
        except FlushTimeout as error:
            self._not_flushed(error)
        except VoiceIngestError as error:
            if self._connection is not None:
                self._connection.refuse(error)
        else:
            if wake is Wake.AUTH_EXPIRING:
                self.far.say("auth_expiring", expires_in_s=round(self.stream.expires_in_s(now), 3))
            elif wake is Wake.GIVEN_UP:
                self.give_up()
        return self.stream.next_deadline()

    def _not_flushed(self, error: FlushTimeout) -> None:
        if self._is_moving:
            self.cut()
            return
        self.tell(error)
        self._say_last(self.stream.seq + 1)
        self.end(Step.CUT, error.code)
        self.far.close(error.close_code, error.code)

    # --- what is said

    def say_started(self, is_resumed: bool) -> None:
        """Answer the ``start``; who was away hears which frames have been published since."""
        self.far.say("started", **self._house.greeting(self.stream), resumed=is_resumed)
        if (seq := self.stream.late_ack()) is not None:
            self._metrics.acks_sent += 1
            self.far.ack(seq)

    def tell(self, error: VoiceIngestError, *, on_bus: bool = True) -> None:
        """Count an error, say it to the caller, and to whoever follows the events of the stream."""
        self._metrics.errors[error.code, self.far.transport_name] += 1
        if on_bus and not self._is_settled:
            self.lane.publish_event("error", {"code": error.code})
        self.far.say_error(error)

    def note(self, text: str, event: str, **fields: Any) -> None:
        """Log it. The id is in the answer to the upgrade too, and nothing else names a call."""
        far = self.far
        self._log.info(text, event=event, transport=far.transport_name, request_id=far.request_id, **fields)

    def _say_gap(self, first_seq: int, last_seq: int, reason: str) -> None:
        self._metrics.gaps[reason] += 1
        gap = {"from": first_seq, "to": last_seq, "reason": reason}
        self.lane.publish_event("gap", gap)
        self.far.say("gap", **gap)

    def _say_last(self, next_seq: int) -> None:
        """The account, and for a stream that another process is to go on with, from where."""
        last = {"seq": self.stream.seq, **self.stream.ledger.summary()}
        if self._is_moving:
            self.far.say("moved", next_seq=next_seq, **self._house.token(self.stream, next_seq), **last)
        else:
            self.far.say("stopped", **last)

    @property
    def _is_moving(self) -> bool:
        return self.why_ended == Draining.code and self._window_s > 0
