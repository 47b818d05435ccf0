"""Why a token is refused, in words. The daemon answers everybody with one constant text; whoever
holds the token and the key may know more.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Final

from ..auth.keys import KeySet
from ..auth.tokens import Rules, verify
from ..errors import Unauthenticated

_WHY: Final = {
    "missing": "there is no token",
    "too_big": "it is longer than 8 KiB",
    "malformed": "it is not a JSON Web Token: three parts of base64url with dots between them",
    "bad_header": "its header is not a JSON object",
    "bad_payload": "its claims are not a JSON object",
    "bad_algorithm": "its algorithm is not one that is accepted",
    "crit": "it demands an extension that is not understood",
    "typ": "its typ is not that of an access token",
    "bad_kid": "its kid is not one that could be a key's name",
    "unknown_key": "no key that is known has its kid and algorithm",
    "wrong_key": "the key is of another kind than its algorithm needs",
    "which_key": "it names no kid and several keys fit",
    "bad_signature": "its signature is not of this key: signed with another key, or changed since",
    "no_exp": "it has no exp, and a token without end is not accepted",
    "expired": "it has expired",
    "not_yet": "it is not valid yet (nbf)",
    "issued_later": "it was issued in the future (iat): compare the clocks",
    "long_lived": "it lives longer than a year",
    "bad_exp": "its exp is not a time in seconds",
    "bad_nbf": "its nbf is not a time in seconds",
    "bad_iat": "its iat is not a time in seconds",
    "issuer": "its iss is not the issuer that is asked for",
    "audience": "its aud does not hold the audience that is asked for",
    "subject": "its sub is not text of at most 255 printable characters",
    "tenant": "its tenant claim is not text of 1 to 128 printable characters",
    "interaction": "its interaction claim is not text of 1 to 128 printable characters",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said about a token; ``header`` and ``claims`` are as it says, true or not."""

    valid: bool
    reason: str | None
    why: str
    header: dict[str, Any]
    claims: dict[str, Any]

    def remaining_s(self, now_s: float) -> float | None:
        """Seconds of life left, negative when it is over; ``None`` when it does not say."""
        expires_at = self.claims.get("exp")
        if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
            return None
        return expires_at - now_s


def judge(token: str, keys: KeySet | None, rules: Rules, now_s: float) -> Verdict:
    """Check ``token`` by the rules of the daemon; without ``keys`` it cannot be valid."""
    header, claims = _members(token, 0), _members(token, 1)
    if keys is None:
        return Verdict(False, "no_key", "there is no key to check its signature with", header, claims)
    try:
        verify(token, keys, rules, now_s)
    except Unauthenticated as refused:
        reason = refused.reason
        return Verdict(False, reason, _WHY.get(reason, reason), header, claims)
    return Verdict(True, None, "", header, claims)


def _members(token: str, part: int) -> dict[str, Any]:
    """What a part of the token says, unverified, for showing; empty when it cannot be read."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        fields = json.loads(base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def in_words(seconds: float) -> str:
    """A length of time for people: ``1 h 59 min``."""
    left = abs(int(seconds))
    for unit, size, below, below_size in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if left >= size:
            return f"{left // size} {unit} {left % size // below_size} {below}"
    return f"{left} s"
