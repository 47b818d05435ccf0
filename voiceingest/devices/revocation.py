"""What was revoked, and who has to hear of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import VoiceIngestError


@dataclass(frozen=True, slots=True)
class Revocation:
    """Tokens that no longer hold: of one family, or of every family of the device."""

    user_id: str
    device_id: str
    family_id: str | None = None


class IUserStreams(Protocol):
    """The live streams of users; plain calls that never raise."""

    def end_streams(self, user_id: str, error: VoiceIngestError) -> None:
        """End every stream of a user."""

    @property
    def users(self) -> Sequence[str]:
        """Whose streams are live."""

    def end_older(self, user_id: str, age_s: float, error: VoiceIngestError) -> None:
        """End every stream of a user that began at least ``age_s`` seconds ago."""

    def let_in(self, user_id: str) -> None:
        """The user has brought a token that was not revoked."""
