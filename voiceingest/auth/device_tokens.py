"""Access tokens of devices: JSON Web Tokens that this daemon signs and verifies itself.

Pure but for what is loaded: the wall clock is an argument. The order is that of :mod:`.tokens`:
size, form, header, key, signature, and only then the claims; the rules are stricter, since nobody
else issues these: every claim is required, and has the one form we give it.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..config import Settings
from ..device_interfaces import Caller
from ..errors import TokenExpired, Unauthenticated
from .device_keys import DeviceKey, DeviceKeys
from .envelope import check_header, members, parts, unpacked
from .refusal import EXPIRED, UNKNOWN_KEY, refusal
from .tokens import Rules, checked_times

ISSUER: Final = "voiceingest"

# RFC 9068 section 2.1: an access token, and nothing else.
_TYPE: Final = "at+jwt"
_TYPES: Final = frozenset({_TYPE})

# 128 random bits in base64url after the word that says of what.
_IDENTIFIERS: Final = {
    name: re.compile(rf"{word}_[A-Za-z0-9_-]{{22}}")
    for name, word in (("sub", "usr"), ("did", "dev"), ("fam", "fam"))
}
_JTI_BYTES: Final = 16


class DeviceTokens:
    """Mints and verifies them with the keys that are loaded."""

    def __init__(self, settings: Settings, read_settings: Callable[[], Settings] | None = None) -> None:
        """``read_settings`` reads the settings again, for a key that was renewed. Raises: ``BadKey``."""
        self._read_settings = read_settings
        self._rules = Rules(leeway_s=settings.jwt_leeway_s)
        self.life_s = int(settings.access_token_s)
        self._keys = DeviceKeys.from_settings(settings)

    def reload(self) -> None:
        """Read the keys again; those in use are kept where the new ones cannot be.

        Raises: ``OperatorError``.
        """
        if self._read_settings is not None:
            self._keys = DeviceKeys.from_settings(self._read_settings())

    def mint(self, user_id: str, device_id: str, family_id: str, now: float) -> str:
        """A token that lives for ``life_s`` seconds from ``now``, which is since the epoch."""
        key = self._keys.signing
        issued_at = int(now)
        header = {"alg": key.algorithm, "typ": _TYPE, "kid": key.kid}
        claims = {
            "iss": ISSUER,
            "sub": user_id,
            "did": device_id,
            "fam": family_id,
            "iat": issued_at,
            "exp": issued_at + self.life_s,
            "jti": _text(secrets.token_bytes(_JTI_BYTES)),
        }
        signed = f"{_packed(header)}.{_packed(claims)}"
        return f"{signed}.{_text(key.sign(signed.encode()))}"

    def verify(self, token: str, now: float) -> Caller:
        """Who brings this token; whether it was revoked is not known here.

        Raises: ``TokenExpired`` for one that was good, ``Unauthenticated`` for everything else.
        """
        head, payload, seal = parts(token)
        key = self._chosen(members(head, "bad_header"))
        signed = token[: len(head) + 1 + len(payload)].encode("ascii")
        if not key.verifies(signed, unpacked(seal)):
            raise refusal("bad_signature")
        return _caller(members(payload, "bad_payload"), self._rules, now)

    def is_ours(self, token: str) -> bool:
        """Whether a token claims to be of a device: of one of our keys, or, where that is gone, of us.

        This decides who is asked, and nothing else: nothing has been verified.
        """
        try:
            head, payload, _ = parts(token)
            kid = members(head, "bad_header").get("kid")
            if isinstance(kid, str) and kid in self._keys.by_kid:
                return True
            claims = members(payload, "bad_payload")
        except Unauthenticated:
            return False
        return claims.get("iss") == ISSUER and "did" in claims and "fam" in claims

    def _chosen(self, header: Mapping[str, Any]) -> DeviceKey:
        """The key the header names. Raises: ``Unauthenticated``."""
        kid = header.get("kid")
        if not isinstance(kid, str):
            raise refusal("bad_kid")
        key = self._keys.by_kid.get(kid)
        if key is None:
            raise refusal(UNKNOWN_KEY)
        # The key says how it is used; a token that says otherwise is an attempt.
        if header.get("alg") != key.algorithm:
            raise refusal("bad_algorithm")
        check_header(header, _TYPES)
        return key


def _caller(claims: Mapping[str, Any], rules: Rules, now: float) -> Caller:
    """Check the claims of a token whose signature holds."""
    if claims.get("iss") != ISSUER:
        raise refusal("issuer")
    user_id, device_id, family_id = (_identifier(claims, name) for name in _IDENTIFIERS)
    if "iat" not in claims:
        raise refusal("no_iat")
    try:
        expires_at = checked_times(claims, rules, now)
    except Unauthenticated as error:
        if error.reason == EXPIRED:
            raise TokenExpired(reason=EXPIRED) from None
        raise
    return Caller(user_id, device_id, family_id, expires_at)


def _identifier(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not _IDENTIFIERS[name].fullmatch(value):
        raise refusal(f"bad_{name}")
    return value


def _packed(part: Mapping[str, Any]) -> str:
    return _text(json.dumps(part, separators=(",", ":")).encode())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
