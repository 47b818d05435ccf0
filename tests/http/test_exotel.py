"""What Exotel asks for, and ``POST /call``, on real sites in memory."""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import SecretStr
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from tests.exotel.test_callbacks import signed
from tests.http.harness import Response, SiteCase, Wire
from tests.wire.test_exotel_callback import FLAT, TERMINAL
from tests.wire.test_exotel_fields import MULTIPART, multipart
from voiceingest.auth.calls import CallCredentials
from voiceingest.auth.tickets import Tickets
from voiceingest.config import Settings
from voiceingest.errors import BadField, UpstreamBusy, UpstreamFailed, UpstreamRefused
from voiceingest.exotel.callbacks import Callbacks
from voiceingest.gate import Gate
from voiceingest.health import Health
from voiceingest.http.exotel import CALL_PATH, CONNECT_PATH, STATUS_EVENT, call_routes, exotel_routes
from voiceingest.http.site import make_admin_site, make_public_site
from voiceingest.interfaces import Claims
from voiceingest.limits import BODY_MAX_BYTES
from voiceingest.metrics import Metrics
from voiceingest.wire.exotel_api import PlacedCall

TOKEN = "canary-hook/+="
ADMIN = "canary-admin-token"
ASK = f"{CONNECT_PATH}?token={quote(TOKEN, safe='')}"
JSON = "Content-Type: application/json\n"


class Placer:
    """Places no calls."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.outcome: Deferred[PlacedCall] = Deferred()

    def place(
        self, to: str, *, tenant_id: str | None = None, custom: str | None = None
    ) -> Deferred[PlacedCall]:
        """Keep what is asked."""
        self.asked.append((to, tenant_id, custom))
        return self.outcome


class Case(SiteCase):
    """A public site with everything of Exotel's."""

    def setUp(self) -> None:
        super().setUp()
        self.metrics = Metrics()
        self.published: list[tuple[str, str, str, dict[str, Any]]] = []
        self.publish_error: Exception | None = None
        self.placer = Placer()
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.configure()

    draining = False

    def configure(self, **named: Any) -> None:
        secrets = {"exotel_webhook_token": SecretStr(TOKEN), "admin_token": SecretStr(ADMIN)}
        settings = Settings(**(secrets | named))
        self.tickets = Tickets(60.0, self.clock, self.metrics, uses=2)
        self.callbacks = Callbacks(None, self.clock, self.metrics)
        credentials = CallCredentials(settings, self.tickets, self.metrics)
        health = Health(self.clock, self.metrics)
        routes = exotel_routes(
            credentials, self.tickets, self.callbacks, self.publish, settings, self.metrics,
            refuse_new=lambda: self.draining,
        )  # fmt: skip
        routes |= call_routes(self.placer, self.metrics, settings.admin_token)
        gate = Gate(0, 0, settings.trusted_proxies)
        self.site = make_public_site(
            settings, self.clock, self.metrics, health, routes, gate=gate, drain=lambda: None
        )
        bare = call_routes(self.placer, self.metrics)
        self.admin = make_admin_site(
            settings, self.clock, self.metrics, health, bare, drain=lambda: None
        )

    def publish(self, tenant_id: str, call_id: str, event: str, fields: dict[str, Any]) -> None:
        if self.publish_error is not None:
            raise self.publish_error
        self.published.append((tenant_id, call_id, event, fields))

    def asked(
        self,
        request: str,
        headers: str = "",
        body: bytes = b"",
        *,
        host: str = "localhost",
        peer: str = "192.0.2.1",
    ) -> Response:
        """Make one request from an address, to a host."""
        wire = Wire(self.site, peer)
        length = f"Content-Length: {len(body)}\n" if body else ""
        hosts = f"Host: {host}\n" if host else ""
        wire.send(f"{request} HTTP/1.1\n{hosts}{length}{headers}", body)
        (response,) = wire.answers()
        return response


