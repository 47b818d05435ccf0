"""What is talked over a connection, and what a connection lives by: the seam to the dialects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from ..errors import VoiceIngestError


class ISocketSession(Protocol):
    """What is talked over a connection: a dialect's transport provides it."""

    transport_name: str

    def opened(self) -> None:
        """The handshake is done."""

    def text(self, payload: bytes) -> None:
        """A whole text message, valid UTF-8."""

    def binary(self, payload: bytes) -> None:
        """A whole binary message."""

    def refused(self, error: VoiceIngestError) -> None:
        """The connection is about to close with ``error``: say so in the dialect."""

    def lost(self, code: int) -> None:
        """The connection is gone; ``code`` is the close code, 1006 when there was none."""


@dataclass(frozen=True, slots=True)
class SocketRules:
    """What a connection lives by; sizes in bytes, times in seconds, 0 = off where allowed."""

    max_message_bytes: int = 65536
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 20.0
    write_timeout_s: float = 10.0
    realtime_factor: float = 8.0


class _Gone:
    """Takes the place of a session that has ended, so that the connection does not keep it."""

    transport_name = "gone"

    def opened(self) -> None:
        """Nobody is there."""

    def text(self, payload: bytes) -> None:
        """Nobody is there."""

    def binary(self, payload: bytes) -> None:
        """Nobody is there."""

    def refused(self, error: VoiceIngestError) -> None:
        """Nobody is there."""

    def lost(self, code: int) -> None:
        """Nobody is there."""


GONE: Final = _Gone()
