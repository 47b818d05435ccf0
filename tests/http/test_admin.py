"""The admin site and the operators' pages on the public one."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families as parse_text
from pydantic import SecretStr

from tests.http.harness import SiteCase
from voiceingest.config import Settings
from voiceingest.gate import Gate
from voiceingest.health import Health
from voiceingest.http.site import make_admin_site, make_public_site
from voiceingest.metrics import FAMILIES, Metrics

TOKEN = "canary-admin-7f3a/+="


class Case(SiteCase):
    """Both sites over one health and one set of metrics."""

    def setUp(self) -> None:
        super().setUp()
        self.metrics = Metrics()
        self.health = Health(self.clock, self.metrics)
        self.reason: str | None = None
        self.health.register("bus", lambda: self.reason)
        self.drained = 0
        self.site = make_admin_site(Settings(), self.clock, self.metrics, self.health, {}, drain=self.drain)

    def drain(self) -> None:
        self.drained += 1
        self.health.drain()

    def public(self, token: str | None) -> None:
        settings = Settings(admin_token=SecretStr(token) if token else None)
        self.site = make_public_site(
            settings, self.clock, self.metrics, self.health, {}, gate=Gate(0, 0), drain=self.drain
        )


class Admin(Case):
    """No token is asked for."""

    def test_metrics(self) -> None:
        self.metrics.frames_received = 42
        response = self.ask("GET", "/metrics")
        self.assertEqual(response.status, 200)
        self.assertTrue(response.headers["content-type"].startswith("text/plain"))
        families = list(parse_text(response.body.decode()))
        self.assertEqual(len(families), len(FAMILIES))
        self.assertIn(b"\ningress_audio_chunks_received_total 42.0\n", response.body)
        self.assert_safe(response)

    def test_openmetrics(self) -> None:
        response = self.ask("GET", "/metrics", "Accept: application/openmetrics-text; version=1.0.0\n")
        self.assertTrue(response.headers["content-type"].startswith("application/openmetrics-text"))
        self.assertTrue(response.body.endswith(b"# EOF\n"))

    def test_a_scrape_measures_the_ones_before(self) -> None:
        self.ask("GET", "/livez")
        body = self.ask("GET", "/metrics").body
        self.assertIn(
            b'http_request_duration_seconds_count{method="GET",route="/livez",status="200"} 1.0', body
        )

    def test_health(self) -> None:
        self.clock.advance(3)
        body = self.ask("GET", "/healthz").json()
        self.assertEqual((body["status"], body["uptime"]), ("ok", 3.0))
        self.assertEqual(body["checks"], {"bus": {"status": "ok"}})
        self.assertGreater(body["memory"]["rss_bytes"], 0)
        self.assertEqual(self.ask("GET", "/readyz").json(), {"status": "ok", "reasons": {}})

    def test_not_ready(self) -> None:
        self.reason = "not connected"
        response = self.ask("GET", "/readyz")
        self.assertEqual(response.status, 503)
        self.assertEqual(response.json(), {"status": "degraded", "reasons": {"bus": "not connected"}})
        self.assertEqual(self.ask("GET", "/healthz").status, 200)
        self.assertEqual(self.ask("GET", "/livez").status, 200)

    def test_drain(self) -> None:
        self.assertEqual(self.ask("GET", "/drain").status, 405)
        response = self.ask("POST", "/drain")
        self.assertEqual((response.status, response.json(), self.drained), (202, {"status": "draining"}, 1))
        ready = self.ask("GET", "/readyz")
        self.assertEqual((ready.status, ready.json()["status"]), (503, "draining"))
        self.assertEqual(ready.headers["retry-after"], "5")

    def test_a_page_of_another_site_cannot_drain(self) -> None:
        for origin in ("https://evil.example", "null", "http://localhost:1", "http://[", "x"):
            self.assert_refused(self.ask("POST", "/drain", f"Origin: {origin}\n"), 403, "origin_refused")
        self.assertEqual(self.drained, 0)
        self.assertEqual(self.ask("POST", "/drain", "Origin: http://localhost\n").status, 202)

    def test_a_name_that_is_made_to_lead_here_shows_and_does_nothing(self) -> None:
        """DNS rebinding: a page of ``evil.example`` is of one origin with what it reaches by that name."""
        settings = Settings(admin_hosts=("Voice.internal",))
        self.site = make_admin_site(settings, self.clock, self.metrics, self.health, {}, drain=self.drain)
        evil = "evil.example"
        for host in (evil, f"{evil}:9464", f"localhost.{evil}", f"127.0.0.1.{evil}", "[x]", ""):
            self.assert_refused(self.ask("POST", "/drain", host=host), 403, "origin_refused")
            # A scraper may know the daemon by any name; there is nobody's word in its figures.
            self.assertEqual(self.ask("GET", "/metrics", host=host).status, 200)
        self.assertEqual(self.drained, 0)
        own = ("localhost", "LOCALHOST:9464", "127.0.0.1:9464", "[::1]:9464", "10.0.0.5", "voice.internal:1")
        for host in own:
            self.assertEqual(self.ask("POST", "/drain", host=host).status, 202)

    def test_all_else_is_404(self) -> None:
        for method in ("GET", "HEAD", "POST", "DELETE", "PUT"):
            response = self.ask(method, "/nothing")
            self.assertEqual(response.status, 404)
        self.assert_refused(self.ask("GET", "/"), 404, "not_found")


class Public(Case):
    """The same pages where callers can reach them."""

    def test_health_says_the_status_only(self) -> None:
        self.public(None)
        self.reason = "redis at 10.0.0.1 refused"
        for path, status in (("/livez", 200), ("/healthz", 200), ("/readyz", 503)):
            response = self.ask("GET", path)
            self.assertEqual((response.status, set(response.json())), (status, {"status"}))

    def test_without_an_admin_token_they_are_not_there(self) -> None:
        self.public(None)
        for path in ("/metrics", "/drain"):
            for headers in ("", "Authorization: Bearer \n", "Authorization: Bearer x\n"):
                self.assert_refused(self.ask("GET", path, headers), 404, "not_found")

    def test_the_right_token(self) -> None:
        self.public(TOKEN)
        self.assertEqual(self.ask("GET", "/metrics", f"Authorization: Bearer {TOKEN}\n").status, 200)
        self.assertEqual(self.ask("POST", "/drain", f"Authorization: bearer {TOKEN}\n").status, 202)
        self.assertEqual(self.ask("PUT", "/drain", f"Authorization: Bearer {TOKEN}\n").status, 405)

    def test_any_other_is_401(self) -> None:
        self.public(TOKEN)
        for headers in (
            "",
            "Authorization: Bearer\n",
            "Authorization: Bearer x\n",
            f"Authorization: Basic {TOKEN}\n",
            f"Authorization: {TOKEN}\n",
            f"Authorization: Bearer {TOKEN[:-1]}\n",
            "Authorization: Bearer \xff\n",
            f"Authorization: Bearer {TOKEN}\nAuthorization: Bearer x\n",
            f"Cookie: token={TOKEN}\n",
        ):
            for method in ("GET", "POST", "DELETE"):
                response = self.ask(method, "/drain", headers)
                self.assert_refused(response, 401, "unauthorized")
                self.assertEqual(response.headers["www-authenticate"], "Bearer")
                self.assertNotIn(TOKEN.encode(), response.body)
        self.assertEqual(self.drained, 0)
        self.assertEqual(self.ask("GET", f"/metrics?token={TOKEN}").status, 401)
