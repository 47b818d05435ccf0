"""Devices, their tokens, sessions and idempotency keys.

The lengths are written out: what a released step makes does not change with the package's limits.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Make the tables."""
    _devices()
    _sessions()


def _devices() -> None:
    op.create_table(
        "devices",
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_seen_at", sa.Double(), nullable=False),
        sa.Column("identifier_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("revoked_at", sa.Double()),
        sa.PrimaryKeyConstraint("device_id", name="devices_pk"),
        sa.UniqueConstraint("user_id", name="devices_user_id_key"),
        sa.UniqueConstraint("identifier_digest", name="devices_identifier_digest_key"),
    )
    op.create_table(
        "families",
        sa.Column("family_id", sa.String(64), nullable=False),
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double()),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("family_id", name="families_pk"),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name="families_device_id_fk", ondelete="CASCADE"
        ),
    )
    op.create_index("families_device_id", "families", ["device_id"])
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("family_id", sa.String(64), nullable=False),
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("issued_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double()),
        sa.PrimaryKeyConstraint("digest", name="refresh_tokens_pk"),
        sa.ForeignKeyConstraint(
            ["family_id"], ["families.family_id"], name="refresh_tokens_family_id_fk", ondelete="CASCADE"
        ),
    )
    op.create_index("refresh_tokens_family_id", "refresh_tokens", ["family_id"])
    op.create_index("refresh_tokens_expires_at", "refresh_tokens", ["expires_at"])


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(256), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("transport", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("device_id", sa.String(64)),
        sa.Column("tenant_id", sa.String(256)),
        sa.Column("interaction_id", sa.String(256)),
        sa.Column("epoch", sa.BigInteger()),
        sa.Column("started_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
        sa.Column("vouched_at", sa.Double()),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("node", sa.String(256), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("audio_config", sa.String(12288), nullable=False),
        sa.Column("voice_config", sa.String(12288), nullable=False),
        sa.Column("metadata", sa.String(12288), nullable=False),
        sa.Column("context", sa.String(147456), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="sessions_pk"),
        sa.UniqueConstraint("tenant_id", "interaction_id", "epoch", name="sessions_stream_key"),
    )
    op.create_index("sessions_ended_at", "sessions", ["ended_at"])
    op.create_index("sessions_of_user", "sessions", ["user_id", "created_at", "session_id"])
    op.create_index("sessions_of_all", "sessions", ["created_at", "session_id"])
    op.create_index("sessions_expiring", "sessions", ["status", "expires_at"])
    op.create_index("sessions_vouched", "sessions", ["status", "vouched_at"])
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.String(256), nullable=False),
        sa.Column("key", sa.String(256), nullable=False),
        sa.Column("request_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key", name="idempotency_keys_pk"),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.session_id"], name="idempotency_keys_session_id_fk", ondelete="CASCADE"
        ),
    )
    op.create_index("idempotency_keys_session_id", "idempotency_keys", ["session_id"])
    op.create_index("idempotency_keys_created_at", "idempotency_keys", ["created_at"])
