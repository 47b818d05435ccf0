"""Devices over a store in memory, with clocks that a test moves."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from pydantic import SecretStr
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.case import TestCase
from tests.support.device_store import MemoryDeviceStore
from voiceingest.aio import as_deferred
from voiceingest.auth.device_tokens import DeviceTokens
from voiceingest.config import Settings
from voiceingest.devices import Devices, Revocation
from voiceingest.errors import VoiceIngestError
from voiceingest.metrics import Metrics

T = TypeVar("T")

WALL = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0


class UserStreams:
    """Notes whose streams were ended, and who was let in."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []
        self.admitted: list[str] = []
        self.users: list[str] = []
        self.older: list[tuple[str, float]] = []

    def end_streams(self, user_id: str, error: VoiceIngestError) -> None:
        """IUserStreams."""
        self.ended.append((user_id, error.code))

    def end_older(self, user_id: str, age_s: float, error: VoiceIngestError) -> None:
        """IUserStreams."""
        self.older.append((user_id, age_s))

    def let_in(self, user_id: str) -> None:
        """IUserStreams."""
        self.admitted.append(user_id)


class Node:
    """One process: several may stand on one store."""

    def __init__(self, store: MemoryDeviceStore, clock: Clock, **given: Any) -> None:
        settings = Settings(**{"jwt_secret": SecretStr("s" * 32), "jwt_expires_in": "1h", **given})
        self.clock = clock
        self.metrics = Metrics()
        self.streams = UserStreams()
        self.announced: list[Revocation] = []
        self.tokens = DeviceTokens(settings)
        self.devices = Devices(
            store,
            self.tokens,
            settings,
            self.wall,
            clock.seconds,
            self.metrics,
            self.streams,
            self.announced.append,
        )

    def wall(self) -> float:
        """The wall clock, in step with the other."""
        return WALL + self.clock.seconds()


class DevicesCase(TestCase):
    """A node, its store, and another node at hand."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryDeviceStore()
        self.node = Node(self.store, self.clock)
        self.devices = self.node.devices

    def other(self, **given: Any) -> Node:
        """One more process on the same store."""
        return Node(self.store, self.clock, **given)

    def ask(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Run what is a coroutine of asyncio."""
        return as_deferred(coroutine)
