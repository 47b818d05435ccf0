"""What is in a row, as the values the rest of the package knows, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Row

from ..device_interfaces import Device, Family, RefreshToken
from ..errors import ContextTooBig
from ..limits import SESSION_CONFIG_MAX_BYTES, SESSION_CONTEXT_MAX_BYTES
from ..session_interfaces import Session
from ..stream import SessionState
from .tables import CONFIG_MAX_CHARS, CONTEXT_MAX_CHARS

assert CONFIG_MAX_CHARS >= SESSION_CONFIG_MAX_BYTES and CONTEXT_MAX_CHARS >= SESSION_CONTEXT_MAX_BYTES

# The members that are JSON, and what each may take.
_JSON: Final = {
    "audio_config": CONFIG_MAX_CHARS,
    "voice_config": CONFIG_MAX_CHARS,
    "metadata": CONFIG_MAX_CHARS,
    "context": CONTEXT_MAX_CHARS,
}

_SESSION: Final = tuple(member.name for member in fields(Session))


def session_row(session: Session) -> dict[str, Any]:
    """The columns of a session. Raises: ``ContextTooBig`` for JSON that no column has room for."""
    row: dict[str, Any] = {name: getattr(session, name) for name in _SESSION}
    row["status"] = session.status.value
    for name, most in _JSON.items():
        row[name] = _text(row[name])
        if len(row[name]) > most:
            raise ContextTooBig
    return row


def session_of(row: Any) -> Session:
    """The session in a row of its table, whatever else the row has (SQLAlchemy types them by their width)."""
    found: dict[str, Any] = {name: getattr(row, name) for name in _SESSION}
    found["status"] = SessionState(found["status"])
    for name in _JSON:
        found[name] = json.loads(found[name])
    return Session(**found)


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), separators=(",", ":"), allow_nan=False)


def columns(value: Device | Family | RefreshToken) -> dict[str, Any]:
    """The columns of what has one for each of its members."""
    return {member.name: getattr(value, member.name) for member in fields(value)}


def device_of(row: Row[Any], start: int = 0) -> Device:
    """The device whose columns begin at ``start``, in the table's order."""
    (device_id, user_id, created_at, seen_at, identifier, token, revoked_at) = row[start : start + 7]
    return Device(device_id, user_id, created_at, seen_at, bytes(identifier), bytes(token), revoked_at)


def family_of(row: Row[Any], start: int = 0) -> Family:
    """The family whose columns begin at ``start``, in the table's order."""
    return Family(*row[start : start + 6])


def token_of(row: Row[Any], start: int = 0) -> RefreshToken:
    """The refresh token whose columns begin at ``start``, in the table's order."""
    (digest, family_id, device_id, issued_at, expires_at, used_at) = row[start : start + 6]
    return RefreshToken(family_id, device_id, issued_at, expires_at, bytes(digest), used_at)
