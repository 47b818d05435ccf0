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
    error = Unauthenticated()
    # The peer gets one constant answer whatever the reason was (RFC 8725 is silent, ASVS 16.5.1
    # asks for it); the word travels beside the text and only logs and metrics read it.
    vars(error)["reason"] = reason
    return error


def reason_of(error: Unauthenticated) -> str:
    """Return why ``error`` was raised, as a short stable word."""
    return str(vars(error).get("reason", _INVALID))


def attempt_status(error: Unauthenticated) -> str:
    """Return the label ``status`` under which ``error`` is counted in ``auth_attempts``."""
    reason = reason_of(error)
    return reason if reason in (MISSING, EXPIRED) else _INVALID
