"""Reading a JetStream stream from its first message to its last, whatever happens to the servers.

By stream sequence, so that what is delivered again by the way of reading is not taken for a repeat:
two messages with the same audio are two sequences.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import nats
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

if TYPE_CHECKING:
    from .consumer import Plan, Witness

_BATCH: Final = 500
_WAIT_S: Final = 1.0
_PAUSE_S: Final = 0.2
# A consumer that delivers nothing for so many turns may have died with its server: make another.
_EMPTY_MAX: Final = 3


class _Follower:
    def __init__(self, plan: Plan, witness: Witness) -> None:
        self._plan, self._witness = plan, witness
        self._last = 0

    async def run(self, client: Any, ready: Callable[[], None]) -> None:
        """Read for ever; a turn ends where the way of reading broke, and begins after the last message."""
        while True:
            try:
                config = ConsumerConfig(
                    ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=self._last + 1, inactive_threshold=30.0, mem_storage=True, num_replicas=1,
                )  # fmt: skip
                js = client.jetstream(timeout=2.0)
                info = await js.add_consumer(self._plan.stream, config)
                subscription = await js.pull_subscribe_bind(consumer=info.name, stream=self._plan.stream)
                ready()
                await self._turn(subscription)
                await subscription.unsubscribe()
            except (Error, OSError, TimeoutError):
                self._witness.counts["breaks"] += 1
                await asyncio.sleep(_PAUSE_S)

    async def _turn(self, subscription: Any) -> None:
        empty = 0
        while empty < _EMPTY_MAX:
            try:
                messages = await subscription.fetch(_BATCH, timeout=_WAIT_S)
            except TimeoutError:
                empty += 1
                continue
            empty = 0
            for message in messages:
                sequence = message.metadata.sequence.stream
                if sequence <= self._last:
                    continue
                if sequence != self._last + 1:
                    return
                self._last = sequence
                self._take(message)

    def _take(self, message: Any) -> None:
        told = json.loads(message.data)
        if message.subject == self._plan.events.replace(":", "."):
            self._witness.event(told)
            return
        epoch = (message.headers or {}).get("Voiceingest-Epoch")
        if epoch is not None:
            told["epoch"] = epoch
        self._witness.frame(told, base64.b64decode(told["audio"]))


async def follow(plan: Plan, witness: Witness, ready: Callable[[], None]) -> None:
    """Read until cancelled."""
    client = await nats.connect(
        servers=[f"nats://{host}:{port}" for host, port in plan.ways],
        max_reconnect_attempts=-1, reconnect_time_wait=0.1, connect_timeout=1, error_cb=_ignored,
        # A server that is frozen says nothing: by default that is noticed after four minutes.
        ping_interval=1, max_outstanding_pings=2,
    )  # fmt: skip
    try:
        await _Follower(plan, witness).run(client, ready)
    finally:
        await client.close()


async def _ignored(_error: Exception) -> None:
    """Connections break here: the turn that was broken says so."""
