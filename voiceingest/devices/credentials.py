"""What a device is given, and what is kept of it: random bits go out, a SHA-256 of them stays.

A digest needs no salt where what is digested has 256 random bits. What a device calls itself has
not: its digest hides it from a glance, not from somebody who tries out every telephone number.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from typing import Final, Literal

from ..errors import BadField

IDENTIFIER_MAX_CHARS: Final = 256

_ID_BYTES: Final = 16
_SECRET_BYTES: Final = 32
_SECRET: Final = re.compile(r"v[dr]_[A-Za-z0-9_-]{43}")

# As the OpenAPI document has it; half a surrogate pair cannot be encoded.
_IDENTIFIER: Final = re.compile(rf"[^\x00-\x1f\x7f\ud800-\udfff]{{1,{IDENTIFIER_MAX_CHARS}}}")

Word = Literal["usr", "dev", "fam"]
Prefix = Literal["vd_", "vr_"]


def new_id(word: Word) -> str:
    """A name nobody has: ``usr_`` and 128 random bits."""
    return f"{word}_{_text(secrets.token_bytes(_ID_BYTES))}"


def new_secret(prefix: Prefix) -> tuple[str, bytes]:
    """A device token (``vd_``) or a refresh token (``vr_``), and what is kept of it."""
    secret = f"{prefix}{_text(secrets.token_bytes(_SECRET_BYTES))}"
    return secret, _digest(secret)


def secret_digest(secret: str, prefix: Prefix) -> bytes | None:
    """What would be kept of a secret that was brought; ``None`` for what cannot be one of ours."""
    if not _SECRET.fullmatch(secret) or not secret.startswith(prefix):
        return None
    return _digest(secret)


def identifier_digest(identifier: str) -> bytes:
    """What is kept of the name a device calls itself by. Raises: ``BadField``."""
    if not _IDENTIFIER.fullmatch(identifier):
        raise BadField(f"a device identifier is 1 to {IDENTIFIER_MAX_CHARS} characters, without controls")
    return hashlib.sha256(b"voiceingest device 1\0" + identifier.encode()).digest()


def same_secret(given: str, wanted: str) -> bool:
    """Compare in a time that tells nothing, not even of the length."""
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, wanted)]
    return hmac.compare_digest(*digests)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
