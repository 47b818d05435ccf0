"""The tables. What changes here needs a migration beside it: a test holds the two against each other.

Times are seconds since the epoch in double precision, as everywhere in the package. JSON is text, in
ASCII: nobody asks for what PostgreSQL's own type would add, and it refuses what JSON allows (``\\u0000``).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from ..limits import IDENTIFIER_MAX_CHARS, SESSION_CONFIG_MAX_BYTES, SESSION_CONTEXT_MAX_BYTES

# A character of two to four bytes is written as \uXXXX, or as two of them: three times its bytes.
CONFIG_MAX_CHARS: Final = 3 * SESSION_CONFIG_MAX_BYTES
CONTEXT_MAX_CHARS: Final = 3 * SESSION_CONTEXT_MAX_BYTES

# Ids of ours are 26 characters; those of callers are as long as the wire takes them.
_ID: Final = String(64)
_NAME: Final = String(2 * IDENTIFIER_MAX_CHARS)
_WORD: Final = String(64)

metadata: Final = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(column_0_name)s_fk",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s",
    }
)


def _within(column: str) -> ForeignKey:
    """Goes when what it belongs to goes."""
    return ForeignKey(column, ondelete="CASCADE")


devices: Final = Table(
    "devices",
    metadata,
    Column("device_id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("last_seen_at", Double, nullable=False),
    Column("identifier_digest", LargeBinary(32), nullable=False, unique=True),
    Column("token_digest", LargeBinary(32), nullable=False),
    Column("revoked_at", Double),
)

families: Final = Table(
    "families",
    metadata,
    Column("family_id", _ID, primary_key=True),
    Column("device_id", _ID, _within("devices.device_id"), nullable=False, index=True),
    Column("user_id", _ID, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("reason", _WORD, nullable=False),
)

refresh_tokens: Final = Table(
    "refresh_tokens",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("family_id", _ID, _within("families.family_id"), nullable=False, index=True),
    Column("device_id", _ID, nullable=False),
    Column("issued_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
    Column("used_at", Double),
)

# ``vouched_at`` is when a process last said that the stream is alive; only active sessions have one.
sessions: Final = Table(
    "sessions",
    metadata,
    Column("session_id", _ID, primary_key=True),
    Column("user_id", _NAME, nullable=False),
    Column("status", String(16), nullable=False),
    Column("transport", _WORD, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("device_id", _ID),
    Column("tenant_id", _NAME),
    Column("interaction_id", _NAME),
    Column("epoch", BigInteger),
    Column("started_at", Double),
    Column("ended_at", Double, index=True),
    Column("vouched_at", Double),
    Column("reason", _WORD, nullable=False),
    Column("node", _NAME, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("audio_config", String(CONFIG_MAX_CHARS), nullable=False),
    Column("voice_config", String(CONFIG_MAX_CHARS), nullable=False),
    Column("metadata", String(CONFIG_MAX_CHARS), nullable=False),
    Column("context", String(CONTEXT_MAX_CHARS), nullable=False),
    Column("version", Integer, nullable=False),
    UniqueConstraint("tenant_id", "interaction_id", "epoch", name="sessions_stream_key"),
    Index("sessions_of_user", "user_id", "created_at", "session_id"),
    Index("sessions_of_all", "created_at", "session_id"),
    Index("sessions_expiring", "status", "expires_at"),
    Index("sessions_vouched", "status", "vouched_at"),
)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("user_id", _NAME, primary_key=True),
    Column("key", _NAME, primary_key=True),
    Column("request_digest", LargeBinary(32), nullable=False),
    Column("session_id", _ID, _within("sessions.session_id"), nullable=False, index=True),
    Column("created_at", Double, nullable=False, index=True),
)