class ConnectTests(Case):
    def url(self, response: Response) -> tuple[str, dict[str, list[str]]]:
        self.assertEqual(response.status, 200, response.body)
        self.assertEqual(set(response.json()), {"url"})
        self.assert_safe(response)
        parts = urlsplit(response.json()["url"])
        return f"{parts.scheme}://{parts.netloc}{parts.path}", parse_qs(parts.query, keep_blank_values=True)

    def test_as_exotel_asks(self) -> None:
        self.configure(webhook_base_url="https://voice.example.com", voicebot_sample_rate=16000)
        numbers = "CallFrom=09876543210&CallTo=08012345678&Direction=incoming&From=x&To=y"
        response = self.ask("GET", f"{ASK}&CallSid=c0ffee&{numbers}")
        where, query = self.url(response)
        self.assertEqual(where, "wss://voice.example.com/voicebot/ws")
        self.assertEqual((query["call_id"], query["sample-rate"]), (["c0ffee"], ["16000"]))
        self.assertEqual(list(query), ["call_id", "sample-rate", "ticket"])
        # Whose call it is, its custom parameters may say.
        anybodys = Claims("exotel", None, "c0ffee", math.inf, any_tenant=True)
        self.assertEqual(self.tickets.redeem(query["ticket"][0]), anybodys)
        self.assertEqual(self.metrics.webhooks["answered"], 1)

    def test_no_url_of_a_daemon_that_will_not_take_the_call(self) -> None:
        self.draining = True
        response = self.ask("GET", f"{ASK}&CallSid=c-1")
        self.assertEqual((response.status, response.json()["code"]), (503, "draining"))
        # Whether it drains is nobody's affair who may not ask.
        self.assertEqual(self.ask("GET", CONNECT_PATH).status, 401)

    def test_who_is_refused_is_in_the_log_with_the_reason_and_nothing_else(self) -> None:
        self.ask("GET", f"{CONNECT_PATH}?token=canary-guess&CallSid=c-1")
        self.ask("GET", f"{ASK}&CallSid=c%0a1")
        self.ask("POST", "/api/v1/exotel/status?run=canary&sig=canary")
        told = [(event["event"], event["reason"]) for event in self.logged if "reason" in event]
        self.assertEqual([event for event, _ in told], ["webhook_refused"] * 2 + ["status_callback_refused"])
        self.assertNotIn("canary", str(self.logged))

    def test_an_applet_whose_url_names_its_tenant(self) -> None:
        _, query = self.url(self.ask("GET", f"{ASK}&CallSid=c-1&tenant=acme&tenant_id=exotels-own"))
        self.assertEqual(self.tickets.redeem(query["ticket"][0]), Claims("exotel", "acme", "c-1", math.inf))
        for bad in ("%7Bx%7D", "a%0Ab", "x" * 129):
            response = self.ask("GET", f"{ASK}&CallSid=c-1&tenant={bad}")
            self.assertEqual((response.status, response.json()["code"]), (400, "bad_field"), bad)

    def test_whatever_carries_the_call_id(self) -> None:
        form = "Content-Type: application/x-www-form-urlencoded\n"
        for request, headers, body in (
            (f"GET {ASK}&call_sid=c-1", "", b""),
            (f"GET {ASK}&callsid=c-1", "", b""),
            (f"POST {ASK}&CallSid=c-1", "", b""),
            (f"POST {ASK}", form, b"From=1&CallSid=c-1"),
            (f"POST {ASK}", JSON, b'{"call_sid":"c-1","Legs":[]}'),
            (f"POST {ASK}", f"Content-Type: {MULTIPART}\n", multipart(("CallSid", "c-1"))),
            (f"POST {ASK}&CallSid=c-1", JSON, b'{"CallSid":"c-1"}'),
        ):
            _, query = self.url(self.asked(request, headers, body))
            self.assertEqual(query["call_id"], ["c-1"])

    def test_without_a_call_id(self) -> None:
        for request in (f"GET {ASK}", f"GET {ASK}&CallSid=", f"POST {ASK}"):
            _, query = self.url(self.asked(request))
            self.assertNotIn("call_id", query)
            self.assertEqual(self.tickets.redeem(query["ticket"][0]).interaction_id, None)

    def test_call_ids_that_are_none(self) -> None:
        for given in (
            "a%0d%0ab", "a%20b", "%7Btenant_id%7D", "%00", "%ff", "x" * 129, "a/b", "%c3%a9", "a&CallSid=b",
        ):
            self.assert_refused(self.asked(f"GET {ASK}&CallSid={given}"), 400, "bad_field")
        self.assert_refused(self.asked(f"POST {ASK}&CallSid=a", JSON, b'{"CallSid":"b"}'), 400, "bad_field")
        self.assertEqual((self.metrics.webhooks["bad"], len(self.tickets)), (10, 0))

    def test_bodies_that_are_none(self) -> None:
        deep = b"[" * 60_000
        for headers, body, status, code in (
            (JSON, deep, 400, "bad_json"),
            (JSON, b"[]", 400, "bad_json"),
            ("", b"x", 400, "bad_field"),
            (f"{JSON}{JSON}", b"{}", 400, "bad_field"),
            (JSON, b'{"a":"' + b"x" * BODY_MAX_BYTES + b'"}', 413, "frame_too_big"),
        ):
            response = self.asked(f"POST {ASK}", headers, body)
            self.assertEqual((response.status, response.json()["code"]), (status, code))

    def test_who_may_not(self) -> None:
        bodies = set()
        wrong = quote(TOKEN[:-1], safe="")
        for path, headers in (
            (CONNECT_PATH, ""), (f"{CONNECT_PATH}?token=", ""), (f"{CONNECT_PATH}?token={wrong}", ""),
            (f"{ASK}&token={wrong}", ""), (f"{ASK}&token={quote(TOKEN, safe='')}", ""),
            (ASK, f"Authorization: Bearer {TOKEN}\n"), (CONNECT_PATH, f"Authorization: Bearer {TOKEN}\n"),
            (CONNECT_PATH, "Authorization: Basic !\n"), (f"{CONNECT_PATH}?Token={quote(TOKEN, safe='')}", ""),
            (f"{CONNECT_PATH}?token=%ff%00", ""),
        ):
            response = self.ask("GET", path, f"X-Request-Id: r\n{headers}")
            self.assert_refused(response, 401, "unauthorized")
            bodies.add(response.body)
        self.assertEqual((len(bodies), len(self.tickets)), (1, 0))
        self.assertEqual(self.metrics.webhooks["refused"], 10)
        self.assertEqual(self.metrics.auth_attempts["missing"], 2)

    def test_a_token_in_the_body_is_none(self) -> None:
        response = self.asked(f"POST {CONNECT_PATH}", JSON, json.dumps({"token": TOKEN}).encode())
        self.assert_refused(response, 401, "unauthorized")

    def test_an_allowed_address(self) -> None:
        self.configure(exotel_allowed_ips=("198.51.100.0/24",), trusted_proxies=("10.0.0.1",))
        self.url(self.asked(f"GET {CONNECT_PATH}", peer="198.51.100.7"))
        through = "X-Forwarded-For: 203.0.113.1, 198.51.100.7\n"
        self.url(self.asked(f"GET {CONNECT_PATH}", through, peer="10.0.0.1"))
        for headers, peer in (
            (through, "203.0.113.1"),
            ("X-Forwarded-For: 198.51.100.7, 203.0.113.1\n", "10.0.0.1"),
            ("", "10.0.0.1"),
        ):
            self.assert_refused(self.asked(f"GET {CONNECT_PATH}", headers, peer=peer), 401, "unauthorized")

    def test_a_proxy_may_bring_many_callers_on_one_connection(self) -> None:
        self.configure(exotel_allowed_ips=("198.51.100.7",), trusted_proxies=("10.0.0.1",))
        wire = Wire(self.site, "10.0.0.1")
        for address, status in (("198.51.100.7", 200), ("203.0.113.1", 401), ("198.51.100.7", 200)):
            wire.send(f"GET {CONNECT_PATH} HTTP/1.1\nHost: a\nX-Forwarded-For: {address}")
            self.assertEqual([response.status for response in wire.answers()], [status])

    def test_the_host_of_the_request(self) -> None:
        for host, peer, where in (
            ("voice.example.com", "192.0.2.1", "wss://voice.example.com/voicebot/ws"),
            ("voice.example.com:8443", "127.0.0.1", "wss://voice.example.com:8443/voicebot/ws"),
            ("127.0.0.1:8080", "127.0.0.1", "ws://127.0.0.1:8080/voicebot/ws"),
            ("127.0.0.1:8080", "192.0.2.1", "wss://127.0.0.1:8080/voicebot/ws"),
        ):
            found, _ = self.url(self.asked(f"GET {ASK}", host=host, peer=peer))
            self.assertEqual(found, where)

    def test_forwarded_hosts_are_not_believed(self) -> None:
        self.configure(trusted_proxies=("10.0.0.1",))
        smuggled = "X-Forwarded-Host: evil.example\nX-Forwarded-Proto: http\nForwarded: host=evil.example\n"
        found, _ = self.url(self.asked(f"GET {ASK}", smuggled, host="voice.example.com", peer="10.0.0.1"))
        self.assertEqual(found, "wss://voice.example.com/voicebot/ws")

    def test_hosts_that_are_none(self) -> None:
        for host in (
            "evil.example/x?", "a b", "u:p@evil.example", "a\nHost: b", "evil.example#", "a\\b", "[", "a:b",
            '"a"', "", "\x85", "a%0d%0a", "a,b",
        ):
            response = self.asked(f"GET {ASK}", host=host)
            self.assertEqual((response.status, response.json()["code"]), (400, "bad_request"), host)
            self.assertNotIn(b"evil", response.body)
        self.assertEqual(len(self.tickets), 0)

    def test_other_methods(self) -> None:
        response = self.ask("PUT", ASK)
        self.assert_refused(response, 405, "method_not_allowed")
        self.assertEqual(response.headers["allow"], "GET, HEAD, OPTIONS, POST")

    def test_nothing_of_it_is_logged(self) -> None:
        self.asked(f"GET {ASK}&CallSid=canary-call&From=09876543210")
        self.asked(f"GET {ASK}&CallSid=canary%20call")
        self.asked(f"GET {CONNECT_PATH}?token=canary-wrong")
        self.assertNotIn("canary", repr([{k: str(v) for k, v in event.items()} for event in self.logged]))


class StatusTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.callbacks.url("", "acme")

    def tell(self, body: bytes, content_type: str = "application/json", path: str | None = None) -> Response:
        return self.ask("POST", path or self.path, f"Content-Type: {content_type}\n", body)

    def event(self, **changed: Any) -> Response:
        return self.tell(json.dumps(TERMINAL | changed).encode())

    def counted(self) -> dict[str, int]:
        return {result: count for result, count in self.metrics.status_callbacks.items() if count}

    def test_it_is_published_once(self) -> None:
        for _ in range(3):
            response = self.event()
            self.assertEqual((response.status, response.json()), (200, {"status": "ok"}))
        fields = {"call_event": "terminal", "status": "completed", "duration_s": 320, "answered_by": "human"}
        self.assertEqual(self.published, [("acme", "c0ffee00", STATUS_EVENT, fields)])
        self.assertEqual(self.counted(), {"new": 1, "repeated": 2})

    def test_whatever_it_is_written_in(self) -> None:
        self.event()
        self.assertEqual(self.tell(multipart(*FLAT), MULTIPART).status, 200)
        self.assertEqual(self.counted(), {"new": 1, "repeated": 1})

    def test_each_event_of_each_call_of_each_run(self) -> None:
        self.event()
        self.event(EventType="answered")
        self.event(CallSid="other")
        self.path = self.callbacks.url("", "acme")
        self.event()
        self.assertEqual((len(self.published), self.counted()), (4, {"new": 4}))

    def test_the_least(self) -> None:
        self.tell(b'{"CallSid":"c","Status":"busy"}')
        self.assertEqual(
            self.published, [("acme", "c", "call_status", {"call_event": "terminal", "status": "busy"})]
        )

    def test_no_number_is_published(self) -> None:
        self.event(CustomField="9876543210", Status="9876543210", EventType="+919876543210")
        self.assertEqual(len(self.published), 1)
        self.assertNotIn("876543210", repr(self.published))

    def test_signatures_that_are_none(self) -> None:
        run, signature = signed(self.path)
        other_run, _ = signed(self.callbacks.url("", "other"))
        base = self.path.partition("?")[0]
        for query in (
            "", f"run={run}", f"sig={signature}", f"run={run}&sig=", f"run={other_run}&sig={signature}",
            f"run={run}&sig={signature}&sig={signature}", f"run={run}&run={run}&sig={signature}",
            f"run={run}A&sig={signature}", "run=%ff&sig=%ff", f"run={run}&sig={signature[:-1]}",
        ):
            response = self.tell(json.dumps(TERMINAL).encode(), path=f"{base}?{query}")
            self.assert_refused(response, 401, "unauthorized")
        self.assertEqual((self.published, self.counted()), ([], {"refused": 10}))

    def test_bodies_that_are_none(self) -> None:
        for body, content_type in (
            (b"", ""), (b"", "application/json"), (b"{}", "application/json"),
            (b"[" * 60_000, "application/json"), (b'{"CallSid":"a\\r\\nb"}', "application/json"),
            (b"CallSid=c", "text/plain"), (b"--xyz", MULTIPART),
            (b"&" * 5000, "application/x-www-form-urlencoded"),
        ):
            self.assertEqual(self.tell(body, content_type).status, 400, body[:20])
        self.assertEqual((self.published, self.counted()), ([], {"bad": 8}))
        self.assertEqual(self.tell(b" " * (BODY_MAX_BYTES + 1)).status, 413)
        self.assertEqual(self.ask("GET", self.path).status, 405)

    def test_a_failure_of_ours_is_told_again(self) -> None:
        self.publish_error = RuntimeError("no bus")
        self.assertEqual(self.event().status, 500)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.publish_error = None
        self.assertEqual(self.event().status, 200)
        self.assertEqual((len(self.published), self.counted()), (1, {"new": 1}))


