"""``POST /api/auth/ticket``, from servers and from browsers."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed

from tests.http.harness import SiteCase, Wire
from voiceingest.auth.tickets import Tickets
from voiceingest.config import Settings
from voiceingest.errors import KeysUnavailable, Unauthenticated
from voiceingest.gate import Gate
from voiceingest.health import Health
from voiceingest.http.site import make_public_site
from voiceingest.http.tickets import TICKET_PATH, TicketResource
from voiceingest.interfaces import Claims
from voiceingest.metrics import Metrics

CLAIMS = Claims("somebody", "tenant", None, 2_000_000_000.0)
PAGE = "https://app.example.com"


class Authenticator:
    """Knows one token."""

    ready = None

    def __init__(self) -> None:
        self.outcome: Deferred[Claims] | None = None

    def verify(self, token: str) -> Deferred[Claims]:
        """Say yes to ``good``."""
        if self.outcome is not None:
            return self.outcome
        return succeed(CLAIMS) if token == "good" else fail(Unauthenticated())

    def reload(self) -> None:
        """Nothing to read."""


class TicketTests(SiteCase):
    """The resource on the public site."""

    def setUp(self) -> None:
        super().setUp()
        self.metrics = Metrics()
        self.authenticator = Authenticator()
        settings = Settings(allowed_origins=(PAGE,))
        self.tickets = Tickets(settings.ticket_ttl_s, self.clock, self.metrics)
        resource = TicketResource(self.authenticator, self.tickets, settings, self.metrics)
        self.site = make_public_site(
            settings,
            self.clock,
            self.metrics,
            Health(self.clock, self.metrics),
            {TICKET_PATH: resource},
            gate=Gate(0, 0),
            drain=lambda: None,
        )

    def test_a_ticket_for_a_token(self) -> None:
        response = self.ask("POST", TICKET_PATH, "Authorization: Bearer good\n")
        body = response.json()
        self.assertEqual(
            (response.status, set(body), body["expires_in"]), (200, {"ticket", "expires_in"}, 30.0)
        )
        self.assertEqual(self.tickets.redeem(body["ticket"]), CLAIMS)
        with self.assertRaises(Unauthenticated):
            self.tickets.redeem(body["ticket"])
        self.assert_safe(response)
        self.assertNotIn("access-control-allow-origin", response.headers)

    def test_refusals_are_one_answer(self) -> None:
        bodies = set()
        for headers in (
            "",
            "Authorization: Bearer bad\n",
            "Authorization: Basic good\n",
            "Authorization: Bearer good\nAuthorization: Bearer good\n",
            "Authorization: Bearer a b\n",
        ):
            response = self.ask("POST", TICKET_PATH, f"X-Request-Id: r\n{headers}")
            self.assert_refused(response, 401, "unauthorized")
            self.assertEqual(response.headers["www-authenticate"], "Bearer")
            bodies.add(response.body)
        self.assertEqual(len(bodies), 1)
        self.assertEqual(len(self.tickets), 0)
        self.assertEqual(self.metrics.auth_attempts["missing"], 1)

    def test_a_token_or_ticket_in_the_query_is_not_taken(self) -> None:
        self.assertEqual(self.ask("POST", f"{TICKET_PATH}?token=good").status, 401)
        ticket = self.tickets.mint(CLAIMS)
        self.assertEqual(self.ask("POST", f"{TICKET_PATH}?ticket={ticket}").status, 401)

    def test_keys_that_are_still_being_fetched(self) -> None:
        self.authenticator.outcome = Deferred()
        wire = Wire(self.site)
        wire.send(f"POST {TICKET_PATH} HTTP/1.1\nHost: x\nAuthorization: Bearer good")
        self.assertEqual(wire.answers(), [])
        self.authenticator.outcome.errback(KeysUnavailable())
        (response,) = wire.answers()
        self.assert_refused(response, 503, "keys_unavailable")

    def test_other_methods(self) -> None:
        response = self.ask("GET", TICKET_PATH)
        self.assert_refused(response, 405, "method_not_allowed")
        self.assertEqual(response.headers["allow"], "OPTIONS, POST")

    def test_a_preflight_of_an_allowed_page(self) -> None:
        response = self.ask("OPTIONS", TICKET_PATH, f"Origin: {PAGE}\nAccess-Control-Request-Method: POST\n")
        self.assertEqual(response.status, 204)
        self.assertEqual(response.headers["access-control-allow-origin"], PAGE)
        self.assertEqual(response.headers["access-control-allow-methods"], "POST")
        self.assertIn("Authorization", response.headers["access-control-allow-headers"])
        self.assertEqual(response.headers["vary"], "Origin")
        self.assertNotIn("access-control-allow-credentials", response.headers)

    def test_an_allowed_page_can_read_the_answer_and_the_refusal(self) -> None:
        for token in ("good", "bad"):
            response = self.ask("POST", TICKET_PATH, f"Origin: {PAGE}\nAuthorization: Bearer {token}\n")
            self.assertEqual(response.headers["access-control-allow-origin"], PAGE)

    def test_any_other_page_is_refused(self) -> None:
        for origin in (
            "null",
            f"{PAGE}.evil.example",
            f"{PAGE}/",
            PAGE.upper(),
            "https://evil.example",
            "*",
            f"{PAGE}\nOrigin: {PAGE}",
        ):
            for method in ("OPTIONS", "POST"):
                response = self.ask(method, TICKET_PATH, f"Origin: {origin}\nAuthorization: Bearer good\n")
                self.assert_refused(response, 403, "origin_refused")
                self.assertNotIn("access-control-allow-origin", response.headers)
                self.assertEqual(response.headers["vary"], "Origin")
        self.assertEqual(len(self.tickets), 0)
