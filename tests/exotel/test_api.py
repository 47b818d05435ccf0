"""Placing calls: asked once, counted by what came of it, and nobody named anywhere."""

from __future__ import annotations

import math
from base64 import b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from tests.support.case import SynchronousTestCase
from voiceingest.auth.tickets import Tickets
from voiceingest.config import Settings
from voiceingest.errors import (
    BadField,
    NotFound,
    Unauthenticated,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamRefused,
)
from voiceingest.exotel.api import ExotelApi, problems
from voiceingest.exotel.callbacks import Callbacks
from voiceingest.interfaces import Claims
from voiceingest.metrics import Metrics
from voiceingest.wire.exotel_api import PlacedCall

from .fakes import Answer, Http
from .test_callbacks import signed

NUMBER = "+919876543210"
PLACED = {"Call": {"Sid": "c0ffee00", "Status": "in-progress"}}
COMPLETE: dict[str, Any] = {
    "exotel_account_sid": "acme1",
    "exotel_api_key": SecretStr("canary-key"),
    "exotel_api_token": SecretStr("canary-token"),
    "exotel_caller_id": SecretStr("08012345678"),
    "exotel_ws_auth": "none",
    "webhook_base_url": "https://voice.example.com",
}


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.http, self.metrics = Http(), Metrics()
        self.tickets = Tickets(60.0, Clock(), self.metrics, uses=2)
        self.callbacks = Callbacks(None, Clock(), self.metrics)
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.configure()

    def configure(self, **named: Any) -> None:
        settings = Settings(**(COMPLETE | named))
        self.api = ExotelApi(settings, self.http, self.tickets, self.callbacks, self.metrics)

    def counted(self) -> dict[str, int]:
        return {result: count for result, count in self.metrics.outbound_calls.items() if count}

    def ticket(self) -> str:
        """The ticket that was given away with the last request."""
        return parse_qs(urlsplit(self.http.asked[-1].form["StreamUrl"]).query)["ticket"][0]


class RequestTests(Case):
    def test_straight_to_the_daemon(self) -> None:
        placing = self.api.place(NUMBER, tenant_id="acme", custom="order 7")
        (asked,) = self.http.asked
        self.assertEqual(
            (asked.method, asked.url), ("POST", "https://api.exotel.com/v1/Accounts/acme1/Calls/connect.json")
        )
        pair = b64encode(b"canary-key:canary-token").decode()
        self.assertEqual(asked.headers["Authorization"], f"Basic {pair}")
        self.assertEqual(asked.headers["Content-Type"], "application/x-www-form-urlencoded")
        self.assertEqual(asked.timeout_s, 10.0)
        form = asked.form
        said = (form["From"], form["CallerId"], form["CustomField"])
        self.assertEqual(said, (NUMBER, "08012345678", "order 7"))
        self.assertEqual(form["StreamType"], "bidirectional")
        wanted = "wss://voice.example.com/voicebot/ws?sample-rate=8000&ticket="
        self.assertTrue(form["StreamUrl"].startswith(wanted))
        self.assertNotIn("To", form)
        self.assertEqual(self.tickets.redeem(self.ticket()), Claims("exotel", "acme", None, math.inf))
        self.assertEqual(self.callbacks.tenant_of(*signed(form["StatusCallback"])), "acme")
        asked.answer(PLACED)
        self.assertEqual(self.successResultOf(placing), PlacedCall("c0ffee00", "in-progress"))
        self.assertEqual(self.counted(), {"placed": 1})

    def test_into_a_flow(self) -> None:
        self.configure(exotel_app_id="926", exotel_number_format="national")
        placing = self.api.place(NUMBER)
        form = self.http.asked[0].form
        self.assertEqual(form["Url"], "http://my.exotel.com/acme1/exoml/start_voice/926")
        self.assertEqual(form["From"], "09876543210")
        self.assertNotIn("StreamUrl", form)
        self.assertNotIn("CustomField", form)
        self.assertEqual(len(self.tickets), 0)
        self.assertEqual(self.callbacks.tenant_of(*signed(form["StatusCallback"])), "exotel")
        self.http.asked[0].answer(PLACED)
        self.successResultOf(placing)

    def test_without_a_tenant_it_is_that_of_the_settings(self) -> None:
        self.configure(exotel_tenant_id="house")
        self.api.place(NUMBER)
        self.assertEqual(self.tickets.redeem(self.ticket()).tenant_id, "house")

    def test_where_the_api_is(self) -> None:
        self.configure(exotel_api_url="http://127.0.0.1:8080/", exotel_api_timeout_s=3.0)
        self.api.place(NUMBER)
        asked = self.http.asked[0]
        self.assertEqual(asked.url, "http://127.0.0.1:8080/v1/Accounts/acme1/Calls/connect.json")
        self.assertEqual(asked.timeout_s, 3.0)