class CallTests(Case):
    def call(self, body: bytes, headers: str = "", *, admin: bool = True) -> Response:
        return self.ask("POST", CALL_PATH, headers, body, self.admin if admin else self.site)

    def placing(self, headers: str = "") -> Wire:
        """A request that waits for its call."""
        body = b'{"to":"+919876543210","tenant_id":"acme","custom":"order 7"}'
        wire = Wire(self.admin)
        wire.send(f"POST {CALL_PATH} HTTP/1.1\nHost: localhost\nContent-Length: {len(body)}\n{headers}", body)
        return wire

    def test_placed(self) -> None:
        wire = self.placing()
        self.assertEqual((wire.answers(), self.placer.asked), ([], [("+919876543210", "acme", "order 7")]))
        self.placer.outcome.callback(PlacedCall("c0ffee00", "queued"))
        (response,) = wire.answers()
        expected = {"call_id": "c0ffee00", "status": "queued"}
        self.assertEqual((response.status, response.json()), (202, expected))
        self.assert_safe(response)

    def test_not_placed(self) -> None:
        for error, status, code in (
            (BadField("to is a telephone number"), 400, "bad_field"),
            (UpstreamRefused("Exotel has refused the call (HTTP 403)"), 502, "upstream_refused"),
            (UpstreamFailed(), 502, "upstream_failed"),
            (UpstreamBusy(retry_after_s=17.0), 503, "upstream_busy"),
        ):
            self.placer.outcome = Deferred()
            wire = self.placing()
            self.placer.outcome.errback(error)
            (response,) = wire.answers()
            self.assert_refused(response, status, code)
            self.assertEqual(response.headers.get("retry-after"), "17" if status == 503 else None)

    def test_an_asker_who_goes_away(self) -> None:
        cancelled: list[Deferred[Any]] = []
        self.placer.outcome = Deferred(cancelled.append)
        wire = self.placing()
        wire.channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])

    def test_bodies_that_are_none(self) -> None:
        for body, code in (
            (b"", "bad_json"), (b"[]", "bad_json"), (b"{", "bad_json"), (b"\xff", "bad_json"),
            (b"[" * 60_000, "bad_json"), (b"{}", "bad_field"), (b'{"to":7}', "bad_field"),
            (b'{"to":""}', "bad_field"), (b'{"to":null}', "bad_field"),
            (b'{"to":"+1","tenant":"x"}', "bad_field"), (b'{"to":"+1","tenant_id":"a\\nb"}', "bad_field"),
            (b'{"to":"+1","tenant_id":"{x}"}', "bad_field"), (b'{"to":"+1","custom":["x"]}', "bad_field"),
            (b'{"to":"' + b"9" * 129 + b'"}', "bad_field"),
        ):
            self.assert_refused(self.call(body), 400, code)
        self.assertEqual((self.placer.asked, self.metrics.outbound_calls["bad"]), ([], 14))
        self.assertEqual(self.call(b" " * (BODY_MAX_BYTES + 1)).status, 413)
        self.assertEqual(self.ask("GET", CALL_PATH, site=self.admin).status, 405)

    def test_a_page_of_another_site_calls_nobody(self) -> None:
        for origin in ("https://evil.example", "null", "http://localhost:1"):
            response = self.call(b'{"to":"+919876543210"}', f"Origin: {origin}\n")
            self.assert_refused(response, 403, "origin_refused")
        self.assertEqual(self.placer.asked, [])

    def test_on_the_public_site_for_the_admin_token_only(self) -> None:
        body = b'{"to":"+919876543210"}'
        for headers in (
            "",
            "Authorization: Bearer x\n",
            f"Authorization: Bearer {TOKEN}\n",
            f"Cookie: a={ADMIN}\n",
        ):
            self.assert_refused(self.call(body, headers, admin=False), 401, "unauthorized")
        self.assertEqual(self.placer.asked, [])
        self.placer.outcome.callback(PlacedCall("c", "queued"))
        response = self.call(body, f"Authorization: Bearer {ADMIN}\n", admin=False)
        self.assertEqual((response.status, self.placer.asked), (202, [("+919876543210", None, None)]))
