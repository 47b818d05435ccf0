"""Tokens that lapse while the stream lives, callers that say nothing, and browsers."""

from __future__ import annotations

import json
import time

from .callers import audio_of
from .case import IngestCase, asynchronous

ORIGIN = "https://app.example.com"


class ExpiryTests(IngestCase):
    """Clocks are real here: a token of some seconds, with time for what comes before and after."""

    @asynchronous
    async def test_a_token_that_lapses(self) -> None:
        daemon = await self.start_daemon(
            JWT_LEEWAY_S="0", AUTH_EXPIRING_LEAD_S="3", RESUME_WINDOW_S="0.5"
        )
        consumer = await self.consume()
        exp = time.time() + 6.0
        token = self.issuer.token(exp=exp)
        lapsing, renewed = await self.call(daemon, token), await self.call(daemon, token)
        for caller, interaction_id in ((lapsing, "lapse-1"), (renewed, "renew-1")):
            await caller.start(interaction_id)
            caller.audio(audio_of(0))
        for caller in (lapsing, renewed):
            expiring = await caller.event("auth_expiring")
            self.assertTrue(0.2 < expiring["expires_in_s"] <= 3.0, expiring)
            caller.audio(audio_of(1))
        for refused in (
            "a.b.c",
            self.issuer.token(tenant_id="t2"),
            self.issuer.token(interaction_id="other"),
        ):
            renewed.say("auth", token=refused)
            self.assertEqual(await renewed.error(), "token_refused")
        renewed.say("auth", token=self.issuer.token(lifetime_s=1000))
        authenticated = await renewed.event("authenticated")
        self.assertTrue(900 < authenticated["expires_in_s"] <= 1000, authenticated)

        self.assertEqual(await lapsing.closed(), 4401)
        self.assertTrue(-0.05 < time.time() - exp < 5.0, time.time() - exp)
        self.assertEqual([error["code"] for error in lapsing.events("error")], ["token_expired"])
        stopped = await consumer.event("lapse-1", "stopped")
        # It could have come back with a fresh token.
        self.assertEqual((stopped["reason"], stopped["published"]), ("disconnected", 2))
        self.assert_published(consumer, "lapse-1", [audio_of(0), audio_of(1)])

        renewed.audio(audio_of(2))
        self.assertEqual(((await renewed.stop())["published"], renewed.close_code), (3, 1000))
        await consumer.event("renew-1", "stopped")
        self.assert_published(consumer, "renew-1", [audio_of(number) for number in range(3)])
        # The same token opens nothing any more.
        again = await self.connect(daemon, Authorization=f"Bearer {token}")
        self.assertEqual(again.status, 401)

    @asynchronous
    async def test_silence(self) -> None:
        daemon = await self.start_daemon(
            PUBLISH_URL="memory://", START_TIMEOUT_S="2", IDLE_TIMEOUT_S="4",
            PING_INTERVAL_S="0.5", PING_TIMEOUT_S="2",
        )  # fmt: skip
        began = time.monotonic()
        mute, idle, alive = [await self.call(daemon) for _ in range(3)]
        await idle.start("idle-1")
        await alive.start("alive-1")
        idle.audio(audio_of(0))
        self.assertEqual(await mute.closed(), 4408)
        self.assertEqual(mute.events("error")[0]["code"], "start_timeout")
        self.assertTrue(1.95 < time.monotonic() - began < 8.0)
        alive.audio(audio_of(0))
        self.assertEqual(await idle.closed(), 4408)
        self.assertEqual(idle.events("error")[0]["code"], "idle_timeout")
        alive.audio(audio_of(1))
        self.assertEqual((await alive.stop())["published"], 2)
        # One whose machine has gone: it takes pings and answers none.
        gone = await self.call(daemon)
        await gone.start("gone-1")
        gone.send = lambda data: None  # type: ignore[method-assign]
        self.assertIsNone(await gone.closed())
        self.assertIn('voiceingest_close_codes_total{code="4408"} 3', await self.metrics(daemon))


class BrowserTests(IngestCase):
    """A browser can send no header of its own, and always sends its origin."""

    @asynchronous
    async def test_tickets_and_subprotocols(self) -> None:
        daemon = await self.start_daemon(PUBLISH_URL="memory://", ALLOWED_ORIGINS=ORIGIN)
        bearer = f"Bearer {self.issuer.token(interaction_id='web-1')}"
        minted = await self.get(daemon.port, "/api/auth/ticket", "POST", Authorization=bearer, Origin=ORIGIN)
        self.assertEqual((minted.status, minted.headers["access-control-allow-origin"]), (200, ORIGIN))
        ticket = json.loads(minted.body)
        self.assertEqual(ticket["expires_in"], 30)
        path = f"/v1/ingest?ticket={ticket['ticket']}"
        by_ticket = await self.connect(daemon, path, Origin=ORIGIN)
        self.assertEqual(by_ticket.status, 101)
        again = await self.connect(daemon, path, Origin=ORIGIN)
        self.assertEqual(again.status, 401)

        # The ticket stands for the claims of the token: no other interaction.
        await by_ticket.start("web-1")
        by_ticket.audio(audio_of(0))
        self.assertEqual((await by_ticket.stop())["published"], 1)

        offered = f"voice.v1, bearer.{self.issuer.token()}"
        by_name = await self.connect(daemon, Origin=ORIGIN, Sec_WebSocket_Protocol=offered)
        self.assertEqual((by_name.status, by_name.headers["sec-websocket-protocol"]), (101, "voice.v1"))
        await by_name.start("web-2")
        self.assertEqual((await by_name.stop())["seq"], 0)

        for origin in ("https://evil.example", "null", f"{ORIGIN}.evil.example", "http://app.example.com"):
            for answer in (
                await self.connect(daemon, Origin=origin, Authorization=bearer),
                await self.get(daemon.port, "/api/auth/ticket", "POST", Authorization=bearer, Origin=origin),
            ):
                await answer.closed()
                self.assertEqual((answer.status, json.loads(answer.body)["code"]), (403, "origin_refused"))
