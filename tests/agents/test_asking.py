"""A question to somebody else's service, and its refusals."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from tests.support.agents import FakeHttp
from tests.support.case import SynchronousTestCase
from voiceingest.agents.asking import ask, refusal
from voiceingest.call_interfaces import IHttpAnswer
from voiceingest.errors import UpstreamBusy, UpstreamFailed, UpstreamRefused


class AskTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.http = FakeHttp()

    def ask(self) -> Deferred[IHttpAnswer]:
        return ask(self.http, "https://a/b", headers={"X": "y"}, body=b"{}", timeout_s=3)

    def test_what_is_sent(self) -> None:
        asking = self.ask()
        asked = self.http.asked[0]
        self.assertEqual((asked.url, asked.body, asked.timeout_s), ("https://a/b", b"{}", 3))
        self.assertEqual(asked.headers, {"X": "y", "Content-Type": "application/json"})
        asked.answer(200)
        self.assertEqual(self.successResultOf(asking).status, 200)

    def test_a_refusal_is_read_to_its_end_and_not_repeated(self) -> None:
        asking = self.ask()
        asked = self.http.asked[0]
        asked.answer(401)
        self.assertNoResult(asking)
        asked.write(b'{"error":"secret"}')
        asked.end()
        self.assertNotIn("secret", str(self.failureResultOf(asking, UpstreamRefused).value))

    def test_a_refusal_whose_text_is_too_long_or_cut_off_is_one(self) -> None:
        for spoil in (lambda asked: asked.write(bytes(100_000)), lambda asked: asked.fail()):
            asking = self.ask()
            asked = self.http.asked[-1]
            asked.answer(429)
            spoil(asked)
            self.failureResultOf(asking, UpstreamBusy)

    def test_cancelled(self) -> None:
        for refused in (False, True):
            asking = self.ask()
            if refused:
                self.http.asked[-1].answer(500)
            asking.cancel()
            self.failureResultOf(asking, CancelledError)
            self.assertTrue(self.http.asked[-1].is_cancelled)

    def test_statuses(self) -> None:
        for error, statuses in (
            (UpstreamBusy, (408, 425, 429, 503)),
            (UpstreamRefused, (400, 401, 402, 403, 404, 413, 422)),
            (UpstreamFailed, (201, 204, 301, 302, 500, 502, 504)),
        ):
            for status in statuses:
                self.assertIs(type(refusal(status)), error, status)
