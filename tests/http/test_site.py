"""The site around the resources: what it measures, logs, and how it fails."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.http.harness import SiteCase, Wire
from voiceingest.config import Settings
from voiceingest.errors import Forbidden, Overloaded
from voiceingest.gate import Gate
from voiceingest.health import Health
from voiceingest.http.answers import answer_error
from voiceingest.http.site import GuardedSite, SiteRequest, make_public_site
from voiceingest.metrics import Metrics

CANARY = "canary-7f3a"


class Odd(Resource):
    """A resource that is not one of ours, such as the one for upgrades."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.does: Any = lambda request: b"text"
        self.last: Request | None = None

    def render(self, request: Request) -> Any:
        """Do what the test says."""
        self.last = request
        return self.does(request)


class Case(SiteCase):
    """The public site, with an odd resource on ``/odd``."""

    def setUp(self) -> None:
        super().setUp()
        self.metrics = Metrics()
        self.odd = Odd()
        self.plain = Resource()
        self.plain.isLeaf = True
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.site: GuardedSite = make_public_site(
            Settings(),
            self.clock,
            self.metrics,
            Health(self.clock, self.metrics),
            {"/odd": self.odd, "/plain": self.plain},
            gate=Gate(0, 0),
            drain=lambda: None,
        )

    def measured(self) -> list[tuple[str, ...]]:
        return [labels for labels, _ in self.metrics.http_duration.series()]


class Answers(Case):
    """Whatever a resource does, the caller gets an answer of ours."""

    def test_bytes(self) -> None:
        response = self.ask("GET", "/odd")
        self.assertEqual((response.status, response.body), (200, b"text"))
        self.assert_safe(response)

    def test_an_error_raised(self) -> None:
        self.odd.does = lambda request: (_ for _ in ()).throw(Forbidden())
        self.assert_refused(self.ask("GET", "/odd"), 403, "forbidden")
        self.assertEqual(self.metrics.errors["forbidden", "http"], 1)

    def test_a_bug(self) -> None:
        self.odd.does = lambda request: (_ for _ in ()).throw(ValueError(CANARY))
        response = self.ask("GET", "/odd")
        self.assert_refused(response, 500, "internal")
        self.assertNotIn(CANARY.encode(), response.body)
        (failure,) = self.flushLoggedErrors(ValueError)
        self.assertEqual(str(failure.value), CANARY)
        (event,) = [event for event in self.events if event.get("event") == "http_failed"]
        self.assertEqual(event["request_id"], response.headers["x-request-id"])

    def test_a_bug_after_the_first_byte_cuts_the_connection(self) -> None:
        def half(request: Request) -> bytes:
            request.setHeader(b"content-length", b"9")
            request.write(b"half")
            raise ValueError(CANARY)

        self.odd.does = half
        wire = Wire(self.site)
        wire.send("GET /odd HTTP/1.1\nHost: x")
        self.assertTrue(wire.transport.disconnecting)
        self.assertEqual(wire.transport.value().count(b"HTTP/1.1"), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_stock_resource_answers_405_too(self) -> None:
        for method in ("DELETE", "PUT", "PATCH", "POST", "GET"):
            self.assert_refused(self.ask(method, "/plain"), 405, "method_not_allowed")

    def test_answer_error_for_an_upgrade(self) -> None:
        self.odd.does = lambda request: answer_error(request, Overloaded(), close=True)
        wire = Wire(self.site)
        wire.send("GET /odd HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket")
        (response,) = wire.answers()
        self.assert_refused(response, 503, "too_many_connections")
        self.assertEqual((response.headers["retry-after"], response.headers["connection"]), ("5", "close"))
        self.assertTrue(wire.transport.disconnecting)


class Measures(Case):
    """Durations by method, route template and status; the access event without the query."""

    def test_labels_are_templates(self) -> None:
        for path in ("/odd?a=1", "/odd?a=2", f"/{CANARY}", "/919812345678"):
            self.ask("GET", path)
        self.ask("BREW", "/odd")
        self.assertEqual(
            self.measured(),
            [
                ("GET", "/odd", "200"),
                ("GET", "unmatched", "404"),
                ("other", "/odd", "200"),
            ],
        )

    def test_the_time_until_it_was_answered(self) -> None:
        self.odd.does = lambda request: NOT_DONE_YET
        wire = Wire(self.site)
        wire.send("GET /odd HTTP/1.1\nHost: x")
        self.clock.advance(2.5)
        assert self.odd.last is not None
        self.odd.last.finish()
        ((labels, histogram),) = self.metrics.http_duration.series()
        self.assertEqual((labels, histogram.sum, histogram.count), (("GET", "/odd", "200"), 2.5, 1))

    def test_an_upgrade_is_measured_once(self) -> None:
        self.odd.does = lambda request: NOT_DONE_YET
        wire = Wire(self.site)
        wire.send("GET /odd HTTP/1.1\nHost: x")
        assert isinstance(self.odd.last, SiteRequest)
        self.odd.last.upgraded()
        wire.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.measured(), [("GET", "/odd", "101")])

    def test_the_access_event(self) -> None:
        self.ask("GET", f"/odd?ticket={CANARY}", "X-Request-Id: abc\nAuthorization: Bearer x\n")
        (event,) = [event for event in self.events if event.get("event") == "http_answered"]
        self.assertEqual(
            {name: event[name] for name in ("method", "route", "status", "request_id", "duration_ms")},
            {"method": "GET", "route": "/odd", "status": 200, "request_id": "abc", "duration_ms": 0.0},
        )
        self.assertNotIn(CANARY, str(self.events))


class Protocols(Case):
    """HTTP/1.1 and nothing newer."""

    def test_tls_agrees_on_http_1_1(self) -> None:
        self.assertEqual(self.site.acceptableProtocols(), [b"http/1.1"])

    def test_the_http_2_preface_is_refused(self) -> None:
        wire = Wire(self.site)
        wire.channel.dataReceived(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.assertNotIn(b"HTTP/2", wire.transport.value())
        self.assertTrue(wire.transport.disconnecting)

    def test_no_tracebacks(self) -> None:
        self.assertFalse(self.site.displayTracebacks)

    def test_no_access_log_of_twisted(self) -> None:
        self.site.startFactory()
        self.addCleanup(self.site.stopFactory)
        self.ask("GET", f"/odd?{CANARY}")
        self.assertNotIn(CANARY, str(self.events))

    def test_an_idle_connection_is_closed(self) -> None:
        wire = Wire(self.site)
        wire.send("GET /odd HTTP/1.1\nHost: x")
        self.clock.pump([10.0] * 4)
        self.assertTrue(wire.transport.disconnecting)
