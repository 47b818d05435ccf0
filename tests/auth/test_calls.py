"""Who may bring calls: every kind of credential, and what only looks like one."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from pydantic import SecretStr
from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.auth.calls import ANY_CALL, CallCredentials
from voiceingest.auth.tickets import Tickets
from voiceingest.config import Settings
from voiceingest.errors import Unauthenticated
from voiceingest.interfaces import Claims
from voiceingest.metrics import Metrics

TOKEN = "canary-ws-token/+=!"
USER, PASSWORD = "exo", "canary: pass wörd"
WEBHOOK = "canary-webhook-token"
FAR, NEAR = "203.0.113.9", "192.0.2.7"
CLAIMS = Claims("exotel", "acme", "call-7", math.inf)


def basic(user: str = USER, password: str = PASSWORD) -> str:
    """The header of RFC 7617."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


EVERYTHING: dict[str, Any] = {
    "exotel_ws_token": SecretStr(TOKEN),
    "exotel_ws_user": USER,
    "exotel_ws_password": SecretStr(PASSWORD),
    "exotel_webhook_token": SecretStr(WEBHOOK),
    "exotel_allowed_ips": ("192.0.2.0/24", "2001:db8::1"),
}


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()
        self.tickets = Tickets(60.0, Clock(), self.metrics, uses=2)
        self.configure(**EVERYTHING)

    def configure(self, **named: Any) -> None:
        self.credentials = CallCredentials(Settings(**named), self.tickets, self.metrics)

    def passes(
        self, authorization: Sequence[str] = (), tickets: Sequence[str] = (), address: str = FAR
    ) -> Claims:
        before = self.metrics.auth_attempts["success"]
        claims = self.credentials.check(address, authorization, tickets)
        self.assertEqual(self.metrics.auth_attempts["success"], before + 1)
        return claims

    def refused(
        self,
        reason: str,
        authorization: Sequence[str] = (),
        tickets: Sequence[str] = (),
        address: str = FAR,
    ) -> None:
        status = "missing" if reason == "missing" else "invalid"
        before = self.metrics.auth_attempts[status]
        with self.assertRaises(Unauthenticated, msg=repr((authorization, tickets))) as caught:
            self.credentials.check(address, authorization, tickets)
        self.assertEqual(caught.exception.reason, reason)
        self.assertEqual(caught.exception.args, ("A valid bearer token is required",))
        self.assertEqual(self.metrics.auth_attempts[status], before + 1)


class UpgradeTests(Case):
    def test_bearer(self) -> None:
        for value in (f"Bearer {TOKEN}", f"bearer   {TOKEN}", f" \tBEARER {TOKEN} \t"):
            self.assertEqual(self.passes([value]), ANY_CALL)

    def test_basic(self) -> None:
        for value in (basic(), basic().replace("Basic", "basic  ")):
            self.assertEqual(self.passes([value]), ANY_CALL)

    def test_who_it_is_for_is_said_elsewhere(self) -> None:
        self.assertEqual(ANY_CALL, Claims("exotel", None, None, math.inf, any_tenant=True))

    def test_an_allowed_address(self) -> None:
        for address in (NEAR, "::ffff:192.0.2.7", "2001:db8::1"):
            self.assertEqual(self.passes(address=address), ANY_CALL)
        for address in (FAR, "2001:db8::2", "unix", "", "192.0.2.7.evil.example"):
            self.refused("missing", address=address)

    def test_a_ticket_twice_and_no_more(self) -> None:
        ticket = self.tickets.mint(CLAIMS)
        self.assertEqual((self.passes(tickets=[ticket]), self.passes(tickets=[ticket])), (CLAIMS, CLAIMS))
        self.refused("ticket", tickets=[ticket])

    def test_a_ticket_and_the_password_of_the_url(self) -> None:
        ticket = self.tickets.mint(CLAIMS)
        self.refused("credential", [basic(password="wrong")], [ticket])
        self.refused("ticket", [basic()], ["wrong"])
        # The wrong password has cost the ticket nothing.
        self.assertEqual(self.passes([basic()], [ticket]), CLAIMS)
        self.assertEqual(self.passes([basic()], [ticket]), CLAIMS)

    def test_two_credentials(self) -> None:
        ticket, bearer = self.tickets.mint(CLAIMS), f"Bearer {TOKEN}"
        for authorization, tickets in (
            ([bearer, bearer], []), ([bearer, basic()], []), ([basic(), basic()], []), ([bearer], [ticket]),
            ([], [ticket, ticket]), ([], [ticket, ""]), ([basic()], [ticket, ticket]), (["", bearer], []),
        ):
            self.refused("two_credentials", authorization, tickets)
        self.passes(tickets=[ticket])

    def test_what_is_brought_and_wrong_is_refused_from_an_allowed_address_too(self) -> None:
        self.refused("credential", ["Bearer wrong"], address=NEAR)
        self.refused("ticket", tickets=["wrong"], address=NEAR)
        self.refused("ticket", tickets=[""], address=NEAR)
        self.refused("bad_scheme", [""], address=NEAR)

    def test_schemes(self) -> None:
        for value in ("", "Bearer", TOKEN, f"Token {TOKEN}", f"Bearer:{TOKEN}", f"Digest {TOKEN}", "basic:x"):
            self.refused("credential" if value == "Bearer" else "bad_scheme", [value])

    def test_a_secret_under_the_other_scheme(self) -> None:
        self.refused("malformed", [f"Basic {TOKEN}"])
        self.refused("credential", ["Bearer " + basic().partition(" ")[2]])

    def test_wrong_secrets(self) -> None:
        for value in (
            "Bearer x", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Bearer {TOKEN.upper()}", "Basic ",
            f"Bearer {TOKEN}, Bearer x", basic(password=""), basic(user=""), basic(USER.upper()),
            "Basic " + b64encode(USER.encode()).decode(), "Bearer \xff\xfe",
        ):
            self.refused("credential", [value])

    def test_what_is_no_base64(self) -> None:
        for value in ("Basic !", "Basic a", "Basic YQ", "Basic YQ==YQ==", "Basic \xff", "Basic YQ==\x00"):
            self.refused("malformed", [value])
        for value in ("Bearer \N{SNOWMAN}", "Basic \ud800"):
            self.refused("malformed", [value])

    def test_too_long(self) -> None:
        for value in ("x" * 100_000, "Basic " + "A" * 100_000, "Bearer " + "a" * 9000):
            self.refused("too_big", [value])
        self.refused("ticket", tickets=["x" * 100_000])

    def test_what_is_not_configured_lets_nobody_in(self) -> None:
        for named in (
            {},
            {"exotel_ws_token": SecretStr("")},
            {"exotel_ws_user": "u", "exotel_ws_password": SecretStr("")},
        ):
            self.configure(**named)
            self.refused("missing")
            for value in ("Bearer ", "Bearer", "Basic ", basic("", ""), basic("u", ""), basic("None", "")):
                self.refused("credential", [value])

    def test_anybody(self) -> None:
        self.configure(exotel_ws_auth="none")
        self.assertEqual(self.passes(), ANY_CALL)
        self.assertEqual(self.passes(address="unix"), ANY_CALL)
        ticket = self.tickets.mint(CLAIMS)
        self.assertEqual(self.passes(tickets=[ticket]), CLAIMS)
        self.refused("credential", ["Bearer x"])

    def test_no_secret_in_any_representation(self) -> None:
        shown = repr(self.credentials) + str(self.credentials)
        for secret in (TOKEN, PASSWORD, WEBHOOK):
            self.assertNotIn(secret, shown)


