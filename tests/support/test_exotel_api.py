"""The fake Exotel over real sockets: against our own side of it, and against what Exotel would refuse."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
from pydantic import SecretStr
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.integration.case import asynchronous
from tests.support.case import TestCase
from tests.support.exotel_api import (
    BROKEN,
    LOWER_CASE,
    NO_SID,
    NOT_JSON,
    PLACED,
    STALL,
    FakeExotel,
    Reply,
    busy,
    refusal,
)
from voiceingest.aio import as_deferred, as_future
from voiceingest.auth.calls import CallCredentials
from voiceingest.auth.tickets import Tickets
from voiceingest.config import Settings
from voiceingest.errors import UpstreamBusy, UpstreamFailed, UpstreamRefused, VoiceIngestError
from voiceingest.exotel.api import ExotelApi, problems
from voiceingest.exotel.callbacks import Callbacks
from voiceingest.gate import Gate
from voiceingest.health import Health
from voiceingest.http.exotel import CONNECT_PATH, exotel_routes
from voiceingest.http.site import make_public_site
from voiceingest.metrics import Metrics

NUMBER = "+919876543210"


class Head:
    """An ``IHttpAnswer`` of aiohttp's, read already."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self._body = status, headers, body

    def read(self, max_bytes: int) -> Deferred[bytes]:
        """The body."""
        return as_deferred(asyncio.sleep(0, self._body[:max_bytes]))

    def stream(self, take: Callable[[bytes], None]) -> Deferred[None]:
        """Not wanted here."""
        raise AssertionError


class Http:
    """An ``IHttpClient`` over aiohttp."""

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> Deferred[Any]:
        """Ask."""
        return as_deferred(self._ask(method, url, headers, body, timeout_s))

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> Head:
        # Of silence, once it has been asked.
        limit = aiohttp.ClientTimeout(total=None, sock_read=timeout_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.request(
                    method, url, headers=headers, data=body, allow_redirects=False
                ) as answer,
            ):
                named = {name.lower(): value for name, value in answer.headers.items()}
                return Head(answer.status, named, await answer.read())
        except (TimeoutError, aiohttp.ClientError) as problem:
            raise UpstreamFailed from problem


