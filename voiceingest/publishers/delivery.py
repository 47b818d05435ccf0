"""Bounded, coalesced, ordered, at-least-once delivery over any bus.

Every stream has a lane; the lanes that have something unsent stand in one queue and are served in
turns, a frame each. A flush sends all it may, at most COALESCE_S after the first frame. What was
sent stays in ``_inflight`` until the bus confirms it, in order. When the connection goes, all of it
goes back to the front of its lanes and is sent again with the same seq: nothing accepted is lost
unless it overflowed, and only frames in flight can be on the bus twice. To a bus that has come back
the circuit breaker lets one small batch through first.

Bounds: audio per lane (``buffer_duration_ms``: how long it may wait, how much is kept while the bus
is down), bytes over all lanes (``publish_buffer_bytes``), bytes in flight (``publish_inflight_bytes``,
exceeded by one frame at most). A lane stands in the queue at most once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..interfaces import IBus, IClock, IDelayedCall, IStreamSink, StreamFacts
from ..limits import COALESCE_S
from .breaker import Breaker, BreakerState, BreakerStep
from .closing import Closing
from .gap_reports import GapReports
from .lane import OVERHEAD_BYTES, Frame, Lane
from .reply_watch import ReplyWatch
from .succession import Succession, with_successors

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..metrics import Metrics

# Payload of one write. Twice the transport's high-water mark, so it is full after each; larger blocks
# come from mmap, and their page faults cost more than the write they save.
WRITE_MAX_BYTES: Final = 128 * 1024

# Payload of the probe that a bus is sent first: one write, a fraction of what may be in flight.
PROBE_MAX_BYTES: Final = 16 * 1024


class Delivery:
    """Provides ``IPublisher`` to the streams and ``IBusListener`` to the bus."""

    _log = Logger()

    def __init__(
        self,
        bus: IBus,
        settings: Settings,
        clock: IClock,
        wall_clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._wall_clock = wall_clock
        self.buffer_s = settings.buffer_duration_ms / 1000
        self._inflight_max_bytes = settings.publish_inflight_bytes
        self._inflight: deque[tuple[Lane, Frame]] = deque()
        self._inflight_bytes = 0
        self.is_up = False
        self._breaker = Breaker()
        self._down_reason = "connecting"
        timeout_s = settings.publish_reply_timeout_s
        self._replies = ReplyWatch(clock, timeout_s, lambda: bus.drop_connection("timeout"))
        self._succession = Succession()
        self.gaps = GapReports(clock)
        self._refusals_logged: set[str] = set()
        self._closing = Closing(bus, clock, self._let_go)
        self.metrics = metrics
        self.seconds = clock.seconds
        self.held_bytes = 0
        self.held_max_bytes = settings.publish_buffer_bytes
        self.held_frames = 0
        self.order: OrderedDict[Lane, None] = OrderedDict()
        self.flush_call: IDelayedCall | None = None
        metrics.read_gauge("queue_frames", lambda: self.held_frames - len(self._inflight))
        metrics.read_gauge("queue_bytes", lambda: self.held_bytes)
        metrics.read_gauge("inflight_bytes", lambda: self._inflight_bytes)
        metrics.read_gauge("breaker_state", lambda: self._breaker.state)

    # --- IPublisher

    def open_lane(self, facts: StreamFacts, sink: IStreamSink) -> Lane:
        """Open the way for one stream; it begins where the lane before it of the interaction ends."""
        audio_max_bytes = int(facts.audio.bytes_per_s * self.buffer_s)
        lane = Lane(self, self._bus.prepare(facts), facts, sink, audio_max_bytes)
        self._succession.stand(lane)
        return lane

    @property
    def ready(self) -> str | None:
        """``None`` when the bus takes frames, else the reason why not."""
        return None if self.is_up else self._down_reason

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._bus.start(self)

    def stop(self, deadline_s: float) -> Deferred[int]:
        """Deliver what is pending, for ``deadline_s`` at most, then close the bus.

        Fires with the number of audio frames the bus has not confirmed.
        """
        done = self._closing.begin(deadline_s)
        self._finish_if_empty()
        return done

    # --- what the lanes call

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._wall_clock() * 1000)

    def lane_done(self, lane: Lane) -> None:
        """``lane`` is closed and empty: the next one of its interaction may begin, if its turn has come."""
        successor = self._succession.leave(lane)
        if successor is not None and successor.ring:
            self.order[successor] = None
            self.arm_flush()

    def returned(self, count: int, size_bytes: int) -> None:
        """Frames were given back to their client, at a shutdown."""
        self.metrics.frames_dropped["returned"] += count
        self.metrics.samples_dropped["returned"] += size_bytes >> 1

    def sink_failed(self, first: bool) -> None:
        """A stream raised while it was told about its frames; called from the ``except``."""
        self.metrics.errors["internal", "publishing"] += 1
        if first:
            self._log.failure("A stream failed to take note of its frames", event="sink_failed")

    # --- IBusListener

    def bus_up(self) -> None:
        """Connected, authenticated, empty: send."""
        self.is_up = True
        self._breaker.step(BreakerStep.UP)
        self._refusals_logged.clear()
        self.metrics.bus_up = 1
        self.metrics.bus_connects += 1
        self._log.info("The bus is up", event="bus_up", bus=self._bus.name, queued=self.held_frames)
        self.arm_flush()

    def bus_down(self, reason: str) -> None:
        """The connection is gone, or an attempt to connect failed."""
        # Once for each new reason: an outage of an hour is a few lines, not one per attempt.
        if self.is_up or reason != self._down_reason:
            self._log.warn("The bus is down", event="bus_down", bus=self._bus.name, reason=reason)
        self.is_up = False
        self._down_reason = reason
        self._breaker.step(BreakerStep.DOWN)
        self.metrics.breaker_opens = self._breaker.opens
        self.metrics.bus_up = 0
        self.metrics.bus_disconnects[reason] += 1
        while self._inflight:
            lane, frame = self._inflight.pop()
            lane.put_back(frame)
            if lane.ring:
                self.order[lane] = None
                self.order.move_to_end(lane, last=False)
        self._inflight_bytes = 0
        self._replies.is_waiting = False
        self._finish_if_empty()

    def bus_confirmed(self, count: int) -> None:
        """The oldest ``count`` messages in flight have been taken."""
        now = self._replies.progress_at = self.seconds()
        self._breaker.step(BreakerStep.ANSWERED)
        metrics, inflight = self.metrics, self._inflight
        observe = metrics.publish_latency.observe
        while count and inflight:
            count -= 1
            lane, (seq, _, payload, submitted) = inflight.popleft()
            size_bytes = len(payload)
            self._inflight_bytes -= size_bytes + OVERHEAD_BYTES
            self.held_bytes -= size_bytes + OVERHEAD_BYTES
            self.held_frames -= 1
            if seq:
                metrics.frames_published += 1
                observe(now - submitted)
                lane.confirm(seq, size_bytes)
            else:
                metrics.events_published += 1
                lane.event_settled()
        if count:
            # More answers than questions: what is confirmed can no longer be told.
            self._bus.drop_connection("protocol")
        self._went_on()

    def bus_refused(self, reason: str) -> None:
        """The oldest message in flight was refused for good."""
        if not self._inflight:
            self._bus.drop_connection("protocol")
            return
        self._replies.progress_at = self.seconds()
        self._breaker.step(BreakerStep.ANSWERED)
        lane, frame = self._inflight.popleft()
        self._inflight_bytes -= len(frame[2]) + OVERHEAD_BYTES
        self.held_bytes -= len(frame[2]) + OVERHEAD_BYTES
        self.held_frames -= 1
        self.metrics.bus_refused[reason] += 1
        if reason not in self._refusals_logged:
            self._refusals_logged.add(reason)
            self._log.warn("The bus refuses messages", event="bus_refused", bus=self._bus.name, reason=reason)
        if frame[0]:
            lane.lose(frame, "refused")
        else:
            self.metrics.events_dropped += 1
            lane.event_settled()
        self._went_on()

    def bus_writable(self) -> None:
        """The transport takes bytes again: what waits has waited long enough."""
        if self.flush_call is None:
            self._flush()

    # --- sending

    def arm_flush(self) -> None:
        """Send within COALESCE_S, unless something else has to happen first and will call this."""
        if self.flush_call is None and self._may_send():
            self.flush_call = self._clock.callLater(COALESCE_S, self._flush)

    def flush_now(self) -> None:
        """Send what may be sent without waiting for the timer."""
        if self._may_send():
            if self.flush_call is not None:
                self.flush_call.cancel()
            self._flush()

    def _may_send(self) -> bool:
        has_room = self._inflight_bytes < self._inflight_max_bytes
        is_free = self._breaker.state is BreakerState.CLOSED or not self._inflight
        return bool(self.order) and has_room and is_free and self.is_up and self._bus.writable

    def _flush(self) -> None:
        """Send all that may be sent now; more than WRITE_MAX_BYTES goes in several writes."""
        self.flush_call = None
        write_max_bytes = WRITE_MAX_BYTES if self._breaker.state is BreakerState.CLOSED else PROBE_MAX_BYTES
        while self._may_send():
            self._replies.sent(first=not self._inflight)
            batch = self._next_batch(min(self._inflight_max_bytes - self._inflight_bytes, write_max_bytes))
            self.metrics.bus_writes += 1
            self.metrics.bus_bytes += self._bus.send(batch)

    def _next_batch(self, room_bytes: int) -> list[tuple[Any, int, int, bytes]]:
        """Take frames, a stream at a time, until there is no more room: at least one."""
        order, inflight = self.order, self._inflight
        batch: list[tuple[Any, int, int, bytes]] = []
        batch_bytes = 0
        while order and batch_bytes < room_bytes:
            lane, _ = order.popitem(last=False)
            frame = lane.ring.popleft()
            if lane.ring:
                order[lane] = None
            seq, timestamp_ms, payload, _ = frame
            if seq:
                lane.unsent_audio -= 1
            batch_bytes += len(payload) + OVERHEAD_BYTES
            inflight.append((lane, frame))
            batch.append((lane.prepared, seq, timestamp_ms, payload))
        self._inflight_bytes += batch_bytes
        return batch

    def _went_on(self) -> None:
        self._replies.is_waiting = bool(self._inflight)
        self.arm_flush()
        self._finish_if_empty()

    # --- the end

    def _finish_if_empty(self) -> None:
        if self.held_frames or not self._closing.is_waiting:
            return
        # A stream that hears of its last gap may still have something to say.
        self.gaps.report()
        if not self.held_frames:
            self._closing.now()

    def _let_go(self) -> int:
        """Nothing more is sent; returns how many audio frames are left behind, and counts them."""
        self.gaps.report()
        lanes = with_successors([*(lane for lane, _ in self._inflight), *self.order])
        if left := sum(lane.pending for lane in lanes):
            self.metrics.frames_dropped["shutdown"] += left
            self.metrics.samples_dropped["shutdown"] += sum(lane.audio_bytes for lane in lanes) >> 1
            self._log.error("Frames were not confirmed", event="frames_left", frames=left, reason=self.ready)
        self._replies.stop()
        self.gaps.stop()
        if self.flush_call is not None:
            self.flush_call.cancel()
        self.is_up, self._down_reason = False, "stopped"
        self.metrics.bus_up = 0
        return left
