"""Resume tokens: what a client brings back to go on with a stream, signed, readable by us alone.

``base64url(JSON) "." base64url(HMAC-SHA256)``. It opens nothing by itself: whoever brings it has been
authenticated, and for the same tenant and interaction. The secret is a setting where several
processes stand in for one another, else random, and then a token is good at the process that made it.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Final

from ..errors import ResumeRefused
from ..stream import ResumeClaim

SECRET_BYTES: Final = 32

_FIELDS: Final[tuple[tuple[str, type], ...]] = (
    ("node", str),
    ("tenant_id", str),
    ("interaction_id", str),
    ("epoch", int),
    ("sample_rate", int),
    ("encoding", str),
    ("next_seq", int),
    ("is_exact", bool),
    ("issued_at", float),
)


class ResumeTokens:
    """Mints and reads them. ``node`` names this process; no other has its name."""

    def __init__(self, secret: str | None, window_s: float, wall_clock: Callable[[], float]) -> None:
        """``window_s`` is how long a stream waits for its client; 0: there are no tokens."""
        self._key = secret.encode() if secret else secrets.token_bytes(SECRET_BYTES)
        self.node = secrets.token_hex(8)
        self.window_s = window_s
        self.now = wall_clock

    def mint(
        self,
        tenant_id: str,
        interaction_id: str,
        epoch: int,
        audio: tuple[int, str],
        next_seq: int,
        *,
        is_exact: bool = False,
    ) -> str:
        """A token for a stream of ``audio`` (sample rate, encoding); see ``ResumeClaim``."""
        values = (
            self.node, tenant_id, interaction_id, epoch, *audio, next_seq, is_exact, float(self.now()),
        )
        payload = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
        return f"{_text(payload)}.{_text(self._sign(payload))}"

    def read(self, token: str) -> ResumeClaim:
        """What a token says. Raises: ``ResumeRefused`` for everything that is not one of ours."""
        if not self.window_s:
            raise ResumeRefused
        try:
            payload, signature = (_bytes(part) for part in token.split("."))
            if not hmac.compare_digest(self._sign(payload), signature):
                raise ResumeRefused
            values = json.loads(payload)
        except (ValueError, binascii.Error):
            raise ResumeRefused from None
        # Signed by us, but perhaps by another version of us.
        if not isinstance(values, list) or len(values) != len(_FIELDS):
            raise ResumeRefused
        if any(type(value) is not kind for value, (_, kind) in zip(values, _FIELDS, strict=True)):
            raise ResumeRefused
        return ResumeClaim(*values)

    def _sign(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, b"voiceingest resume 1\0" + payload, hashlib.sha256)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
