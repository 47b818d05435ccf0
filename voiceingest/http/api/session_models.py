"""The shapes of sessions: a caller's own, and those that operators see."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from ...session_interfaces import Session, SessionEdit
from ...stream import SessionState
from .shapes import MOMENT, SESSION_ID, Asked, JsonObject, Shown, iso, moment


class Wishes(Asked):
    """Configuration and context of a session: any JSON, bounded in size and in depth."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "audioConfig": {"sampleRate": 24000, "encoding": "pcm16"},
                    "voiceConfig": {"voice": "aura-2", "language": "en"},
                    "metadata": {"order": "7"},
                }
            ]
        },
    )
    audio_config: JsonObject = Field(default_factory=dict, description="What the audio is like, 4 KiB.")
    voice_config: JsonObject = Field(default_factory=dict, description="Who speaks, and how, 4 KiB.")
    metadata: JsonObject = Field(default_factory=dict, description="Whatever you want to find again, 4 KiB.")
    context_data: JsonObject = Field(
        default_factory=dict, description="What is known of the conversation so far, 48 KiB."
    )

    def edit(self) -> SessionEdit:
        """The same for a session: what is empty changes nothing."""
        return SessionEdit(
            audio_config=self.audio_config or None,
            voice_config=self.voice_config or None,
            metadata=self.metadata or None,
            context=self.context_data or None,
        )


class Changes(Wishes):
    """Merge patches (RFC 7396): a member that is `null` is taken away, what is not named stays."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"voiceConfig": {"language": "hi", "voice": None}, "contextData": {"topic": "invoice"}}
            ]
        },
    )


class Created(Shown):
    """A new session."""

    session_id: str = Field(examples=[SESSION_ID])
    """Its id; as `interaction_id` of a stream it makes that stream this session's."""
    status: SessionState = Field(examples=["pending"])
    """`pending` until a stream carries it."""
    expires_at: str = Field(examples=[MOMENT])
    """When it expires unless something happens to it."""

    @classmethod
    def of(cls, session: Session) -> Created:
        """What is answered."""
        return cls(
            session_id=session.session_id,
            status=session.status,
            expires_at=iso(session.expires_at),
        )


class SessionRow(Shown):
    """A session on a list."""

    session_id: str = Field(examples=[SESSION_ID])
    """Its id."""
    status: SessionState = Field(examples=["active"])
    """Where it stands."""
    transport: str = Field(examples=["ingest"])
    """What it came by: `rest`, `grpc`, or the transport of its stream."""
    created_at: str = Field(examples=[MOMENT])
    """When it was made."""
    updated_at: str = Field(examples=[MOMENT])
    """When it was changed last."""
    expires_at: str = Field(examples=[MOMENT])
    """When it expires; one with a live stream does not."""
    started_at: str | None = Field(examples=[MOMENT])
    """When its stream began."""
    ended_at: str | None = Field(examples=[None])
    """When it ended."""
    duration_s: float | None = Field(examples=[12.5])
    """How long it has been, or was, active, in seconds."""
    reason: str = Field(examples=[""])
    """Why it ended."""
    frames: int = Field(examples=[63])
    """Frames of audio; counted when the stream has ended."""
    metadata: JsonObject = Field(examples=[{"order": "7"}])
    """What was given with it."""


class SessionShown(SessionRow):
    """A session."""

    audio_config: JsonObject = Field(examples=[{"sampleRate": 24000, "encoding": "pcm16"}])
    """What the audio is like."""
    voice_config: JsonObject = Field(examples=[{"voice": "aura-2", "language": "en"}])
    """Who speaks, and how."""
    context_data: JsonObject = Field(examples=[{"topic": "invoice"}])
    """What is known of the conversation so far."""


class SessionPage(Shown):
    """Some sessions, newest first."""

    sessions: list[SessionRow]
    """As many as were asked for, unless there are no more."""
    next_cursor: str | None = Field(examples=["41da4a8b0d00000fses_4nY1vX0aQmKc2sT7uLw9Bg"])
    """`cursor` of the next page; null where this is the last."""


# --- what operators see ----------------------------------------------------------------------


class Owner(Shown):
    """Whose a session is, and where it runs."""

    user_id: str = Field(examples=["usr_0bT3mPq8wXz5Jd7Rk1Ns4A"])
    """Whose it is."""
    device_id: str | None = Field(examples=["dev_9sWk2LqTz0Yb4Mx7Rv1Nc6"])
    """The device it was made with."""
    tenant_id: str | None = Field(examples=["acme"])
    """That of its stream."""
    interaction_id: str | None = Field(examples=[SESSION_ID])
    """That of its stream."""
    node: str = Field(examples=["voice-1"])
    """The process that has its stream."""


class OwnedRow(SessionRow, Owner):
    """A session on a list of everybody's."""


class OwnedSession(SessionShown, Owner):
    """A session of anybody's."""


class OwnedPage(Shown):
    """Some sessions of everybody's, newest first."""

    sessions: list[OwnedRow]
    """As many as were asked for, unless there are no more."""
    next_cursor: str | None = Field(examples=["41da4a8b0d00000fses_4nY1vX0aQmKc2sT7uLw9Bg"])
    """`cursor` of the next page; null where this is the last."""


# --- from records to shapes ------------------------------------------------------------------


def row_of(session: Session, now: float) -> dict[str, Any]:
    """The members of a ``SessionRow``, and of an ``Owner``."""
    ended_at = session.ended_at if session.ended_at is not None or session.status.is_open else now
    duration_s = None
    if session.started_at is not None:
        duration_s = round(max(0.0, (now if ended_at is None else ended_at) - session.started_at), 3)
    return {
        "session_id": session.session_id,
        "status": session.status,
        "transport": session.transport,
        "created_at": iso(session.created_at),
        "updated_at": iso(session.updated_at),
        "expires_at": iso(session.expires_at),
        "started_at": moment(session.started_at),
        "ended_at": moment(session.ended_at),
        "duration_s": duration_s,
        "reason": session.reason,
        "frames": session.frames,
        "metadata": dict(session.metadata),
        "user_id": session.user_id,
        "device_id": session.device_id,
        "tenant_id": session.tenant_id,
        "interaction_id": session.interaction_id,
        "node": session.node,
    }


def whole_of(session: Session, now: float) -> dict[str, Any]:
    """The members of a ``SessionShown``, and of an ``Owner``."""
    return {
        **row_of(session, now),
        "audio_config": dict(session.audio_config),
        "voice_config": dict(session.voice_config),
        "context_data": dict(session.context),
    }
