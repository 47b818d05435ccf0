"""Verification of one bearer token: a JSON Web Token in compact form (RFC 7519, RFC 7515).

Pure: keys, rules and the wall clock are arguments, nothing is fetched; all that is remembered is how a
few headers read.
The order is that of RFC 8725: size, form, header, key, signature, and only then the claims.
The header's ``jku``, ``x5u``, ``jwk`` and ``x5c`` are never looked at.

The signature is PyJWT's to check; the envelope is taken apart by :mod:`.envelope`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from jwt.algorithms import get_default_algorithms

from ..config import Settings
from ..interfaces import Claims
from ..limits import IDENTIFIER_MAX_CHARS
from .envelope import check_header, members, parts, unpacked
from .keys import KeySet
from .refusal import EXPIRED, refusal

# No algorithm that signs with a shared secret, and never ``none``: they cannot even be named.
_VERIFIERS: Final = {
    name: algorithm
    for name, algorithm in get_default_algorithms().items()
    if name in {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"}
}

# RFC 9068 section 2.1 and RFC 7519 section 5.1: an ID token of another ``typ`` is no access token.
_TYPES: Final = frozenset({"jwt", "at+jwt"})

# OpenID Connect Core section 2: ``sub`` has at most 255 characters.
_SUBJECT_MAX_CHARS: Final = 255

# The last second of the year 9999; past it a number is a mistake (milliseconds, mostly).
_LAST_INSTANT_S: Final = 253_402_300_799

# A token that lives longer cannot be got rid of but by changing the key.
TOKEN_MAX_LIFE_S: Final = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token has to fulfil, fixed by the operator and never by the token."""

    algorithms: frozenset[str] = frozenset({"RS256"})
    issuer: str | None = None
    audience: str | None = None
    leeway_s: float = 30.0
    max_life_s: float = TOKEN_MAX_LIFE_S
    tenant_claim: str = "tenant_id"
    interaction_claim: str = "interaction_id"

    @classmethod
    def from_settings(cls, settings: Settings) -> Rules:
        """Take the rules from the settings of the daemon."""
        return cls(
            algorithms=frozenset(settings.jwt_algorithms),
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            leeway_s=settings.jwt_leeway_s,
            tenant_claim=settings.jwt_tenant_claim,
            interaction_claim=settings.jwt_interaction_claim,
        )


def verify(token: str, keys: KeySet, rules: Rules, now: float) -> Claims:
    """Check one token against the loaded keys; ``now`` is in seconds since the epoch.

    Raises: ``Unauthenticated`` with one constant text, whatever the token is; nothing else.
    """
    head, payload, seal = parts(token)
    header = _header(head)
    algorithm = _algorithm(header, rules)
    public = keys.choose(header.get("kid"), algorithm)
    signed = token[: len(head) + 1 + len(payload)].encode("ascii")
    if not _VERIFIERS[algorithm].verify(signed, public, unpacked(seal)):
        raise refusal("bad_signature")
    return _claims(members(payload, "bad_payload"), rules, now)


@lru_cache(maxsize=16)
def _header(head: str) -> Mapping[str, Any]:
    """The header of a token. All tokens of one key have the same, and nothing in it is secret."""
    return members(head, "bad_header")


def _algorithm(header: Mapping[str, Any], rules: Rules) -> str:
    """Check the header and return its algorithm, which is one of those the rules name."""
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in rules.algorithms or algorithm not in _VERIFIERS:
        raise refusal("bad_algorithm")
    check_header(header, _TYPES)
    if "kid" in header and header["kid"] is None:
        raise refusal("bad_kid")
    return algorithm


def _claims(claims: Mapping[str, Any], rules: Rules, now: float) -> Claims:
    """Check the claims of a token whose signature holds."""
    expires_at = checked_times(claims, rules, now)
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise refusal("issuer")
    if rules.audience is not None:
        audience = claims.get("aud")
        if rules.audience not in (audience if isinstance(audience, list) else [audience]):
            raise refusal("audience")
    return Claims(
        subject=_text(claims, "sub", "subject", 0, _SUBJECT_MAX_CHARS) or "",
        tenant_id=_text(claims, rules.tenant_claim, "tenant", 1, IDENTIFIER_MAX_CHARS),
        interaction_id=_text(claims, rules.interaction_claim, "interaction", 1, IDENTIFIER_MAX_CHARS),
        expires_at=expires_at,
    )


def checked_times(claims: Mapping[str, Any], rules: Rules, now: float) -> float:
    """Check ``exp``, ``nbf`` and ``iat`` (RFC 7519 section 4.1) and return ``exp``.

    Raises: ``Unauthenticated``.
    """
    expires_at = _instant(claims, "exp")
    not_before = _instant(claims, "nbf")
    issued_at = _instant(claims, "iat")
    if expires_at is None:
        raise refusal("no_exp")
    if now >= expires_at + rules.leeway_s:
        raise refusal(EXPIRED)
    if not_before is not None and not_before > now + rules.leeway_s:
        raise refusal("not_yet")
    if issued_at is not None and issued_at > now + rules.leeway_s:
        raise refusal("issued_later")
    if expires_at - (now if issued_at is None else issued_at) > rules.max_life_s:
        raise refusal("long_lived")
    return expires_at


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    # The comparison also refuses infinity and NaN, and an integer too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_INSTANT_S:
        raise refusal(f"bad_{name}")
    return float(value)


def _text(claims: Mapping[str, Any], name: str, reason: str, least: int, most: int) -> str | None:
    if name not in claims:
        return None
    value = claims[name]
    # Not printable are control characters, and lone surrogates, which cannot be encoded.
    if not isinstance(value, str) or not least <= len(value) <= most or not value.isprintable():
        raise refusal(reason)
    return value
