"""Which path is on which site; what the pages say is in ``test_admin``."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from twisted.web.resource import IResource

from voiceingest.config import Settings
from voiceingest.gate import Gate
from voiceingest.health import Health
from voiceingest.http.answers import Answer
from voiceingest.http.public import admin_root, public_root
from voiceingest.http.resource import ApiResource, Routes
from voiceingest.http.site import GuardedSite
from voiceingest.metrics import Metrics

from .harness import SiteCase

TOKEN: Final = "canary-admin-token"
HEALTH: Final = ("/livez", "/readyz", "/healthz")
OPERATORS: Final = ("/metrics", "/drain", "/voicebot/sessions")
AUTHORIZED: Final = f"Authorization: Bearer {TOKEN}\n"


class Case(SiteCase):
    """Sites with one page of their own, ``/page``."""

    def setUp(self) -> None:
        super().setUp()
        self.metrics = Metrics()
        self.health = Health(self.clock, self.metrics)
        self.drained = 0

    def drain(self) -> None:
        """As the daemon's."""
        self.drained += 1

    def use(self, root: Routes) -> None:
        """Ask this one from now on."""
        self.site = GuardedSite(root, self.clock, self.metrics, Gate(0, 0), 10.0)

    def resources(self, path: str = "/page") -> dict[str, IResource]:
        """What a dialect brings."""
        page = ApiResource(self.metrics, {"GET": lambda request: Answer(200, {"page": path})})
        return {path: page}

    def pages(self) -> dict[str, IResource]:
        """What a dialect has for operators."""
        page = ApiResource(self.metrics, {"GET": lambda request: Answer(200, {"sessions": []})})
        return {"/voicebot/sessions": page}

    def public(self, token: str | None, resources: dict[str, IResource] | None = None) -> None:
        """The public site."""
        settings = Settings(admin_token=None if token is None else SecretStr(token))
        given = self.resources() if resources is None else resources
        self.use(public_root(settings, self.metrics, self.health, given, self.pages(), self.drain))

    def statuses(self, *paths: str, headers: str = "") -> list[int]:
        """The status of each path."""
        return [self.ask("GET", path, headers).status for path in paths]


class PublicSite(Case):
    """What anybody can reach."""

    def test_without_an_admin_token(self) -> None:
        self.public(None)
        self.assertEqual(self.statuses("/page", *HEALTH), [200] * 4)
        for headers in ("", AUTHORIZED, "Authorization: Bearer \n", "Authorization: Bearer None\n"):
            self.assertEqual(self.statuses(*OPERATORS, headers=headers), [404, 404, 404])

    def test_with_an_admin_token(self) -> None:
        self.public(TOKEN)
        self.assertEqual(self.statuses("/page", *HEALTH), [200] * 4)
        self.assertEqual(self.statuses(*OPERATORS), [401, 401, 401])
        self.assertEqual(self.statuses(*OPERATORS, headers=AUTHORIZED), [200, 405, 200])
        self.assertEqual(self.ask("POST", "/drain", AUTHORIZED).status, 202)
        self.assertEqual(self.drained, 1)

    def test_the_token_opens_nothing_else(self) -> None:
        """Health says no more to an operator here: the reasons are on the admin site."""
        self.public(TOKEN)
        self.health.register("bus", lambda: "redis at 10.0.0.1 refused")
        for path in HEALTH:
            self.assertEqual(set(self.ask("GET", path, AUTHORIZED).json()), {"status"})
        self.assertEqual(
            self.statuses("/", "/admin", "/metrics/", "/metrics/x", headers=AUTHORIZED), [404] * 4
        )

    def test_one_bad_guess_more_is_counted(self) -> None:
        self.public(TOKEN)
        self.statuses("/metrics", "/drain", headers="Authorization: Bearer guess\n")
        self.assertEqual(self.metrics.errors["unauthorized", "http"], 2)
        self.assertEqual(self.drained, 0)

    def test_a_resource_may_take_a_path_of_ours(self) -> None:
        self.public(None, self.resources("/livez"))
        self.assertEqual(self.ask("GET", "/livez").json(), {"page": "/livez"})

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12))
    def test_no_other_path_leads_to_an_operators_page(self, text: str) -> None:
        self.public(TOKEN)
        for path in OPERATORS:
            answer: Any = self.ask("GET", path + text)
            allowed = {401, 404} if text == "" or text.startswith("?") else {400, 404}
            self.assertIn(answer.status, allowed, path + text)


class AdminSite(Case):
    """What is kept off the network."""

    def test_everything_without_a_token(self) -> None:
        pages = {**self.resources(), **self.pages()}
        self.use(admin_root(Settings(), self.metrics, self.health, pages, self.drain))
        self.assertEqual(self.statuses("/page", *HEALTH, *OPERATORS), [200] * 5 + [405, 200])
        self.assertEqual(self.ask("POST", "/drain").status, 202)
        self.assertEqual(self.drained, 1)

    def test_reasons(self) -> None:
        self.health.register("bus", lambda: "not connected")
        self.use(admin_root(Settings(), self.metrics, self.health, {}, self.drain))
        self.assertEqual(self.ask("GET", "/readyz").json()["reasons"], {"bus": "not connected"})
        self.assertEqual(self.statuses("/page"), [404])
