"""Refusals: one class and one text for the peer, a short stable word for the log and metrics."""

from __future__ import annotations

from typing import Final

from ..errors import Unauthenticated

# The words that other code asks for; every other reason is counted as ``invalid``.
MISSING: Final = "missing"
EXPIRED: Final = "expired"
UNKNOWN_KEY: Final = "unknown_key"

_INVALID: Final = "invalid"


def refusal(reason: str) -> Unauthenticated:
    """Make the refusal to raise; ``reason`` never holds anything of the token."""
    return Unauthenticated(reason=reason)


def attempt_status(error: Unauthenticated) -> str:
    """Return the label ``status`` under which ``error`` is counted in ``auth_attempts``."""
    reason = error.reason
    return reason if reason in (MISSING, EXPIRED) else _INVALID
