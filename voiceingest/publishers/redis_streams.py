"""Redis Streams: a frame is one ``XADD`` of its bytes, which stay there for consumer groups to read.

With ``redis_wait_replicas`` each batch is followed by a ``WAIT``, and its messages are confirmed only
when that says that so many replicas have them too (redis.io/docs/latest/commands/wait, read
2026-11-20). It counts what this connection has written, so a batch may be on its way while the one
before it is waited for.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..interfaces import StreamFacts
from ..wire.entry import EntryParts, entry_head, entry_parts, event_entry_prefix
from ..wire.envelope import channel_name
from ..wire.resp import Number, Run, encode_command
from .redis_bus import STATE_ERRORS, RedisBus
from .redis_link import RedisLink

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..metrics import Metrics

# (what frames share, command up to the event's length)
Prepared = tuple[EntryParts, bytes]


class RedisStreams(RedisBus):
    """Provides ``IBus`` over the streams of one Redis."""

    tells_integers: ClassVar[bool] = True

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        metrics: Metrics,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Raises: ``SettingsError``, ``BadCertificate``."""
        super().__init__(settings, reactor, metrics, jitter)
        self._stream = settings.redis_channel
        self._events_stream = settings.redis_events_channel
        self._max_entries = settings.redis_stream_max_entries
        self._events_max_entries = settings.redis_stream_events_max_entries
        self._replicas = settings.redis_wait_replicas
        # Less than the delivery waits: a replica that is away is then told from a server that is. Never 0,
        # which would be for ever. A replica that has just joined may take a second.
        wait_ms = max(int(settings.publish_reply_timeout_s * 800), 1)
        self._wait = encode_command(b"WAIT", b"%d" % self._replicas, b"%d" % wait_ms)
        # Of each batch in flight, how many messages have had no answer; the first is being answered.
        self._batches: deque[int] = deque()
        # Answers to the first batch, kept until its WAIT is answered.
        self._held: list[int | str] = []

    def prepare(self, facts: StreamFacts) -> Prepared:
        """Encode once what every message of a stream has in common."""
        tenant_id, interaction_id, audio = facts.tenant_id, facts.interaction_id, facts.audio
        return (
            entry_parts(
                channel_name(self._stream, tenant_id, interaction_id),
                self._max_entries,
                (tenant_id, interaction_id, facts.epoch),
                audio.sample_rate,
                audio.encoding,
            ),
            event_entry_prefix(
                channel_name(self._events_stream, tenant_id, interaction_id), self._events_max_entries
            ),
        )

    def encode(self, batch: Sequence[tuple[Prepared, int, int, bytes]]) -> bytes:
        """One ``XADD`` for each message, and a ``WAIT`` for all of them where replicas count."""
        parts: list[bytes] = []
        for (shared, event_command), seq, timestamp_ms, payload in batch:
            if seq:
                parts += (entry_head(shared, seq, timestamp_ms, len(payload)), payload, b"\r\n")
            else:
                parts += (event_command, b"%d\r\n" % len(payload), payload, b"\r\n")
        if self._replicas:
            parts.append(self._wait)
            self._batches.append(len(batch))
        return b"".join(parts)

    async def look_over(self, link: RedisLink) -> None:
        """Where replicas count, they have to be there. Raises: ``BusRefusal``."""
        await super().look_over(link)
        if self._replicas:
            await link.must_replicate(self._replicas)

    def begin(self) -> None:
        """A connection begins: nothing is unanswered."""
        super().begin()
        self._batches.clear()
        self._held.clear()

    def take(self, run: Run) -> None:
        """Confirm, refuse or give up; where replicas count, keep the answers until they have it too."""
        batches = self._batches
        if not self._replicas:
            super().take(run)
        elif not batches:
            self.drop_connection("protocol")
        elif isinstance(run, Number):
            self._waited(run.value)
        elif isinstance(run, str) and (not batches[0] or run in STATE_ERRORS):
            # An answer to WAIT itself, or about the server: the whole batch is sent again.
            self.drop_connection(STATE_ERRORS.get(run, run.lower()))
        else:
            batches[0] -= run if isinstance(run, int) else 1
            self._held.append(run)

    def _waited(self, replicas: int) -> None:
        if self._batches.popleft():
            # Not all of the batch has been answered, and WAIT comes after it.
            self.drop_connection("protocol")
        elif replicas < self._replicas:
            self.drop_connection("unreplicated")
        else:
            held, self._held = self._held, []
            for run in held:
                super().take(run)
                if self._link is None:
                    return
