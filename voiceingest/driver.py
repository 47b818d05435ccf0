"""One stream's four steps: feed the stream, publish, answer, re-arm its timer.

Every transport that carries a stream has one of these and nothing else that decides. The audio
path is :meth:`StreamDriver.frame`: plain calls, no Deferred, no task, no log line.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from .audio import AudioFormat
from .errors import (
    Draining,
    FlushTimeout,
    PeerError,
    RateLimited,
    TokenRefused,
    Unauthenticated,
    VoiceIngestError,
)
from .house import House, Silence
from .interfaces import Claims, IFarEnd, ILane, StreamFacts
from .stream import State, Step, Stream, TokenBucket, Wake

# Fresh tokens a stream may offer: each costs a signature check of about 50 us.
_AUTH_PER_S, _AUTH_BURST = 0.5, 5.0

# Errors of a stream that are put on the events channel: a caller that errs at full speed is one
# event a second there, not four hundred.
_ERROR_EVENTS_PER_S, _ERROR_EVENTS_BURST = 1.0, 10.0

_NORMAL = (1000, "")


class StreamDriver:
    """Drives one stream. Its sink side (``confirmed``, ``dropped``) is what the bus calls."""

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
        self._lane: ILane | None = None
        self._auths = TokenBucket(_AUTH_PER_S, _AUTH_BURST, now)
        self._error_events = TokenBucket(_ERROR_EVENTS_PER_S, _ERROR_EVENTS_BURST, now)
        self._farewell = _NORMAL
        self._verifying: Deferred[Any] | None = None
        self._why_ended = ""
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
        self._rearm()

    def start(self, tenant_id: str, interaction_id: str, audio: AudioFormat) -> None:
        """The peer wants to begin."""
        try:
            self.stream.start(tenant_id, interaction_id, audio, self._now())
            self._house.registry.admit(self, tenant_id, interaction_id)
        except VoiceIngestError as error:
            self.refuse(error)
            return
        rules = self._house.rules
        self._lane = self._house.publisher.open_lane(StreamFacts(tenant_id, interaction_id, audio), self)
        self._metrics.sessions_started += 1
        self._metrics.sessions_active += 1
        shape = {"sample_rate": audio.sample_rate, "encoding": audio.encoding}
        self._lane.publish_event("started", dict(shape))
        mode = "published" if rules.ack_published else "received"
        self._far.say(
            "started",
            interaction_id=interaction_id,
            tenant_id=tenant_id,
            **shape,
            ack_interval=rules.ack_interval,
            ack_mode=mode,
        )
        self._note("stream started", "stream_started", sample_rate=audio.sample_rate)
        self._rearm()

    def frame(self, audio: bytes) -> None:
        """One frame of audio: the straight line."""
        stream = self.stream
        try:
            seq = stream.take(len(audio), self._now())
        except PeerError as error:
            if self._farewell is _NORMAL:
                self.refuse(error)
            # Else it is we who ended it: ``stopped`` will tell the peer how far it came.
            return
        self._lane.publish(seq, int(self._wall() * 1000.0), audio)  # type: ignore[union-attr]
        metrics = self._metrics
        metrics.frames_received += 1
        metrics.bytes_received += len(audio)
        if stream.debt_s:
            self._far.pause(stream.debt_s)
        if self._acks_read and stream.received_ack_due(seq):
            metrics.acks_sent += 1
            self._far.ack(seq)

    def stop(self) -> None:
        """The peer has said its last: flush, then say ``stopped``."""
        try:
            self.stream.stop(self._now())
        except PeerError as error:
            self.refuse(error)
            return
        self._settle()
        self._rearm()

    def auth(self, token: str) -> None:
        """The peer offers a fresh token."""
        if self._verifying is not None or self._auths.take(1, self._now()) > 0.0:
            self.refuse(RateLimited())
            return
        self._verifying = self._house.authenticator.verify(token)
        self._verifying.addCallback(self._reauthenticate).addErrback(self._not_authenticated)

    def refuse(self, error: VoiceIngestError) -> None:
        """Answer what cannot be acted on; end the stream when the error says so."""
        self._tell(error)
        if error.closes:
            self._end(Step.CUT, error.code)
            self._far.close(error.close_code, error.code)
            return
        try:
            self.stream.blunder()
        except PeerError as too_many:
            self.refuse(too_many)

    def refused(self, error: VoiceIngestError) -> None:
        """The connection closes with ``error`` by itself: say it and end."""
        self._tell(error)
        self._end(Step.CUT, error.code)

    def lost(self, code: int) -> None:
        """The connection is gone."""
        if self._stands:
            self._metrics.connections[self._far.transport_name] -= 1
        self._house.deadlines.forget(self._due)
        self._end(Step.GONE, "disconnected")
        if self._verifying is not None:
            self._verifying.cancel()
        # Last: where it was the last one, a shutdown goes on from here, and ends the bus.
        self._house.registry.gone(self)
        self._note("connection closed", "connection_closed", close_code=code)
        self._far = Silence(self._far)

    # --- from the registry

    def goaway(self, after_s: float) -> None:
        """The daemon will shut down: the peer has ``after_s`` seconds to end by itself."""
        if self.stream.state is State.WAITING:
            self.refuse(Draining())
        elif self.stream.state is State.LIVE:
            self._far.say("goaway", after_ms=int(after_s * 1000))

    def finish(self) -> None:
        """The time is up: take no more, flush, then close as draining."""
        if self.stream.state is State.WAITING:
            self.refuse(Draining())
        elif self.stream.state is State.LIVE:
            self._farewell = (Draining.close_code, Draining.code)
            self._why_ended = Draining.code
            self.stop()

    def cut(self) -> None:
        """The bus did not confirm the last frames before the shutdown: say how many."""
        if self.stream.state is State.STOPPING:
            self._far.say("stopped", seq=self.stream.seq, **self.stream.ledger.summary())
        self.refuse(Draining())

    # --- from the bus

    def confirmed(self, seq: int) -> None:
        """The bus has taken ``seq``."""
        if self.stream.confirmed(seq) and self.stream.state is not State.ENDED:
            self._metrics.acks_sent += 1
            self._far.ack(seq)
        if self.stream.state is not State.LIVE:
            self._settle()

    def dropped(self, first_seq: int, last_seq: int, reason: str) -> None:
        """The frames ``first_seq..last_seq`` will never be on the bus: say so on both sides."""
        self.stream.dropped(first_seq, last_seq, reason)
        self._metrics.gaps[reason] += 1
        gap = {"from": first_seq, "to": last_seq, "reason": reason}
        if self._lane is not None:
            self._lane.publish_event("gap", gap)
        self._far.say("gap", **gap)
        if self.stream.state is not State.LIVE:
            self._settle()

    # --- the steps

    def _settle(self) -> None:
        """When the fate of every frame is known: write the stream's last event, say goodbye."""
        stream = self.stream
        if stream.ledger.pending or self._lane is None:
            return
        lane, self._lane = self._lane, None
        why = self._why_ended or "stopped"
        lane.publish_event("stopped", {"seq": stream.seq, **stream.ledger.summary(), "reason": why})
        lane.close()
        if stream.state is State.STOPPING:
            self._far.say("stopped", seq=stream.seq, **stream.ledger.summary())
            self._end(Step.FLUSHED, why)
            self._far.close(*self._farewell)

    def _end(self, step: Step, why: str) -> None:
        if self.stream.state is State.ENDED:
            return
        was_started = self.stream.state is not State.WAITING
        self.stream.end(step)
        self._why_ended = why
        if was_started:
            self._house.registry.release(self)
            # A stream that was refused its place has no lane and was never counted in.
            if self._lane is not None or step is Step.FLUSHED:
                self._metrics.sessions_active -= 1
            figures = self.stream.ledger.summary()
            self._note("stream ended", "stream_ended", reason=why, seq=self.stream.seq, **figures)
        self._settle()

    def _reauthenticate(self, claims: Claims) -> None:
        self._verifying = None
        self.stream.reauthenticate(self._house.authority(claims), self._now())
        self._far.say("authenticated", expires_in_s=round(self.stream.expires_in_s(self._now()), 3))
        self._rearm()

    def _not_authenticated(self, failure: Failure) -> None:
        self._verifying = None
        if self.stream.state is State.ENDED:
            return
        error = failure.value
        if not isinstance(error, VoiceIngestError):
            self._log.failure("a token could not be checked", failure, event="auth_failed")
        if not isinstance(error, VoiceIngestError) or isinstance(error, Unauthenticated):
            error = TokenRefused()
        self._tell(error)

    def _tell(self, error: VoiceIngestError) -> None:
        """Count an error, say it to the caller, and to whoever follows the events of the stream."""
        self._metrics.errors[error.code, self._far.transport_name] += 1
        if self._lane is not None and (error.closes or self._error_events.take(1, self._now()) == 0.0):
            self._lane.publish_event("error", {"code": error.code})
        self._far.say_error(error)

    def _note(self, text: str, event: str, **fields: Any) -> None:
        # The id is in the answer to the upgrade too: a caller can tell it, and nothing else names a call.
        far = self._far
        self._log.info(text, event=event, transport=far.transport_name, request_id=far.request_id, **fields)

    def _rearm(self) -> None:
        self._house.deadlines.wake(self._due, self.stream.next_deadline())

    def _due(self, now: float) -> float:
        try:
            wake = self.stream.wake(now)
        except FlushTimeout as error:
            self._tell(error)
            self._far.say("stopped", seq=self.stream.seq, **self.stream.ledger.summary())
            self._end(Step.CUT, error.code)
            self._far.close(error.close_code, error.code)
        except VoiceIngestError as error:
            self.refuse(error)
        else:
            if wake is Wake.AUTH_EXPIRING:
                self._far.say("auth_expiring", expires_in_s=round(self.stream.expires_in_s(now), 3))
        return self.stream.next_deadline()
