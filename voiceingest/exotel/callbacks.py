"""Status callbacks of Exotel's: their signed URLs, and which of them came before.

Exotel signs nothing (protocol reference section 1.7), so what it is given to call carries our own
signature. Each call has a URL of its own; the tenant stands in it, so nothing has to be kept until a
callback comes, and with a secret that is set it may come to another process.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from ..auth.refusal import refusal
from ..interfaces import IClock

if TYPE_CHECKING:
    from ..metrics import Metrics

STATUS_PATH: Final = "/api/v1/exotel/status"

# Two events a call: five thousand calls. Exotel tries again within minutes.
REMEMBERED_MAX_COUNT: Final = 10_000
REMEMBERED_S: Final = 3600.0

# The nonce and a tenant of 128 characters, four bytes each, in base64.
_RUN_MAX_CHARS: Final = 1024
_NONCE_BYTES: Final = 16


class Callbacks:
    """Signs and checks the URLs, and remembers what was told.

    ``secret`` is shared by processes that stand in for one another; without one it is random.
    Bounded: past ``REMEMBERED_MAX_COUNT`` the oldest is forgotten, and counted; a callback of it that
    is repeated later still would be told twice.
    """

    def __init__(self, secret: str | None, clock: IClock, metrics: Metrics) -> None:
        self._key = secret.encode() if secret else secrets.token_bytes(32)
        self._clock = clock
        self._metrics = metrics
        self._told: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._told)

    def url(self, base: str, tenant_id: str) -> str:
        """A URL for the callbacks of one call of this tenant."""
        tenant = urlsafe_b64encode(tenant_id.encode("utf-8", "surrogatepass")).decode().rstrip("=")
        run = f"{secrets.token_urlsafe(_NONCE_BYTES)}.{tenant}"
        return f"{base}{STATUS_PATH}?run={quote(run, safe='')}&sig={self._signature(run)}"

    def tenant_of(self, run: str, signature: str) -> str:
        """Return the tenant of a URL that is ours.

        Raises: ``Unauthenticated``.
        """
        known = len(run) <= _RUN_MAX_CHARS
        wanted = self._signature(run if known else "")
        given = signature.encode("utf-8", "surrogatepass")
        if not (hmac.compare_digest(given, wanted.encode()) and known):
            raise refusal("signature")
        tenant = run.partition(".")[2]
        return urlsafe_b64decode(tenant + "=" * (-len(tenant) % 4)).decode("utf-8", "surrogatepass")

    def was_told(self, run: str, call_id: str, event: str) -> bool:
        """Whether this was remembered, and not too long ago."""
        self._sweep()
        return _digest(run, call_id, event) in self._told

    def remember(self, run: str, call_id: str, event: str) -> None:
        """From now on this was told."""
        self._sweep()
        if len(self._told) >= REMEMBERED_MAX_COUNT:
            del self._told[next(iter(self._told))]
            self._metrics.status_callbacks["forgotten"] += 1
        self._told.setdefault(_digest(run, call_id, event), self._clock.seconds() + REMEMBERED_S)

    def _sweep(self) -> None:
        # All are remembered equally long: the oldest are in front, and no timer is needed.
        now = self._clock.seconds()
        while self._told:
            oldest = next(iter(self._told))
            if self._told[oldest] > now:
                return
            del self._told[oldest]

    def _signature(self, run: str) -> str:
        text = run.encode("utf-8", "surrogatepass")
        return hmac.new(self._key, b"exotel-status:" + text, hashlib.sha256).hexdigest()


def _digest(*words: str) -> bytes:
    # Of one size, whatever was told; no word holds a NUL.
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).digest()
