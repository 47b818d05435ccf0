"""What every stream of the process shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .deadlines import Deadlines
from .errors import VoiceIngestError
from .interfaces import Claims, IAuthenticator, IClock, IFarEnd, IPublisher
from .metrics import Metrics
from .registry import Registry
from .stream import Authority, StreamRules


class Silence:
    """The far end of a stream whose caller is gone: it may still wait for the bus, and keeps nothing else."""

    __slots__ = ("request_id", "transport_name")

    def __init__(self, far: IFarEnd) -> None:
        self.request_id = far.request_id
        self.transport_name = far.transport_name

    def say(self, event: str, **fields: Any) -> None:
        """Nobody is there."""

    def say_error(self, error: VoiceIngestError) -> None:
        """Nobody is there."""

    def ack(self, seq: int) -> None:
        """Nobody is there."""

    def pause(self, seconds: float) -> None:
        """Nobody is there."""

    def close(self, code: int, reason: str) -> None:
        """Nobody is there."""


@dataclass(frozen=True, slots=True)
class House:
    """What every stream shares; built once by ``service``."""

    rules: StreamRules
    publisher: IPublisher
    registry: Registry
    authenticator: IAuthenticator
    deadlines: Deadlines
    clock: IClock
    wall_clock: Callable[[], float]
    metrics: Metrics

    def authority(self, claims: Claims) -> Authority:
        """The claims with their expiry as a time from now, which no step of the wall clock moves."""
        left = claims.expires_at - self.wall_clock()
        return Authority(claims.subject, claims.tenant_id, claims.interaction_id, left)