class Case(TestCase):
    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.exotel = FakeExotel(self)
        self.metrics = Metrics()
        self.published: list[tuple[Any, ...]] = []
        self.fail_to_publish = 0

    def publish(self, *told: Any) -> None:
        if self.fail_to_publish:
            self.fail_to_publish -= 1
            raise RuntimeError("no bus")
        self.published.append(told)

    def build(self, **named: Any) -> None:
        """A public site on a port of its own, and what places calls to it."""
        given = {name.lower(): value for name, value in self.exotel.settings().items()}
        tickets = Tickets(60.0, self.reactor, self.metrics, uses=2)
        callbacks = Callbacks(None, self.reactor, self.metrics)
        plain = Settings(exotel_webhook_token=SecretStr("hook"))
        credentials = CallCredentials(plain, tickets, self.metrics)
        gate, health = Gate(0, 0), Health(self.reactor, self.metrics)
        routes = exotel_routes(
            credentials, tickets, callbacks, self.publish, plain, self.metrics, refuse_new=lambda: False
        )
        site = make_public_site(
            plain, self.reactor, self.metrics, health, routes, gate=gate, drain=lambda: None
        )
        port = self.reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.base = f"http://127.0.0.1:{port.getHost().port}"
        settings = Settings(**(given | {"webhook_base_url": self.base, "exotel_ws_auth": "none"} | named))
        self.assertEqual(problems(settings), [])
        self.tickets = tickets
        self.api = ExotelApi(settings, Http(), tickets, callbacks, self.metrics)

    async def place(self, **named: Any) -> Any:
        return await as_future(self.api.place(NUMBER, **named))

    async def fails(self, error: type[VoiceIngestError]) -> VoiceIngestError:
        with self.assertRaises(error) as caught:
            await self.place()
        for secret in ("98765", "canary"):
            self.assertNotIn(secret, str(caught.exception))
        found: VoiceIngestError = caught.exception
        return found

    async def in_thread(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call what blocks."""
        return await as_future(deferToThread(call, *args, **named))


class PlacingTests(Case):
    @asynchronous
    async def test_a_call_and_what_became_of_it(self) -> None:
        self.build()
        placed = await self.place(tenant_id="acme", custom="order 7")
        (call,) = self.exotel.calls
        self.assertEqual((placed.call_id, placed.status), (call.call_id, "in-progress"))
        self.assertEqual((call.form["From"], call.form["CustomField"]), (NUMBER, "order 7"))
        self.assertTrue(call.stream_url.startswith(self.base.replace("http", "ws") + "/voicebot/ws?"))
        ticket = parse_qs(urlsplit(call.stream_url).query)["ticket"][0]
        self.assertEqual(self.tickets.redeem(ticket).tenant_id, "acme")
        self.assertEqual(await self.in_thread(self.exotel.deliver, call, "answered", "in-progress"), [200])
        for kind in ("application/json", "multipart/form-data", "application/json"):
            told = await self.in_thread(self.exotel.deliver, call, content_type=kind)
            self.assertEqual(told, [200])
        common = ("acme", call.call_id, "call_status")
        ended = {"call_event": "terminal", "status": "completed", "duration_s": 42, "answered_by": "human"}
        answered = {**ended, "call_event": "answered", "status": "in-progress"}
        self.assertEqual(self.published, [(*common, answered), (*common, ended)])
        self.assertEqual(self.exotel.problems, [])

    @asynchronous
    async def test_a_callback_we_could_not_take_comes_again(self) -> None:
        self.build()
        await self.place()
        self.fail_to_publish = 2
        told = await self.in_thread(self.exotel.deliver, self.exotel.calls[0])
        self.assertEqual((told, len(self.published)), ([500, 500, 200], 1))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    @asynchronous
    async def test_into_a_flow(self) -> None:
        self.build(exotel_app_id="926", exotel_number_format="national")
        await self.place()
        (call,) = self.exotel.calls
        self.assertEqual((call.form["From"], call.stream_url), ("09876543210", ""))

    @asynchronous
    async def test_everything_it_may_be_answered(self) -> None:
        self.build(exotel_api_timeout_s=5.0)
        self.exotel.script(LOWER_CASE, PLACED)
        self.assertEqual((await self.place()).call_id, self.exotel.calls[0].call_id)
        self.assertEqual((await self.place()).call_id, self.exotel.calls[1].call_id)
        for reply, error, text in (
            (refusal(400), UpstreamRefused, "(HTTP 400, code 4000)"),
            (refusal(402), UpstreamRefused, "no credit"),
            (refusal(403, 34001), UpstreamRefused, "(HTTP 403, code 34001)"),
            (busy(17), UpstreamBusy, "for a while"),
            (BROKEN, UpstreamFailed, "(HTTP 502)"),
            (NOT_JSON, UpstreamFailed, "names no call"),
            (NO_SID, UpstreamFailed, "names no call"),
            (Reply(302, b"", {"Location": "http://127.0.0.1:1/"}), UpstreamFailed, "(HTTP 302)"),
        ):
            self.exotel.script(reply)
            self.assertIn(text, str(await self.fails(error)))
        self.assertEqual((self.exotel.asked, len(self.exotel.calls), self.exotel.problems), (10, 2, []))

    @asynchronous
    async def test_no_answer(self) -> None:
        self.build(exotel_api_timeout_s=0.2)
        self.exotel.script(STALL)
        await self.fails(UpstreamFailed)
        # Asked once, by a thread that may not have come to it yet: the call is placed all the same.
        while not self.exotel.calls:
            await asyncio.sleep(0.01)
        self.assertEqual((self.exotel.asked, len(self.exotel.calls)), (1, 1))

    @asynchronous
    async def test_wrong_credentials(self) -> None:
        self.build(exotel_api_token=SecretStr("wrong"))
        self.assertIn("(HTTP 401, code 4010): the API key or token", str(await self.fails(UpstreamRefused)))
        self.assertEqual(self.exotel.problems, ["the credentials are wrong"])


class WebhookTests(Case):
    @asynchronous
    async def test_an_applet_finds_its_way(self) -> None:
        self.build()
        status, url = await self.in_thread(self.exotel.resolve, f"{self.base}{CONNECT_PATH}?token=hook")
        self.assertEqual(status, 200)
        self.assertTrue(url.startswith(self.base.replace("http", "ws") + "/voicebot/ws?call_id=c0ffee&"), url)
        self.assertEqual(
            await self.in_thread(self.exotel.resolve, f"{self.base}{CONNECT_PATH}?token=no"), (401, "")
        )


class StrictnessTests(Case):
    """The fake refuses what Exotel would."""

    async def ask(self, path: str | None = None, **changed: str | None) -> tuple[int, str]:
        form = {
            "From": NUMBER, "CallerId": self.exotel.caller_id, "StreamUrl": "wss://a.example/ws?a=b",
            "StreamType": "bidirectional", "StatusCallback": "https://a.example/",
            "StatusCallbackEvents[0]": "terminal", "StatusCallbackContentType": "application/json", **changed,
        }
        settings = self.exotel.settings()
        pair = f"{settings['EXOTEL_API_KEY']}:{settings['EXOTEL_API_TOKEN']}"
        headers = {
            "Authorization": "Basic " + b64encode(pair.encode()).decode(),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = urlencode({name: value for name, value in form.items() if value is not None}).encode()
        url = self.exotel.url + (path or "/v1/Accounts/acme1/Calls/connect.json")
        head = await as_future(Http().request("POST", url, headers=headers, body=body, timeout_s=10))
        return head.status, (await as_future(head.read(65536))).decode()

    @asynchronous
    async def test_fields(self) -> None:
        self.assertEqual((await self.ask())[0], 200)
        flow = "http://my.exotel.com/acme1/exoml/start_voice/1"
        self.assertEqual((await self.ask(Url=flow, StreamUrl=None, StreamType=None))[0], 200)
        for changed in (
            {"From": None}, {"From": "9876543210"}, {"From": "tel:+919876543210"}, {"To": NUMBER},
            {"CallerId": "1"}, {"StreamUrl": "https://a.example"}, {"StreamUrl": None}, {"StreamType": None},
            {"StreamUrl": "wss://a.example/?" + "a=b&" * 3 + "a=b"}, {"StreamUrl": "wss://a/" + "x" * 600},
            {"Url": flow}, {"Url": flow.replace("acme1", "x"), "StreamUrl": None, "StreamType": None},
            {"CustomField": "x" * 129}, {"StatusCallbackEvents[0]": "ended"}, {"StatusCallback": None},
            {"StatusCallbackContentType": "text/xml"},
        ):
            status, body = await self.ask(**changed)
            self.assertEqual(status, 400, changed)
            self.assertEqual(json.loads(body)["RestException"]["Status"], 400)
        self.assertEqual((len(self.exotel.problems), len(self.exotel.calls)), (16, 2))

    @asynchronous
    async def test_paths(self) -> None:
        self.assertIn("<", (await self.ask("/v1/Accounts/acme1/Calls/connect"))[1])
        self.assertEqual((await self.ask("/v1/Accounts/other/Calls/connect.json"))[0], 404)