class WebhookTests(Case):
    def webhook(
        self, tokens: Sequence[str] = (), authorization: Sequence[str] = (), address: str = FAR
    ) -> str:
        try:
            self.credentials.check_webhook(address, authorization, tokens)
        except Unauthenticated as error:
            return error.reason
        return "passes"

    def test_what_passes(self) -> None:
        for tokens, authorization in (
            ([WEBHOOK], []), ([], [f"Bearer {TOKEN}"]), ([], [basic()]), ([WEBHOOK], [basic()]),
        ):
            self.assertEqual(self.webhook(tokens, authorization), "passes")
        self.assertEqual(self.webhook(address=NEAR), "passes")
        self.assertEqual(self.metrics.auth_attempts["success"], 5)

    def test_what_does_not(self) -> None:
        for reason, tokens, authorization in (
            ("missing", [], []), ("credential", [""], []), ("credential", [TOKEN], []),
            ("two_credentials", [WEBHOOK, WEBHOOK], []), ("two_credentials", [WEBHOOK], [f"Bearer {TOKEN}"]),
            ("credential", [WEBHOOK], [basic(password="x")]), ("credential", [WEBHOOK + "x"], [basic()]),
            ("credential", [], [f"Bearer {WEBHOOK}"]), ("too_big", ["x" * 9000], []),
            ("malformed", ["\N{SNOWMAN}"], []),
        ):
            self.assertEqual(self.webhook(tokens, authorization), reason, (tokens, authorization))
        self.assertEqual(self.webhook(["x"], address=NEAR), "credential")

    def test_a_ticket_is_no_webhook_token_and_the_other_way_round(self) -> None:
        ticket = self.tickets.mint(CLAIMS)
        self.assertEqual(self.webhook([ticket]), "credential")
        self.refused("ticket", tickets=[WEBHOOK])

    def test_a_token_of_other_than_ascii_characters(self) -> None:
        self.configure(exotel_webhook_token=SecretStr("wörd"))
        self.assertEqual(self.webhook(["wörd".encode().decode("latin-1")]), "passes")
        self.assertEqual(self.webhook(["wörd"]), "credential")


class PropertyTests(Case):
    @budget(max_examples=200, deadline=None, database=None)
    @given(
        st.lists(st.text(max_size=20) | st.text(max_size=20).map("Basic ".__add__), max_size=2),
        st.lists(st.text(max_size=20), max_size=2),
        st.text(max_size=20),
    )
    def test_a_refusal_and_nothing_else(self, headers: list[str], tickets: list[str], address: str) -> None:
        with self.assertRaises(Unauthenticated):
            self.credentials.check(address, headers, tickets)
        with self.assertRaises(Unauthenticated):
            self.credentials.check_webhook(address, headers, tickets)
