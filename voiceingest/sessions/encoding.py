"""A session as JSON, for the cache: what one process writes another one of the same version reads."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any, Final

from ..session_interfaces import Session
from ..stream import SessionState

_FIELDS: Final = frozenset(field.name for field in fields(Session))


def encode_session(session: Session) -> str:
    """Every field, by its name."""
    return json.dumps({**asdict(session), "status": session.status.value}, separators=(",", ":"))


def decode_session(text: str) -> Session:
    """The session. Raises: ``ValueError`` for what another version of the daemon has written."""
    found: Any = json.loads(text)
    if not isinstance(found, dict) or found.keys() != _FIELDS:
        raise ValueError("not a session as this version writes it")
    return Session(**{**found, "status": SessionState(found["status"])})
