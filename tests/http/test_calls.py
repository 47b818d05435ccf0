"""The page with the calls there are."""

from __future__ import annotations

from tests.http.harness import SiteCase
from voiceingest.gate import Gate
from voiceingest.http.calls import SESSIONS_PATH, session_routes
from voiceingest.http.resource import Routes
from voiceingest.http.site import GuardedSite
from voiceingest.metrics import Metrics


class SessionsTests(SiteCase):
    def test_it_shows_what_it_is_given_each_time_anew(self) -> None:
        metrics = Metrics()
        shown = [{"total": 0, "sessions": []}, {"total": 1, "sessions": [{"callId": "c"}]}]
        routes = session_routes(lambda: shown.pop(0), metrics)
        self.site = GuardedSite(Routes(metrics, routes), self.clock, metrics, Gate(0, 0), 10.0)
        self.assertEqual(self.ask("GET", SESSIONS_PATH).json(), {"total": 0, "sessions": []})
        self.assertEqual(self.ask("GET", SESSIONS_PATH).json()["sessions"], [{"callId": "c"}])
        self.assertEqual(self.ask("POST", SESSIONS_PATH).status, 405)
