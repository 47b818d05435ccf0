"""One stream's share of the delivery: its unsent frames, its bounds, its ledger.

A lane and its delivery are two halves of one thing: the lane keeps the shared figures (bytes held,
lanes that have something to send) by itself, since a frame is to cost few calls.

The ledger, in frames, as the sink sees it at any time:
``handed over = confirmed + dropped + pending``. A frame that was dropped and has not been reported
yet counts as pending, so a stream whose ``pending`` is 0 has heard everything.

An interaction that begins anew has a new lane, and that one waits until the lane before it is empty:
nothing of the old numbering comes onto the bus after something of the new.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final
from weakref import ProxyType, proxy

from ..interfaces import IStreamSink, StreamFacts
from ..limits import QUEUED_FRAME_OVERHEAD_BYTES
from ..wire.envelope import encode_event

if TYPE_CHECKING:
    from .delivery import Delivery

# What is counted for a frame held, beside its payload.
OVERHEAD_BYTES: Final = QUEUED_FRAME_OVERHEAD_BYTES

# (seq, timestamp_ms, payload, monotonic second it was handed over); seq 0 is an event.
Frame = tuple[int, int, bytes, float]

# Unsent events of one stream. Few in a call's life; more can only come from a long outage, when
# every quarter of a second brings a gap: the oldest are then dropped and counted.
EVENTS_PER_LANE_MAX_COUNT: Final = 64

# Ranges of dropped frames kept before they are reported without waiting for the interval.
GAPS_PER_LANE_MAX_COUNT: Final = 64

# Later than every seq (limits.SEQ_MAX_COUNT).
_NOTHING: Final = 2**62


class Lane:
    """The way of one stream to the bus (``ILane``). Made by ``Delivery.open_lane``."""

    __slots__ = (
        "_audio_max_bytes", "_closed", "_delivery", "_events_held", "_gapped", "_gaps", "_sent_seq",
        "_sink", "_sink_failed", "_withdrawn_after", "audio_bytes", "before", "facts", "pending",
        "prepared", "ring", "successor", "unsent_audio",
    )

    def __init__(
        self, delivery: Delivery, prepared: Any, facts: StreamFacts, sink: IStreamSink, audio_max_bytes: int
    ) -> None:
        self._delivery = delivery
        self.facts = facts
        self._sink = sink
        self._sink_failed = False
        self._closed = False
        # Unconfirmed audio, in flight included: the "circular buffer" of the stream.
        self.audio_bytes = 0
        self._audio_max_bytes = audio_max_bytes
        self.unsent_audio = 0
        self._events_held = 0
        # The last frame that was in flight when a connection broke: the bus may have it.
        self._sent_seq = 0
        self._withdrawn_after = _NOTHING
        # Dropped and not yet reported, in that order: (first, last, reason, bytes).
        self._gaps: list[tuple[int, int, str, int]] = []
        self._gapped = 0
        # Of the same interaction: the lane it waits for, and the one that waits for it.
        self.before: Lane | None = None
        self.successor: Lane | None = None
        self.pending = 0
        self.prepared = prepared
        self.ring: deque[Frame] = deque()

    # --- ILane: what the stream calls

    def publish(self, seq: int, timestamp_ms: int, audio: bytes) -> None:
        """Hand over one frame. Never blocks, never raises; the sink hears what became of it."""
        self.pending += 1
        self.audio_bytes += len(audio)
        frame = (seq, timestamp_ms, audio, self._delivery.seconds())
        if self._closed:
            self.lose(frame, "closed")
            self.report_gaps()
        else:
            self.unsent_audio += 1
            self._queue(frame)

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        """Put an event of this stream on the events channel, in order with its frames.

        Raises: ``TypeError``, ``ValueError`` for fields that JSON cannot hold.
        """
        delivery, facts = self._delivery, self.facts
        if self.is_done:
            # Its successor may be on the bus by now.
            delivery.metrics.events_dropped += 1
            return
        timestamp_ms = delivery.wall_ms()
        fields = {"epoch": facts.epoch, **fields}
        payload = encode_event(event, facts.tenant_id, facts.interaction_id, timestamp_ms, fields)
        ring = self.ring
        if len(ring) - self.unsent_audio >= EVENTS_PER_LANE_MAX_COUNT:
            self._drop_event(next(place for place, frame in enumerate(ring) if not frame[0]))
        self._events_held += 1
        self._queue((0, timestamp_ms, payload, delivery.seconds()))

    def close(self) -> None:
        """No more frames will come: one that does is dropped. Events are taken until it is empty."""
        self._closed = True
        self.report_gaps()
        self.look_done()

    def withdraw(self, after_seq: int) -> tuple[int, int]:
        """Take back the unsent frames after ``after_seq``: their client sends them to another process.

        Returns how many frames and bytes. Those in flight stay pending and are not sent again.
        """
        self._withdrawn_after = after_seq
        count = returned_bytes = 0
        for place in range(len(self.ring) - 1, -1, -1):
            if self.ring[place][0] > after_seq:
                returned_bytes += len(self._remove(place)[2])
                count += 1
        self.audio_bytes -= returned_bytes
        self.unsent_audio -= count
        self.pending -= count
        self._delivery.returned(count, returned_bytes)
        if not self.ring:
            self._delivery.order.pop(self, None)
        return count, returned_bytes

    # --- what the delivery calls

    @property
    def is_done(self) -> bool:
        """Whether it is closed and nothing of it is held any more."""
        return self._closed and not (self.pending or self._events_held)

    def look_done(self) -> None:
        """Leave, when that was the last of it."""
        if self.is_done:
            if not isinstance(self._sink, ProxyType):
                # The stream has heard all; the two would hold each other until garbage is collected.
                self._sink = proxy(self._sink)
            self._delivery.lane_done(self)

    def event_settled(self) -> None:
        """The bus has taken or refused an event."""
        self._events_held -= 1
        if self._closed:
            self.look_done()

    def put_back(self, frame: Frame) -> None:
        """A frame in flight whose fate is unknown is the next one to send again."""
        self.ring.appendleft(frame)
        seq = frame[0]
        if not seq:
            return
        if seq > self._withdrawn_after:
            self._remove(0)
            self.audio_bytes -= len(frame[2])
            self.pending -= 1
            self._delivery.returned(1, len(frame[2]))
            self.look_done()
            return
        self.unsent_audio += 1
        self._sent_seq = max(self._sent_seq, seq)

    def confirm(self, seq: int, size_bytes: int) -> None:
        """The bus has taken the audio frame ``seq``."""
        self.audio_bytes -= size_bytes
        if self._gaps:
            self.report_gaps()
        self.pending -= 1
        try:
            self._sink.confirmed(seq, size_bytes)
        except Exception:
            self._blame_sink()
        if self._closed:
            self.look_done()

    def lose(self, frame: Frame, reason: str) -> None:
        """Account for an audio frame that will never be on the bus and is held no more."""
        seq, _, audio, _ = frame
        self.audio_bytes -= len(audio)
        self._delivery.metrics.frames_dropped[reason] += 1
        gaps = self._gaps
        if gaps and gaps[-1][1] + 1 == seq and gaps[-1][2] == reason:
            gaps[-1] = (gaps[-1][0], seq, reason, gaps[-1][3] + len(audio))
        else:
            gaps.append((seq, seq, reason, len(audio)))
        self._gapped += 1
        self._delivery.gaps.owe(self)

    def report_gaps(self) -> None:
        """Tell the sink about every frame dropped since the last time, as ranges."""
        # The sink may publish, and so drop, from inside the call: take the list first.
        gaps, self._gaps = self._gaps, []
        for first_seq, last_seq, reason, size_bytes in gaps:
            count = last_seq - first_seq + 1
            self._gapped -= count
            self.pending -= count
            try:
                self._sink.dropped(first_seq, last_seq, reason, size_bytes)
            except Exception:
                self._blame_sink()
        if self._closed:
            self.look_done()

    # --- bounds

    def _queue(self, frame: Frame) -> None:
        """Take a frame in, and stand in the delivery's queue unless nothing of it could be kept."""
        delivery, ring = self._delivery, self.ring
        ring.append(frame)
        delivery.held_bytes += len(frame[2]) + OVERHEAD_BYTES
        delivery.held_frames += 1
        if self.audio_bytes > self._audio_max_bytes or delivery.held_bytes > delivery.held_max_bytes:
            self._make_room()
            if not ring:
                delivery.order.pop(self, None)
                return
        if self.before is not None:
            return
        delivery.order[self] = None
        if delivery.flush_call is None:
            delivery.arm_flush()

    def _make_room(self) -> None:
        """Drop the oldest unsent audio of this stream until its bounds hold.

        What was in flight when a connection broke is not dropped: the bus may have taken it, and a gap
        would say that it has not.
        Under the stream's own bounds one frame is always kept, however large it is. Under the bound
        over all streams nothing is: the stream that pushes past it pays, with the new frame last.
        """
        delivery, ring = self._delivery, self.ring
        if self.before is None and delivery.held_bytes <= delivery.held_max_bytes:
            # A turn of the reactor may be long, in a storm of callers: the flush has not had its chance.
            delivery.order[self] = None
            delivery.flush_now()
        while self.unsent_audio and (
            delivery.held_bytes > delivery.held_max_bytes
            or (self.pending - self._gapped > 1 and self._holds_too_much())
        ):
            # Events stand before the oldest audio, but never more than their own bound.
            sent_seq = self._sent_seq
            place = next((place for place, frame in enumerate(ring) if frame[0] > sent_seq), None)
            if place is None:
                break
            self.unsent_audio -= 1
            self.lose(self._remove(place), "overflow")
        if delivery.held_bytes > delivery.held_max_bytes and ring and not ring[-1][0]:
            # No audio is left to give: what pushed past the bound is an event, the newest frame.
            self._drop_event(len(ring) - 1)
        if len(self._gaps) > GAPS_PER_LANE_MAX_COUNT:
            self.report_gaps()

    def _holds_too_much(self) -> bool:
        """Whether the oldest unsent audio has had its time.

        By its length while the bus is down. By its age while it is up: a caller that catches up
        hands over ten seconds of audio at once, and a bus that takes them need lose none.
        """
        if self.audio_bytes <= self._audio_max_bytes:
            return False
        delivery = self._delivery
        oldest = next(frame for frame in self.ring if frame[0])
        return not delivery.is_up or delivery.seconds() - oldest[3] > delivery.buffer_s

    def _drop_event(self, place: int) -> None:
        self._remove(place)
        self._events_held -= 1
        self._delivery.metrics.events_dropped += 1

    def _remove(self, place: int) -> Frame:
        frame = self.ring[place]
        del self.ring[place]
        self._delivery.held_bytes -= len(frame[2]) + OVERHEAD_BYTES
        self._delivery.held_frames -= 1
        return frame

    def _blame_sink(self) -> None:
        """Count a sink that raises; log it once, or a broken one would log for every frame."""
        self._delivery.sink_failed(first=not self._sink_failed)
        self._sink_failed = True
