"""The record of a call, as it is shown at ``GET /voicebot/sessions`` (contract section 2)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any


class VoiceSession:
    """One connection of Exotel, from its upgrade to its end."""

    __slots__ = (
        "_wall_clock", "agent_name", "buffered", "call_id", "connected_at", "is_active", "last_activity",
        "sample_rate", "sequence_number", "stream_sid", "tenant_id",
    )

    def __init__(self, agent_name: str, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self.agent_name = agent_name
        self.call_id = self.stream_sid = self.tenant_id = ""
        self.connected_at = self.last_activity = wall_clock()
        self.sequence_number = 0
        self.sample_rate = 0
        self.is_active = False
        # How many chunks of audio wait, to be published or to be played.
        self.buffered: Callable[[], int] = int

    def touch(self) -> None:
        """Something came from the peer."""
        self.last_activity = self._wall_clock()

    def shown(self) -> dict[str, Any]:
        """What an operator sees; the spelling is the contract's."""
        return {
            "callId": self.call_id,
            "streamSid": self.stream_sid,
            "connectedAt": _iso(self.connected_at),
            "lastActivity": _iso(self.last_activity),
            "sequenceNumber": self.sequence_number,
            "isActive": self.is_active,
            "audioChunksBuffered": self.buffered(),
            "tenantId": self.tenant_id,
            "sampleRate": self.sample_rate,
            "agent": self.agent_name,
        }


class VoiceSessions:
    """All connections there are; as many as the gate lets in."""

    def __init__(self) -> None:
        self._open: dict[VoiceSession, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, session: VoiceSession) -> None:
        """A connection stands."""
        self._open[session] = None

    def discard(self, session: VoiceSession) -> None:
        """A connection is gone."""
        self._open.pop(session, None)

    def shown(self) -> dict[str, Any]:
        """All of them, the oldest first."""
        return {"total": len(self._open), "sessions": [session.shown() for session in self._open]}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
