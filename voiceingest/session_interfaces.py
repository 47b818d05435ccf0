"""The seams of sessions: what a part may be asked, never how it does it.

What is a coroutine here is asyncio's, and is reached from Twisted by ``aio`` only. What a live stream
tells (``IStreamRecords``) is plain calls: audio never waits for a database.
Times are seconds since the epoch, as everybody's clock has them, since they are kept and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from .device_interfaces import Caller
from .errors import VoiceIngestError
from .interfaces import StreamFacts
from .stream import SessionState

# What processes tell one another; the subject is the id of the session, of the user whose device was
# revoked, or of the family of tokens.
ControlKind = Literal["session_ended", "device_revoked", "family_revoked"]


@dataclass(frozen=True, slots=True)
class Session:
    """The record of a session. The mappings hold plain JSON.

    ``transport`` is what it came by: ``rest``, ``grpc`` for one that was asked for, ``ingest``,
    ``voicebot`` and so on once a stream carries it. ``interaction_id``, ``tenant_id`` and ``epoch`` are
    those of its stream. ``version`` grows with each change. ``reason`` says why it ended.
    """

    session_id: str
    user_id: str
    status: SessionState
    transport: str
    created_at: float
    updated_at: float
    expires_at: float
    device_id: str | None = None
    tenant_id: str | None = None
    interaction_id: str | None = None
    epoch: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    reason: str = ""
    node: str = ""
    frames: int = 0
    audio_config: Mapping[str, Any] = field(default_factory=dict)
    voice_config: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A key the caller has made up, and a digest of what it asked: the same key answers the same."""

    key: str
    request_digest: bytes


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Which sessions: ``user_id`` ``None`` for those of everybody; newest first.

    ``before`` is the ``(created_at, session_id)`` of the last one on the page before.
    """

    user_id: str | None = None
    status: SessionState | None = None
    limit: int = 50
    before: tuple[float, str] | None = None


class ISessionStore(Protocol):
    """Where sessions are kept. Raises everywhere: ``StoreUnavailable``."""

    async def add(self, session: Session, idempotency: Idempotency | None, open_max: int) -> Session:
        """Keep a new session; the one that was made before under the same key of the same user.

        One that is there already, by its id or as that of the same stream (tenant, interaction, epoch), is
        given back as it is, open or not: whoever did not hear that it was kept may say it again.
        Raises: ``IdempotencyMismatch``; ``TooManySessions`` where the user has ``open_max`` open ones.
        """

    async def session(self, session_id: str) -> Session | None:
        """One session."""

    async def update(self, session: Session, version: int) -> bool:
        """Write a session that was read as ``version``; ``False`` when it has been changed since.

        ``session.version`` is the new one.
        """

    async def page(self, query: SessionQuery) -> Sequence[Session]:
        """The sessions that are asked for."""

    async def stream_session(self, tenant_id: str, interaction_id: str, epoch: int) -> Session | None:
        """The session a stream was the audio of."""

    async def open_sessions(self, session_ids: Sequence[str]) -> set[str]:
        """Which of these are still open."""

    async def vouch(self, session_ids: Sequence[str], node: str, now: float, expires_at: float) -> None:
        """These are alive, here.

        Only those that are active and whose ``node`` it is: one that goes on at another process is that
        one's to vouch for. It is no change of the session: its version stays.
        """

    async def overdue(self, now: float, lost_before: float, limit: int) -> Sequence[Session]:
        """Open sessions past their time; and those of a stream nobody has vouched for since."""

    async def forget_sessions(self, ended_before: float, keys_before: float) -> int:
        """Delete what has ended long ago, and old idempotency keys; how many sessions."""


class ISessionCache(Protocol):
    """Keeps sessions at hand. Never raises, never waits long: what it does not have, the store has.

    What is kept is never replaced by an older version of it.
    """

    async def get(self, session_id: str) -> Session | None:
        """A session, where it is here and not old."""

    async def put(self, session: Session) -> None:
        """Keep a session that was just read, or written."""

    async def drop(self, session_id: str) -> None:
        """Forget a session everywhere: it was changed."""

    async def stop(self) -> None:
        """Close what is open; nothing is asked any more."""


class ILiveStream(Protocol):
    """A stream, as far as its session may end it."""

    def hang_up(self, error: VoiceIngestError | None) -> None:
        """End it: flushed and stopped in order, or refused with ``error``."""


class IStreamRecords(Protocol):
    """Hears of every stream of the process: plain calls that never wait and never raise."""

    def began(self, stream: ILiveStream, facts: StreamFacts, subject: str, transport: str) -> None:
        """A stream is live; ``subject`` is whose credential it came with."""

    def ended(self, stream: ILiveStream, reason: str, frames: int) -> None:
        """It takes nothing more; ``reason`` is ``stopped`` where all is well, an error's code, or why not.

        ``moved``: the daemon shuts down, and another process is to go on with it.
        """


class NoRecords:
    """Where no sessions are kept (``IStreamRecords``)."""

    def began(self, stream: ILiveStream, facts: StreamFacts, subject: str, transport: str) -> None:
        """Nobody keeps it."""

    def ended(self, stream: ILiveStream, reason: str, frames: int) -> None:
        """Nobody keeps it."""


class IControlBus(Protocol):
    """Tells the other processes. Plain calls that never wait and never raise; what is lost is lost.

    Whoever counts on a message has to find out by himself, later, what it would have told.
    """

    def tell(self, kind: ControlKind, subject: str) -> None:
        """Tell the others; not this process."""

    def listen(self, kind: ControlKind, hear: Callable[[str], object]) -> None:
        """Have ``hear(subject)`` called for what another process has told."""


# --- what the APIs ask -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionEdit:
    """What is to change of a session; ``None`` leaves it.

    The mappings are merge patches (RFC 7396): a member that is ``None`` is taken away.
    """

    audio_config: Mapping[str, Any] | None = None
    voice_config: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None


class ISessions(Protocol):
    """Sessions, beneath REST, gRPC and every transport. Raises everywhere: ``StoreUnavailable``.

    ``user_id`` is who asks: another one's session is not there (``SessionNotFound``). ``None`` is an
    operator, who sees all.
    """

    async def create(
        self, caller: Caller, transport: str, edit: SessionEdit, idempotency_key: str | None
    ) -> tuple[Session, bool]:
        """A new session, ``pending``; and whether it had been made before under the same key.

        Raises: ``BadField``, ``ContextTooBig``, ``IdempotencyMismatch``, ``TooManySessions``.
        """

    async def get(self, user_id: str | None, session_id: str) -> Session:
        """One session. Raises: ``SessionNotFound``."""

    async def edit(self, user_id: str | None, session_id: str, edit: SessionEdit) -> Session:
        """Change a session that is open.

        Raises: ``SessionNotFound``, ``IllegalMove``, ``ContextTooBig``, ``BadField``, ``EditConflict``.
        """

    async def end(self, user_id: str | None, session_id: str) -> Session:
        """End a session and its stream. Raises: ``SessionNotFound``, ``IllegalMove``, ``EditConflict``."""

    async def page(self, query: SessionQuery) -> Sequence[Session]:
        """A page of sessions."""
