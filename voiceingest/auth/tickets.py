"""Tickets: what a browser, or a call, brings instead of a token, in the URL of the upgrade.

A ticket may end up in somebody's log, so it is good for one connection and for seconds only,
and what is kept here is its SHA-256: a memory dump gives nothing to redeem.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from ..interfaces import Claims, IClock
from ..limits import TICKETS_MAX_COUNT
from .refusal import refusal

if TYPE_CHECKING:
    from ..metrics import Metrics

# 256 bits, where the OWASP session guidance asks for 128 at least; 43 characters of base64url.
TICKET_BYTES: Final = 32
TICKET_MAX_CHARS: Final = 64


class Tickets:
    """All tickets that are out. Each is bound to the claims it was minted for.

    ``uses`` is how often each may be redeemed within its life: once, or once more where the peer
    tries a failed handshake again; ``spend`` then ends it as soon as it has served.
    Bounded: past ``limits.TICKETS_MAX_COUNT`` the oldest is dropped, and counted. All live
    equally long, so the oldest are always in front, and expiry needs no timer.
    """

    def __init__(self, ttl_s: float, clock: IClock, metrics: Metrics, uses: int = 1) -> None:
        self._ttl_s = ttl_s
        self._uses = uses
        self._clock = clock
        self._metrics = metrics
        self._out: dict[bytes, tuple[float, Claims, int]] = {}

    def __len__(self) -> int:
        return len(self._out)

    def mint(self, claims: Claims) -> str:
        """Make a ticket that stands for ``claims``, ``uses`` times, for ``ttl_s`` seconds."""
        now = self._clock.seconds()
        self._sweep(now)
        if len(self._out) >= TICKETS_MAX_COUNT:
            del self._out[next(iter(self._out))]
            self._metrics.tickets["dropped"] += 1
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        self._out[_digest(ticket)] = (now + self._ttl_s, claims, self._uses)
        self._metrics.tickets["minted"] += 1
        return ticket

    def redeem(self, ticket: str) -> Claims:
        """Take the claims of a ticket; with its last use it is gone.

        Raises: ``Unauthenticated`` for one that was never minted, was used up, dropped or expired.
        """
        now = self._clock.seconds()
        self._sweep(now)
        # What is compared is a digest, so the time it takes tells nothing of the ticket.
        digest = _digest(ticket) if len(ticket) <= TICKET_MAX_CHARS else b""
        found = self._out.get(digest)
        if found is None:
            self._metrics.tickets["refused"] += 1
            raise refusal("ticket")
        expires_at, claims, uses = found
        if uses > 1:
            # Under the same key: it keeps its place among the oldest.
            self._out[digest] = (expires_at, claims, uses - 1)
        else:
            del self._out[digest]
        self._metrics.tickets["redeemed"] += 1
        return claims

    def spend(self, ticket: str) -> None:
        """End a ticket now, whatever uses it has left; one that is gone already stays gone."""
        if len(ticket) <= TICKET_MAX_CHARS:
            self._out.pop(_digest(ticket), None)

    def _sweep(self, now: float) -> None:
        while self._out:
            oldest = next(iter(self._out))
            if self._out[oldest][0] > now:
                return
            del self._out[oldest]
            self._metrics.tickets["expired"] += 1


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).digest()
