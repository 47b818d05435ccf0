"""Messages between processes about sessions and devices: a channel of Redis, heard by all of them.

It only makes things quick: a message that is lost, while Redis is away or because too many wait, is made
up for by who looks into the store now and then (``sweeper``; a revoked token is looked up when it is used).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, cast, get_args

from redis.exceptions import RedisError
from twisted.logger import Logger

from ..limits import IDENTIFIER_MAX_CHARS
from ..metrics import Metrics
from ..session_interfaces import ControlKind
from .cache import connect
from .writer import Sleep

CHANNEL: Final = "voiceingest:control"
KINDS: Final = frozenset(get_args(ControlKind))

# A user ends a few sessions; who revokes thousands of devices is no reason to keep all that in memory.
QUEUE_MAX_COUNT: Final = 1000

# A message is some 100 bytes.
MESSAGE_MAX_BYTES: Final = 1024

# How often a connection that says nothing is asked whether it is there, and how long that may take.
PING_S: Final = 5.0
TIMEOUT_S: Final = 2.0
_PAUSE_S: Final = 0.25
_PAUSE_MAX_S: Final = 5.0

_AWAY: Final = (RedisError, OSError, TimeoutError)

Hear = Callable[[str], object]


class Listeners:
    """Who wants to hear of what."""

    _log = Logger()

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._by_kind: dict[str, list[Hear]] = {}

    def add(self, kind: ControlKind, hear: Hear) -> None:
        """Have ``hear`` called for each message of a kind."""
        self._by_kind.setdefault(kind, []).append(hear)

    def hear(self, message: bytes, own_node: str) -> None:
        """One message of the channel, whoever wrote it."""
        found = _read(message)
        if found is None:
            self._metrics.control_messages["foreign"] += 1
            return
        kind, subject, node = found
        if node == own_node:
            return
        self._metrics.control_messages[kind] += 1
        for hear in self._by_kind.get(kind, ()):
            try:
                hear(subject)
            except Exception:
                self._log.failure("a message was not acted on", event="control_message_failed", kind=kind)


class NoBus:
    """Where there is no Redis, nobody is told (``IControlBus``)."""

    def tell(self, kind: ControlKind, subject: str) -> None:
        """Nobody hears it."""

    def listen(self, kind: ControlKind, hear: Hear) -> None:
        """There is nothing to hear."""

    def start(self) -> None:
        """There is nothing to begin."""

    async def stop(self) -> None:
        """There is nothing to end."""


class RedisControlBus:
    """See the head of this file (``IControlBus``). ``node`` is the name of this process, and of no other."""

    _log = Logger()

    def __init__(
        self,
        url: str,
        node: str,
        metrics: Metrics,
        *,
        ca_path: Path | None = None,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Raises: ``SettingsError``."""
        self._redis = connect(url, ca_path, 2)
        self._node = node
        self._metrics = metrics
        self._sleep = sleep
        self._jitter = jitter
        self._listeners = Listeners(metrics)
        self._waiting: deque[str] = deque()
        self._some = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.is_listening = False

    def tell(self, kind: ControlKind, subject: str) -> None:
        """Tell the others; the oldest that waits is forgotten where too many do."""
        if len(self._waiting) >= QUEUE_MAX_COUNT:
            self._waiting.popleft()
            self._metrics.control_messages["dropped"] += 1
        self._waiting.append(json.dumps({"kind": kind, "subject": subject, "node": self._node}))
        self._some.set()

    def listen(self, kind: ControlKind, hear: Hear) -> None:
        """Have ``hear(subject)`` called for what another process has told."""
        self._listeners.add(kind, hear)

    def start(self) -> None:
        """Connect, in the background."""
        loop = asyncio.get_event_loop()
        self._tasks = [
            loop.create_task(self._again_and_again(self._hear)),
            loop.create_task(self._again_and_again(self._say)),
        ]

    async def stop(self) -> None:
        """Say and hear no more."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(*_AWAY):
            await self._redis.aclose()

    async def _again_and_again(self, act: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        """Do it until it fails, and again after a pause that grows until it has worked once more."""
        tries = 0

        def worked() -> None:
            nonlocal tries
            tries = 0

        while True:
            try:
                await act(worked)
            except _AWAY as error:
                self._metrics.control_messages["error"] += 1
                if not tries:
                    self._log.warn(
                        "the channel between processes is away", event="control_bus_away",
                        error=type(error).__name__,
                    )  # fmt: skip
            pause = min(_PAUSE_MAX_S, _PAUSE_S * 2**tries)
            tries = min(tries + 1, 16)
            await self._sleep(pause * (0.5 + self._jitter() / 2))

    async def _hear(self, worked: Callable[[], None]) -> None:
        pubsub = self._redis.pubsub()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await pubsub.subscribe(CHANNEL)
            while True:
                message = await pubsub.get_message(timeout=PING_S)
                if message is None:
                    # A Redis that is frozen says nothing either.
                    async with asyncio.timeout(TIMEOUT_S):
                        await pubsub.ping()
                        message = await pubsub.get_message(timeout=TIMEOUT_S)
                    if message is None:
                        raise TimeoutError
                if message["type"] == "subscribe":
                    self.is_listening = True
                    worked()
                elif message["type"] == "message":
                    self._listeners.hear(message["data"], self._node)
        finally:
            self.is_listening = False
            with contextlib.suppress(*_AWAY):
                await pubsub.aclose()

    async def _say(self, worked: Callable[[], None]) -> None:
        while True:
            await self._some.wait()
            async with asyncio.timeout(TIMEOUT_S):
                await self._redis.publish(CHANNEL, self._waiting[0])
            worked()
            self._metrics.control_messages["sent"] += 1
            self._waiting.popleft()
            if not self._waiting:
                self._some.clear()


def _read(message: bytes) -> tuple[ControlKind, str, str] | None:
    """Kind, subject and who told it; ``None`` for what is none of ours."""
    if len(message) > MESSAGE_MAX_BYTES:
        return None
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    kind, subject, node = (found.get(name) for name in ("kind", "subject", "node"))
    if not (isinstance(kind, str) and isinstance(subject, str) and isinstance(node, str)):
        return None
    if kind not in KINDS or len(subject) > IDENTIFIER_MAX_CHARS:
        return None
    return cast("ControlKind", kind), subject, node
