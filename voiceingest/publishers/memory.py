"""A bus inside the process, for the demo and for tests: no server, no network, nothing kept long."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ..interfaces import IBusListener, IDelayedCall, StreamFacts
from ..wire.envelope import FrameParts, channel_name, encode_frame, frame_parts

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..metrics import Metrics

# The newest messages are kept to be looked at; at 10 KB a frame this is some 10 MB.
MESSAGES_MAX_COUNT: Final = 1000

Subscriber = Callable[[str, bytes], None]

# (frames channel, what frames share, events channel)
Prepared = tuple[str, FrameParts, str]


class Memory:
    """Provides ``IBus``: takes everything at once and confirms it on the next turn of the reactor."""

    name = "memory"
    _log = Logger()

    def __init__(self, settings: Settings, reactor: Any, metrics: Metrics) -> None:
        self._reactor = reactor
        self._metrics = metrics
        self._channel = settings.redis_channel
        self._events_channel = settings.redis_events_channel
        self._listener: IBusListener
        self._subscribers: list[Subscriber] = []
        self._calls: list[IDelayedCall] = []
        self.messages: deque[tuple[str, bytes]] = deque(maxlen=MESSAGES_MAX_COUNT)
        self.writable = True

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber(channel, payload)`` for every message; calling the answer ends that."""
        self._subscribers.append(subscriber)
        return lambda: self._leave(subscriber)

    # --- IBus

    def start(self, listener: IBusListener) -> None:
        """Be up on the next turn of the reactor."""
        self._listener = listener
        self._soon(listener.bus_up)

    def stop(self) -> Deferred[None]:
        """Nothing to wait for."""
        for call in self._calls:
            if call.active():
                call.cancel()
        self._calls.clear()
        return succeed(None)

    def prepare(self, facts: StreamFacts) -> Prepared:
        """Encode once what every message of a stream has in common."""
        tenant_id, interaction_id, audio = facts.tenant_id, facts.interaction_id, facts.audio
        return (
            channel_name(self._channel, tenant_id, interaction_id).decode("utf-8", "surrogatepass"),
            frame_parts(tenant_id, interaction_id, audio.sample_rate, audio.encoding),
            channel_name(self._events_channel, tenant_id, interaction_id).decode("utf-8", "surrogatepass"),
        )

    def send(self, batch: Sequence[tuple[Prepared, int, int, bytes]]) -> int:
        """Deliver a batch to the subscribers; returns its bytes."""
        size_bytes = 0
        for (channel, shared, events_channel), seq, timestamp_ms, payload in batch:
            if seq:
                message = channel, encode_frame(shared, seq, timestamp_ms, payload)
            else:
                message = events_channel, payload
            size_bytes += len(message[1])
            self.messages.append(message)
            for subscriber in tuple(self._subscribers):
                self._deliver(subscriber, *message)
        self._soon(self._listener.bus_confirmed, len(batch))
        return size_bytes

    def drop_connection(self, reason: str) -> None:
        """Be down, and up again on the next turn; what was not confirmed stays so."""
        self.stop()
        self._listener.bus_down(reason)
        self._soon(self._listener.bus_up)

    def _soon(self, call: Callable[..., None], *args: Any) -> None:
        self._calls = [earlier for earlier in self._calls if earlier.active()]
        self._calls.append(self._reactor.callLater(0, call, *args))

    def _leave(self, subscriber: Subscriber) -> None:
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)

    def _deliver(self, subscriber: Subscriber, channel: str, payload: bytes) -> None:
        try:
            subscriber(channel, payload)
        except Exception:
            # It is cut off, or it would fail and log for every frame.
            self._leave(subscriber)
            self._metrics.errors["internal", "publishing"] += 1
            self._log.failure("A subscriber failed and was taken off", event="subscriber_failed")
