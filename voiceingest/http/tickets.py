"""``POST /api/auth/ticket``: a single-use ticket for a browser, which cannot send a header."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from ..auth.bearer import find_credential
from ..auth.refusal import attempt_status
from ..auth.tickets import Tickets
from ..config import Settings
from ..errors import OriginRefused, Unauthenticated
from ..interfaces import Claims, IAuthenticator
from ..metrics import Metrics
from .answers import Answer
from .resource import ApiResource

TICKET_PATH: Final = "/api/auth/ticket"

# How long a browser may keep the answer to a preflight, in seconds.
_PREFLIGHT_AGE_S: Final = 600


class TicketResource(ApiResource):
    """Takes a bearer token, gives a ticket for the same claims: ``{"ticket", "expires_in"}``.

    Pages may call it from the allowed origins only (Fetch standard, section 3.2).
    """

    def __init__(
        self, authenticator: IAuthenticator, tickets: Tickets, settings: Settings, metrics: Metrics
    ) -> None:
        super().__init__(metrics, {"POST": self._mint, "OPTIONS": self._preflight})
        self._authenticator = authenticator
        self._tickets = tickets
        self._origins = frozenset(settings.allowed_origins)
        self._expires_in = settings.ticket_ttl_s

    def _mint(self, request: Request) -> Deferred[Answer]:
        self._allow_origin(request)
        headers = request.requestHeaders.getRawHeaders(b"Authorization", [])
        try:
            credential = find_credential([line.decode("latin-1") for line in headers], [], [])
        except Unauthenticated as error:
            self._metrics.auth_attempts[attempt_status(error)] += 1
            raise

        def mint(claims: Claims) -> Answer:
            ticket = self._tickets.mint(claims)
            return Answer(200, {"ticket": ticket, "expires_in": self._expires_in})

        return self._authenticator.verify(credential.value).addCallback(mint)

    def _preflight(self, request: Request) -> Answer:
        self._allow_origin(request)
        return Answer(
            204,
            headers={
                "Allow": self.allow,
                "Access-Control-Allow-Methods": "POST",
                "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
                "Access-Control-Max-Age": str(_PREFLIGHT_AGE_S),
            },
        )

    def _allow_origin(self, request: Request) -> None:
        """Let the page read the answer, refusals included. Raises: ``OriginRefused``."""
        request.setHeader(b"Vary", b"Origin")
        origins = request.requestHeaders.getRawHeaders(b"Origin", [])
        if not origins:
            return
        if len(origins) > 1 or origins[0].decode("latin-1") not in self._origins:
            raise OriginRefused
        request.setHeader(b"Access-Control-Allow-Origin", origins[0])
        request.setHeader(b"Access-Control-Expose-Headers", b"X-Request-Id, Retry-After")
