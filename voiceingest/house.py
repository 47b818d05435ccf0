"""What every stream of the process shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .auth.resume import ResumeTokens
from .deadlines import Deadlines
from .errors import VoiceIngestError
from .interfaces import Claims, IAuthenticator, IClock, IFarEnd, IPublisher
from .metrics import Metrics
from .registry import Registry
from .session_interfaces import IStreamRecords, NoRecords
from .stream import Authority, Stream, StreamRules


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
    tokens: ResumeTokens
    records: IStreamRecords = field(default_factory=NoRecords)

    def authority(self, claims: Claims) -> Authority:
        """The claims with their expiry as a time from now, which no step of the wall clock moves."""
        left = claims.expires_at - self.wall_clock()
        return Authority(claims.subject, claims.tenant_id, claims.interaction_id, left, claims.any_tenant)

    def greeting(self, stream: Stream) -> dict[str, Any]:
        """What ``started`` says of a stream, beside whether it was resumed."""
        return {
            "interaction_id": stream.interaction_id,
            "tenant_id": stream.tenant_id,
            "sample_rate": stream.audio.sample_rate,
            "encoding": stream.audio.encoding,
            "ack_interval": self.rules.ack_interval,
            "ack_mode": "published" if self.rules.ack_published else "received",
            "epoch": stream.epoch,
            "next_seq": stream.seq + 1,
            **self.token(stream),
            **({"resume_window_s": self.rules.resume_window_s} if self.rules.resume_window_s else {}),
        }

    def token(self, stream: Stream, next_seq: int | None = None) -> dict[str, str]:
        """The field with the token to resume ``stream`` with, where there is resuming at all.

        ``next_seq`` is the frame to go on with, where that is certain.
        """
        if not self.rules.resume_window_s:
            return {}
        names = (stream.tenant_id, stream.interaction_id)
        audio = (stream.audio.sample_rate, stream.audio.encoding)
        exact = next_seq is not None
        return {"resume_token": self.tokens.mint(*names, stream.epoch, audio, next_seq or 1, is_exact=exact)}
