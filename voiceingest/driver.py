"""One connection's four steps: feed the stream, publish, answer, re-arm its timer.

Every transport that carries a stream has one of these and nothing else that decides. The audio
path is :meth:`StreamDriver.frame`: plain calls, no Deferred, no task, no log line. What the stream
is beyond its connection is in ``flow``.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from .audio import AudioFormat
from .entrance import enter
from .errors import Draining, PeerError, Replaced, VoiceIngestError
from .flow import Flow
from .house import House, Silence
from .interfaces import Claims, IFarEnd, ILane, StreamFacts
from .renewal import Renewal
from .stream import NO_WISH, State, Step, Stream, TokenBucket, Wish

# Errors of a stream that are put on the events channel: a caller that errs at full speed is one
# event a second there, not four hundred.
_ERROR_EVENTS_PER_S, _ERROR_EVENTS_BURST = 1.0, 10.0

_OVER = (State.ENDED, State.DETACHED)


class StreamDriver:
    """Drives one stream, from the side of its caller."""

    _log = Logger()

    def __init__(self, far: IFarEnd, claims: Claims, house: House) -> None:
        self._far: IFarEnd = far
        self._house = house
        self._now = house.clock.seconds
        self._wall = house.wall_clock
        self._metrics = house.metrics
        now = self._now()
        self.stream = Stream(house.rules, house.authority(claims), now)
        self._acks_read = not house.rules.ack_published
        self._flow: Flow | None = None
        self._lane: ILane | None = None
        self._renewal: Renewal | None = None  # most streams end before their token does
        self._error_events = TokenBucket(_ERROR_EVENTS_PER_S, _ERROR_EVENTS_BURST, now)
        self._stands = False

    # --- from the transport

    def opened(self) -> None:
        """The connection stands."""
        name = self._far.transport_name
        self._stands = True
        self._metrics.connections[name] += 1
        self._metrics.connections_opened[name] += 1
        self._house.registry.connected(self)
        if self._house.registry.draining:
            # Its token was being checked when the drain began.
            self.refuse(Draining())
        self._house.deadlines.wake(self._due, self.stream.next_deadline())

    def start(self, tenant_id: str, interaction_id: str, audio: AudioFormat, wish: Wish = NO_WISH) -> None:
        """The peer wants to begin, or to go on with what another connection began."""
        try:
            self.stream.may_start(tenant_id, interaction_id)
            entry = enter(self._house, tenant_id, interaction_id, audio, wish)
        except VoiceIngestError as error:
            self.refuse(error)
            return
        self._house.deadlines.forget(self._due)
        if entry.last is not None:
            # It was stopped, and the connection that was to say so was lost.
            self._far.say("stopped", **entry.last)
            self._part(None)
            self._far.close(1000, "")
            return
        if entry.adopts is not None:
            flow = entry.adopts
            flow.resume(self, self._far, self.stream)
        else:
            facts = StreamFacts(tenant_id, interaction_id, audio, entry.epoch)
            flow = Flow(self.stream, entry, facts, self._house)
            flow.attach(self, self._far)
            self._house.records.began(flow, facts, self.stream.subject, self._far.transport_name)
            rate = audio.sample_rate
            flow.note("stream started", "stream_started", sample_rate=rate, resumed=entry.is_resumed)
        flow.is_willing = wish.resumable
        self._flow, self.stream, self._lane = flow, flow.stream, flow.lane
        if entry.is_resumed:
            flow.skip_to(wish.from_seq)
        flow.say_started(entry.is_resumed)
        flow.settle()

    def frame(self, audio: bytes) -> None:
        """One frame of audio: the straight line."""
        stream = self.stream
        try:
            seq = stream.take(len(audio), self._now())
        except PeerError as error:
            if stream.state in _OVER or (self._flow is not None and self._flow.why_ended):
                # It is we who ended it: the peer is told how far it came, or that it was replaced.
                self._metrics.frames_fenced += 1
            else:
                self.refuse(error)
            return
        self._lane.publish(seq, int(self._wall() * 1000.0), audio)  # type: ignore[union-attr]
        metrics = self._metrics
        metrics.frames_received += 1
        metrics.bytes_received += len(audio)
        metrics.samples_received += len(audio) >> 1
        if stream.debt_s:
            self._far.pause(stream.debt_s)
        if self._acks_read and stream.received_ack_due(seq):
            metrics.acks_sent += 1
            self._far.ack(seq)

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        """Put an event of the stream on the events channel; before its start there is none to put it to."""
        if self._lane is not None:
            self._lane.publish_event(event, fields)

    def stop(self) -> None:
        """The peer has said its last: flush, then say ``stopped``."""
        try:
            if self._flow is None:
                self.stream.stop(self._now())
            else:
                self._flow.stop()
        except PeerError as error:
            self.refuse(error)

    def auth(self, token: str) -> None:
        """The peer offers a fresh token."""
        if self._renewal is None:
            self._renewal = Renewal(self._house, self._renewed, self._tell, self._is_over, self._now())
        try:
            self._renewal.offer(token)
        except PeerError as error:
            self.refuse(error)

    def refuse(self, error: VoiceIngestError) -> None:
        """Answer what cannot be acted on; end the stream when the error says so."""
        self._tell(error)
        if error.closes:
            self._part(error)
            self._far.close(error.close_code, error.code)
            return
        try:
            self.stream.blunder()
        except PeerError as too_many:
            self.refuse(too_many)

    def refused(self, error: VoiceIngestError) -> None:
        """The connection closes with ``error`` by itself: say it and end."""
        self._tell(error)
        self._part(error)

    def lost(self, code: int) -> None:
        """The connection is gone."""
        far, self._far = self._far, Silence(self._far)
        if self._stands:
            self._metrics.connections[far.transport_name] -= 1
        self._house.deadlines.forget(self._due)
        if self._flow is not None:
            self._flow.left()
        else:
            self._part(None)
        if self._renewal is not None:
            self._renewal.cancel()
        # Last: where it was the last one, a shutdown goes on from here, and ends the bus.
        self._house.registry.gone(self)
        self._log.info(
            "connection closed",
            event="connection_closed",
            transport=far.transport_name,
            request_id=far.request_id,
            close_code=code,
        )

    # --- from the registry

    @property
    def is_movable(self) -> bool:
        """Whether the client would rather be moved early than stay until the deadline."""
        return self._flow is not None and self._flow.is_movable

    def goaway(self, after_s: float) -> None:
        """The daemon will shut down: the peer has ``after_s`` seconds to end by itself."""
        if self._flow is not None:
            self._flow.goaway(after_s)
        else:
            self._leave()

    def finish(self) -> None:
        """The time is up: take no more, flush, then close as draining."""
        if self._flow is not None:
            self._flow.finish()
        else:
            self._leave()

    def cut(self) -> None:
        """End now, whatever is still pending."""
        if self._flow is not None:
            self._flow.cut()
        else:
            self._leave()

    def _leave(self) -> None:
        if self.stream.state is State.WAITING:
            self.refuse(Draining())

    # --- from the flow

    def fenced(self) -> None:
        """The stream goes on at another connection: close, and take nothing more."""
        self._flow = self._lane = None
        self.stream = self.stream.husk()
        self.refuse(Replaced())

    # --- the steps

    def _part(self, error: VoiceIngestError | None) -> None:
        if self._flow is not None:
            self._flow.part(error)
        elif self.stream.state is not State.ENDED:
            self.stream.end(Step.GONE if error is None else Step.CUT)

    def _renewed(self, claims: Claims) -> None:
        self.stream.reauthenticate(self._house.authority(claims), self._now())
        self._far.say("authenticated", expires_in_s=round(self.stream.expires_in_s(self._now()), 3))
        if self._flow is not None:
            self._flow.rearm()
        else:
            self._house.deadlines.wake(self._due, self.stream.next_deadline())

    def _is_over(self) -> bool:
        return self.stream.state in _OVER

    def _tell(self, error: VoiceIngestError) -> None:
        if self._flow is not None:
            on_bus = error.closes or self._error_events.spare(1, self._now())
            self._flow.tell(error, on_bus=on_bus)
            return
        self._metrics.errors[error.code, self._far.transport_name] += 1
        self._far.say_error(error)

    def _due(self, now: float) -> float:
        """Before the start: no ``start`` has come in time, or the credential lapses."""
        try:
            self.stream.wake(now)
        except VoiceIngestError as error:
            self.refuse(error)
        return self.stream.next_deadline()
