"""What every plain resource does: methods, errors, request ids, lost callers."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.server import Request

from tests.http.harness import SiteCase, Wire
from voiceingest.errors import (
    InternalError,
    RateLimited,
    SettingsError,
    UpgradeRequired,
    VoiceIngestError,
    every_error,
)
from voiceingest.gate import Gate
from voiceingest.http.answers import Answer
from voiceingest.http.resource import ApiResource, Routes
from voiceingest.http.site import GuardedSite
from voiceingest.limits import BODY_MAX_BYTES
from voiceingest.metrics import Metrics

CANARY = "canary-7f3a"


class Case(SiteCase):
    """A site with one resource that does what the test says."""

    def setUp(self) -> None:
        super().setUp()
        self.metrics = Metrics()
        self.error: Exception | None = None
        self.later: Deferred[Answer] | None = None
        page = ApiResource(self.metrics, {"GET": self.page, "POST": self.page})
        root = Routes(self.metrics, {"/page": page})
        self.site = GuardedSite(root, self.clock, self.metrics, Gate(0, 0), 10.0)

    def page(self, request: Request) -> Answer | Deferred[Answer]:
        if self.error is not None:
            raise self.error
        return self.later or Answer(200, {"hello": "world"}, {"X-Own": "1"})


class Methods(Case):
    """405 with Allow for every method that is not in the table, 501 for none."""

    def test_get(self) -> None:
        response = self.ask("GET", "/page?query=1")
        self.assertEqual(
            (response.status, response.json(), response.headers["x-own"]), (200, {"hello": "world"}, "1")
        )
        self.assert_safe(response)

    def test_head_is_get_without_its_body(self) -> None:
        response = self.ask("HEAD", "/page")
        self.assertEqual((response.status, response.body), (200, b""))
        self.assertEqual(response.headers["content-length"], str(len(b'{"hello":"world"}')))

    def test_options_names_the_methods(self) -> None:
        response = self.ask("OPTIONS", "/page")
        self.assertEqual((response.status, response.headers["allow"]), (204, "GET, HEAD, OPTIONS, POST"))
        self.assertNotIn("content-length", response.headers)

    def test_other_methods(self) -> None:
        for method in ("DELETE", "PUT", "PATCH", "TRACE", "CONNECT", "BREW", "get"):
            response = self.ask(method, "/page")
            self.assert_refused(response, 405, "method_not_allowed")
            self.assertEqual(response.headers["allow"], "GET, HEAD, OPTIONS, POST")

    def test_paths_are_matched_byte_for_byte(self) -> None:
        for path in (
            "/",
            "/page/",
            "//page",
            "/./page",
            "/x/../page",
            "/%70age",
            "/page%00",
            "/pagex",
            "*",
            "http://localhost/page",
            "/page;x",
            "/PAGE",
        ):
            self.assert_refused(self.ask("GET", path), 404, "not_found")


class Templates(SiteCase):
    """One segment that stands for an id."""

    def test_a_whole_path_goes_first_and_the_metrics_know_no_id(self) -> None:
        metrics = Metrics()
        shown = [ApiResource(metrics, {"GET": lambda _, n=n: Answer(200, {"n": n})}) for n in range(3)]
        paths = ("/a/{id}", "/a/new", "/a/{id}/end")
        routes = Routes(metrics, dict(zip(paths, shown, strict=True)))
        self.site = GuardedSite(routes, self.clock, metrics, Gate(0, 0), 10.0)
        for path, number in (("/a/x", 0), ("/a/new", 1), ("/a/x_-9/end", 2), ("/a/new/end", 2)):
            self.assertEqual(self.ask("GET", path).json(), {"n": number})
        for path in ("/a/", "/a", "/a/x/", "/a//end", "/a/x.y", "/a/%78", "/a/x/y/end", "/a/{id}", "/a/x\n"):
            self.assertGreaterEqual(self.ask("GET", path).status, 400, path)
        measured = {labels[1] for labels, _ in metrics.http_duration.series()}
        self.assertEqual(measured, {*paths, "unmatched"})


class Errors(Case):
    """Every error of the tree, and our own bugs."""

    def test_every_error_has_its_status_and_code(self) -> None:
        for kind in every_error():
            error = SettingsError([]) if kind is SettingsError else kind()
            if error.http_status == 413:
                continue
            self.error = error
            response = self.ask("GET", "/page")
            self.assert_refused(response, kind.http_status, kind.code)
            self.assertEqual("www-authenticate" in response.headers, kind.http_status == 401)
            self.assertEqual("retry-after" in response.headers, kind.http_status in (429, 503))
            self.assertEqual("upgrade" in response.headers, kind is UpgradeRequired)
            self.assertGreater(self.metrics.errors[kind.code, "http"], 0)

    def test_a_bug_is_logged_once_and_not_told(self) -> None:
        for error in (ValueError(CANARY), KeyError(CANARY), RecursionError(CANARY)):
            self.error = error
            response = self.ask("GET", "/page")
            self.assert_refused(response, 500, "internal")
            self.assertEqual(response.json()["message"], InternalError().message)
            self.assertEqual(len(self.flushLoggedErrors(type(error))), 1)

    def test_a_bug_that_comes_later(self) -> None:
        self.later = Deferred()
        wire = Wire(self.site)
        wire.send("GET /page HTTP/1.1\nHost: x")
        self.assertEqual(wire.answers(), [])
        self.later.errback(ValueError(CANARY))
        (response,) = wire.answers()
        self.assert_refused(response, 500, "internal")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_an_answer_that_cannot_be_written_is_a_bug_too(self) -> None:
        self.later = Deferred()
        self.later.callback(Answer(200, {"object": object()}))
        self.assert_refused(self.ask("GET", "/page"), 500, "internal")
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_a_refusal_that_comes_later(self) -> None:
        self.later = Deferred()
        wire = Wire(self.site)
        wire.send("GET /page HTTP/1.1\nHost: x")
        self.later.errback(RateLimited())
        (response,) = wire.answers()
        self.assert_refused(response, 429, "rate_limited")
        self.assertEqual(response.headers["retry-after"], "5")

    def test_a_large_body(self) -> None:
        for body in (b"x" * (BODY_MAX_BYTES + 1), b""):
            declared = "" if body else f"Content-Length: {BODY_MAX_BYTES + 1}\n"
            response = self.ask("POST", "/page", declared, body)
            self.assertEqual((response.status, response.json()["code"]), (413, "frame_too_big"))
        self.assertEqual(self.ask("POST", "/page", body=b"x" * BODY_MAX_BYTES).status, 200)


class Callers(Case):
    """Request ids, and callers that go away."""

    def test_a_plain_request_id_is_echoed(self) -> None:
        for given in ("abc", "A.b_c-9", "x" * 64):
            self.assertEqual(
                self.ask("GET", "/page", f"X-Request-Id: {given}\n").headers["x-request-id"], given
            )

    def test_any_other_is_replaced(self) -> None:
        for given in ("", "a b", "x" * 65, "a\tb", "{}", "\xe9", "a\nX-Request-Id: b"):
            found = self.ask("GET", "/page", f"X-Request-Id: {given}\n").headers["x-request-id"]
            self.assertRegex(found, r"^[a-z]{20}$")

    def test_each_request_has_its_own(self) -> None:
        found = {self.ask("GET", "/nowhere").headers["x-request-id"] for _ in range(20)}
        self.assertEqual(len(found), 20)

    def test_two_requests_on_one_connection(self) -> None:
        wire = Wire(self.site)
        for _ in range(2):
            wire.send("GET /page HTTP/1.1\nHost: x")
        one, two = wire.answers()
        self.assertEqual((one.status, two.status), (200, 200))
        self.assertNotEqual(one.headers["x-request-id"], two.headers["x-request-id"])

    def test_a_caller_that_is_gone_is_not_answered(self) -> None:
        cancelled: list[object] = []
        self.later = Deferred(cancelled.append)
        wire = Wire(self.site)
        wire.send("GET /page HTTP/1.1\nHost: x")
        wire.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(cancelled, [self.later])
        self.assertEqual(wire.answers(), [])
        labels = [labels for labels, _ in self.metrics.http_duration.series()]
        self.assertEqual(labels, [("GET", "/page", "499")])

    def test_a_cancellation_of_ours_is_still_answered(self) -> None:
        self.later = Deferred()
        wire = Wire(self.site)
        wire.send("GET /page HTTP/1.1\nHost: x")
        self.later.cancel()
        (response,) = wire.answers()
        self.assert_refused(response, 500, "internal")
        self.assertEqual(len(self.flushLoggedErrors()), 1)


class Closing(Case):
    """Whether the connection stays."""

    def test_kept_open_by_default(self) -> None:
        wire = Wire(self.site)
        wire.send("GET /page HTTP/1.1\nHost: x")
        self.assertFalse(wire.transport.disconnecting)

    def test_http_1_0(self) -> None:
        wire = Wire(self.site)
        wire.send("GET /page HTTP/1.0")
        self.assertEqual(wire.answers()[0].status, 200)
        self.assertTrue(wire.transport.disconnecting)


class Tree(SiteCase):
    """The errors that the tree of errors has, not what one test remembers."""

    def test_no_error_over_http_is_a_success(self) -> None:
        for kind in every_error():
            self.assertTrue(issubclass(kind, VoiceIngestError))
            self.assertTrue(400 <= kind.http_status < 600)