class OutcomeTests(Case):
    def fails(self, error: type[Exception], result: str, *, spent: bool) -> Exception:
        """The one request that is waiting is over: the ticket in it is of use, or is not."""
        ticket = self.ticket()
        if spent:
            self.assertRaises(Unauthenticated, self.tickets.redeem, ticket)
        else:
            self.tickets.redeem(ticket)
        self.assertEqual((self.counted(), len(self.http.asked)), ({result: 1}, 1))
        return self.failureResultOf(self.placing, error).value

    def place(self) -> None:
        self.placing = self.api.place(NUMBER)

    def test_refused(self) -> None:
        self.place()
        secret = f"{NUMBER} is on the list canary"
        self.http.asked[0].answer({"RestException": {"Code": 34001, "Message": secret}}, 403)
        error = self.fails(UpstreamRefused, "refused", spent=True)
        self.assertIn("HTTP 403, code 34001", str(error))

    def test_busy(self) -> None:
        self.place()
        self.http.asked[0].answer({}, 429, retry_after="17")
        error = self.fails(UpstreamBusy, "busy", spent=True)
        self.assertEqual(getattr(error, "retry_after_s", None), 17.0)

    def test_a_failure_leaves_open_whether_the_call_comes(self) -> None:
        for status, body in ((500, b"{}"), (200, b"<Call/>"), (200, b"x" * 100_000), (302, b"")):
            self.setUp()
            self.place()
            self.http.asked[0].answer(body, status)
            self.fails(UpstreamFailed, "failed", spent=False)

    def test_no_answer(self) -> None:
        self.place()
        self.http.asked[0].outcome.errback(UpstreamFailed())
        self.fails(UpstreamFailed, "failed", spent=False)

    def test_an_asker_who_went_away(self) -> None:
        self.place()
        self.placing.cancel()
        self.assertEqual(self.http.cancelled, 1)
        self.fails(CancelledError, "cancelled", spent=False)

    def test_what_cannot_be_called(self) -> None:
        for to, custom in (
            ("911", None), ("", None), ("+91\r\n9876543210", None), (NUMBER, "a\r\nb"), (NUMBER, "c" * 129),
        ):
            self.failureResultOf(self.api.place(to, custom=custom), BadField)
        self.assertEqual((self.counted(), self.http.asked, len(self.tickets)), ({"bad": 5}, [], 0))

    def test_nobody_is_named_in_the_log(self) -> None:
        refusal = {"RestException": {"Code": 1, "Message": NUMBER}}
        for status, body in ((200, PLACED), (403, refusal), (500, {})):
            placing = self.api.place(NUMBER, custom="canary-custom")
            self.http.asked[-1].answer(body, status)
            placing.addErrback(lambda _: None)
        written = repr([{k: v for k, v in event.items() if k != "log_source"} for event in self.logged])
        self.assertEqual([event["event"] for event in self.logged], ["call_placed", *["call_not_placed"] * 2])
        for secret in ("98765", "canary", "08012", "c0ffee", "sig=", "ticket"):
            self.assertNotIn(secret, written)


class SettingsTests(Case):
    def test_complete(self) -> None:
        self.assertEqual(problems(Settings(**COMPLETE)), [])
        self.assertEqual(problems(Settings(**(COMPLETE | {"exotel_app_id": "1"}))), [])
        hook = {"exotel_ws_auth": "required", "exotel_webhook_token": SecretStr("hook")}
        self.assertEqual(problems(Settings(**(COMPLETE | hook))), [])

    def test_what_is_missing_is_named(self) -> None:
        for name in COMPLETE.keys() - {"exotel_ws_auth"}:
            left = {key: value for key, value in COMPLETE.items() if key != name}
            self.assertEqual(problems(Settings(**left)), [name])
        for changed, name in (
            ({"exotel_api_key": SecretStr("")}, "exotel_api_key"),
            ({"exotel_ws_auth": "required"}, "voicebot"),
            ({"voicebot": "off"}, "voicebot"),
            ({"voicebot": "off", "exotel_app_id": "1"}, "voicebot"),
            ({"webhook_base_url": "https://a.example/" + "p" * 600}, "webhook_base_url"),
        ):
            self.assertEqual(problems(Settings(**(COMPLETE | changed))), [name])
        self.assertEqual(len(problems(Settings())), 6)

    def test_the_base_may_be_set_in_two_ways(self) -> None:
        left = COMPLETE | {"webhook_base_url": None, "render_external_url": "https://a.example"}
        self.assertEqual(problems(Settings(**left)), [])

    def test_without_them_nobody_is_asked(self) -> None:
        self.configure(exotel_caller_id=None)
        error = self.failureResultOf(self.api.place(NUMBER), NotFound).value
        self.assertEqual(str(error), "these settings are missing: exotel_caller_id")
        self.assertEqual((self.http.asked, len(self.tickets), self.counted()), ([], 0, {"failed": 1}))


class FakeTests(SynchronousTestCase):
    def test_the_fake_client_keeps_to_the_bound(self) -> None:
        self.assertEqual(self.successResultOf(Answer(200, b"abc").read(3)), b"abc")
        self.failureResultOf(Answer(200, b"abc").read(2), UpstreamFailed)
