"""Redis pub/sub: a frame is one ``PUBLISH`` of its JSON.

What the channel is and most of a frame's JSON are encoded once per stream; a batch is one write.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..interfaces import IBusListener, StreamFacts
from ..wire.envelope import FRAME_END, FrameParts, channel_name, encode_halves, frame_parts
from ..wire.resp import publish_prefix
from .redis_bus import RedisBus

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..metrics import Metrics

# (command up to the frame's length, what frames share, command up to the event's length)
Prepared = tuple[bytes, FrameParts, bytes]


class RedisPubSub(RedisBus):
    """Provides ``IBus`` over the channels of one Redis."""

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        metrics: Metrics,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Raises: ``SettingsError``, ``BadCertificate``."""
        super().__init__(settings, reactor, metrics, jitter)
        self._waits_for = settings.redis_wait_replicas
        self._channel = settings.redis_channel
        self._events_channel = settings.redis_events_channel

    def start(self, listener: IBusListener) -> None:
        """Begin to connect, in the background; say what the settings ask for and pub/sub does not do."""
        if self._waits_for:
            self._log.warn(
                "REDIS_WAIT_REPLICAS has no effect on pub/sub, which keeps nothing: redis-streams: does",
                event="setting_without_effect",
                setting="redis_wait_replicas",
            )
        super().start(listener)

    def prepare(self, facts: StreamFacts) -> Prepared:
        """Encode once what every message of a stream has in common."""
        tenant_id, interaction_id, audio = facts.tenant_id, facts.interaction_id, facts.audio
        return (
            publish_prefix(channel_name(self._channel, tenant_id, interaction_id)),
            frame_parts(tenant_id, interaction_id, audio.sample_rate, audio.encoding),
            publish_prefix(channel_name(self._events_channel, tenant_id, interaction_id)),
        )

    def encode(self, batch: Sequence[tuple[Prepared, int, int, bytes]]) -> bytes:
        """One ``PUBLISH`` for each message."""
        parts: list[bytes] = []
        for (frame_command, shared, event_command), seq, timestamp_ms, payload in batch:
            if seq:
                head, audio = encode_halves(shared, seq, timestamp_ms, payload)
                size = len(head) + len(audio) + len(FRAME_END)
                parts += (frame_command, b"%d\r\n" % size, head, audio, FRAME_END, b"\r\n")
            else:
                parts += (event_command, b"%d\r\n" % len(payload), payload, b"\r\n")
        return b"".join(parts)
