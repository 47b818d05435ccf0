"""Calls, as Exotel and the bus see them: real twistd, real Redis, a caller written by hand."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from tests.support.daemon import HOST, ROOT, Daemon
from tests.support.sockets import handshake
from voiceingest.aio import as_future

from .callers import audio_of
from .case import IngestCase, asynchronous
from .exotel import ExotelCaller

TOKEN: Final = "a-token-that-exotel-knows"
WEBHOOK_TOKEN: Final = "a-token-in-the-url-of-the-applet"
ADMIN_TOKEN: Final = "an-admin-token"
PATH: Final = "/voicebot/ws"
CONNECT: Final = "/api/v1/exotel/voice/connect"


class VoicebotCase(IngestCase):
    """A daemon that answers calls."""

    async def start_voicebot(self, **settings: Any) -> Daemon:
        base = {"EXOTEL_WS_TOKEN": TOKEN, "EXOTEL_WEBHOOK_TOKEN": WEBHOOK_TOKEN, "ADMIN_TOKEN": ADMIN_TOKEN}
        return await self.start_daemon(**{**base, **settings})

    async def dial(
        self, daemon: Daemon, call_id: str = "call-1", path: str = PATH, **headers: str
    ) -> ExotelCaller:
        """Ask for an upgrade, by the token unless other headers are given."""
        caller = ExotelCaller(call_id)
        await asyncio.get_running_loop().create_connection(lambda: caller, HOST, daemon.port)
        self.addCleanup(caller.abort)
        caller.send(handshake(path, **(headers or {"Authorization": f"Bearer {TOKEN}"})))
        await caller.until(lambda: caller.head or caller.lost, "an answer to the handshake")
        return caller

    async def sessions(self, daemon: Daemon) -> dict[str, Any]:
        found = await self.get(daemon.admin_port, "/voicebot/sessions")
        return dict(json.loads(found.body))


class CallTests(VoicebotCase):
    """What a call is, from its handshake to its end."""

    @asynchronous
    async def test_an_echo_is_the_same_samples_legally_framed_at_every_rate(self) -> None:
        daemon = await self.start_voicebot()
        consumer = await self.consume()
        for rate in (8000, 16000, 24000):
            call_id = f"echo-{rate}"
            caller = await self.dial(daemon, call_id)
            self.assertEqual(caller.status, 101)
            caller.begin(rate, tenant_id="acme")
            # 100 ms each, and a last one that is no multiple of anything.
            sent = [audio_of(number, rate // 5) for number in range(12)] + [audio_of(99, 124)]
            for payload in sent:
                caller.speak(payload)
                await asyncio.sleep(0.02)
            said = b"".join(sent)
            await caller.until(lambda caller=caller, said=said: len(caller.heard()) >= len(said), "the echo")
            self.assertTrue(caller.heard().startswith(said), "the echo differs")
            self.assertEqual(set(caller.heard()[len(said) :]) - {0}, set())
            for chunk in caller.heard_chunks():
                self.assertEqual((len(chunk) % 320, len(chunk) <= 100_000), (0, True))
            self.assertEqual({one["stream_sid"] for one in caller.events("media")}, {"sid-1"})
            caller.hang_up()
            self.assertEqual(await caller.closed(), 1000)
            stopped = await consumer.event(call_id, "stopped")
            self.assertEqual((stopped["tenant_id"], stopped["reason"]), ("acme", "stopped"))
            self.assert_published(consumer, call_id, sent)
        frame = next(message for channel, message in consumer.messages if channel == "audio:frames")
        self.assertEqual((frame["sample_rate"], frame["encoding"]), (8000, "pcm16"))

    @asynchronous
    async def test_the_webhook_gives_a_url_that_is_good_for_one_call(self) -> None:
        daemon = await self.start_voicebot(VOICEBOT_SAMPLE_RATE="16000")
        consumer = await self.consume()
        query = f"{CONNECT}?token={WEBHOOK_TOKEN}&CallSid=call-9&CallFrom=09876543210&tenant=acme"
        given = await self.get(daemon.port, query)
        self.assertEqual(given.status, 200, given.body)
        url = urlsplit(json.loads(given.body)["url"])
        self.assertEqual((url.scheme, url.path), ("ws", PATH))
        self.assertIn("call_id=call-9", url.query)
        self.assertIn("sample-rate=16000", url.query)
        # Its handshake fails, and is retried: Exotel does that once.
        broken = await self.dial(daemon, path=f"{url.path}?{url.query}", X="y")
        self.assertEqual(broken.status, 101)
        broken.abort()
        caller = await self.dial(daemon, "call-9", f"{url.path}?{url.query}", X="y")
        self.assertEqual(caller.status, 101)
        caller.begin(16000)
        caller.speak(audio_of(1, 3200))
        started = await consumer.event("call-9", "started")
        self.assertEqual((started["tenant_id"], started["sample_rate"]), ("acme", 16000))
        # From its start on the ticket is spent.
        late = await self.dial(daemon, "call-9", f"{url.path}?{url.query}", X="y")
        self.assertEqual(late.status, 401)
        for path in (CONNECT, f"{CONNECT}?token=wrong", f"{CONNECT}?token={WEBHOOK_TOKEN}&token=x"):
            self.assertEqual((await self.get(daemon.port, path)).status, 401, path)

    @asynchronous
    async def test_who_is_let_in_and_who_is_not(self) -> None:
        daemon = await self.start_voicebot(EXOTEL_WS_USER="exo", EXOTEL_WS_PASSWORD="s3cret")
        basic = base64.b64encode(b"exo:s3cret").decode()
        wrong = base64.b64encode(b"exo:guess").decode()
        for status, authorization in (
            (101, f"Bearer {TOKEN}"),
            (101, f"Basic {basic}"),
            (401, "Bearer guess"),
            (401, f"Basic {wrong}"),
            (401, f"Basic {TOKEN}"),
            (401, "Digest x"),
        ):
            caller = await self.dial(daemon, Authorization=authorization)
            self.assertEqual(caller.status, status, authorization)
            caller.abort()
        refused = await self.dial(daemon, X="nothing")
        self.assertEqual(refused.status, 401)
        self.assertEqual(json.loads(refused.body)["code"], "unauthorized")
        ticket = await self.dial(daemon, path=f"{PATH}?ticket={'x' * 43}", X="y")
        self.assertEqual(ticket.status, 401)
        for text in (TOKEN, "s3cret", WEBHOOK_TOKEN, basic, "x" * 43):
            self.assertNotIn(text, daemon.output)

    @asynchronous
    async def test_an_open_daemon_has_to_be_told_to_be(self) -> None:
        closed = await self.start_daemon()
        self.assertEqual((await self.dial(closed)).status, 404)
        self.assertEqual((await self.get(closed.port, CONNECT)).status, 404)
        self.assertEqual((await self.get(closed.admin_port, "/voicebot/sessions")).status, 404)
        opened = await self.start_daemon(EXOTEL_WS_AUTH="none", PUBLISH_URL="memory://")
        self.assertEqual((await self.dial(opened, X="y")).status, 101)

    @asynchronous
    async def test_the_sessions_there_are(self) -> None:
        daemon = await self.start_voicebot()
        caller = await self.dial(daemon, "call-7")
        caller.begin()
        for number in range(5):
            caller.speak(audio_of(number, 1600))

        async def live() -> dict[str, Any]:
            for _ in range(200):
                shown = await self.sessions(daemon)
                if shown["total"] and shown["sessions"][0]["sequenceNumber"] == 6:
                    return shown
                await asyncio.sleep(0.02)
            raise AssertionError(shown)

        shown = await live()
        (session,) = shown["sessions"]
        self.assertEqual(
            {name: session[name] for name in ("callId", "streamSid", "isActive", "agent")},
            {"callId": "call-7", "streamSid": "sid-1", "isActive": True, "agent": "echo"},
        )
        self.assertEqual((await self.get(daemon.port, "/voicebot/sessions")).status, 401)
        bearer = f"Bearer {ADMIN_TOKEN}"
        public = await self.get(daemon.port, "/voicebot/sessions", Authorization=bearer)
        self.assertEqual(json.loads(public.body)["total"], 1)
        caller.hang_up()
        await caller.closed()
        for _ in range(200):
            if not (await self.sessions(daemon))["total"]:
                break
            await asyncio.sleep(0.02)
        self.assertEqual(await self.sessions(daemon), {"total": 0, "sessions": []})
        self.assertNotIn("call-7", daemon.output)
        self.assertNotIn("9876543210", daemon.output)

    @asynchronous
    async def test_a_call_that_comes_twice_is_one(self) -> None:
        daemon = await self.start_voicebot()
        consumer = await self.consume()
        first = await self.dial(daemon)
        first.begin()
        first.speak(audio_of(1, 3200))
        await consumer.until(lambda: consumer.frames("call-1"), "the first frame")
        second = await self.dial(daemon)
        second.begin()
        self.assertEqual(await first.closed(), 4409)
        second.speak(audio_of(2, 3200))
        second.hang_up()
        await second.closed()
        events = await consumer.until(
            lambda: [one for one in consumer.events("call-1") if one["event"] == "stopped"][1:], "both ends"
        )
        self.assertEqual(events[0]["reason"], "stopped")
        heard = [audio for _, audio in consumer.frames("call-1")]
        self.assertEqual(heard, [audio_of(1, 3200), audio_of(2, 3200)])

    @asynchronous
    async def test_a_shutdown_lets_a_call_finish(self) -> None:
        daemon = await self.start_voicebot(DRAIN_DEADLINE_S="20")
        consumer = await self.consume()
        caller = await self.dial(daemon)
        caller.begin()
        caller.speak(audio_of(1, 3200))
        await consumer.until(lambda: consumer.frames("call-1"), "the first frame")
        daemon.signal("TERM")
        await as_future(daemon.wait_for_log("drain_started"))
        caller.speak(audio_of(2, 3200))
        await consumer.until(lambda: len(consumer.frames("call-1")) == 2, "a frame during the drain")
        caller.hang_up()
        self.assertEqual(await caller.closed(), 1000)
        self.assertEqual(await as_future(daemon.wait_for_exit()), 0)


class AgentTests(VoicebotCase):
    """What an agent's mistake costs: its call."""

    @asynchronous
    async def test_an_agent_that_cannot_be_made(self) -> None:
        package = self.mktemp_path()
        package.mkdir()
        broken = "class Broken:\n    def __init__(self, context):\n        1 / 0\n"
        (package / "broken_agent.py").write_text(broken)
        facts = package / "broken_agent-1.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-agent\nVersion: 1\n")
        (facts / "entry_points.txt").write_text("[voiceingest.agents]\nbroken = broken_agent:Broken\n")
        path = f"{ROOT}{os.pathsep}{package}"
        daemon = await self.start_voicebot(VOICEBOT_AGENT="broken", PYTHONPATH=path)
        for _ in range(3):
            self.assertEqual((await self.dial(daemon)).status, 500)
        self.assertEqual(await self.sessions(daemon), {"total": 0, "sessions": []})


class StartTests(VoicebotCase):
    """What stops the start, in one line."""

    @asynchronous
    async def test_nobody_is_there_to_answer(self) -> None:
        for settings, line in (
            ({"VOICEBOT_AGENT": "nobody"}, "there is no agent nobody; there are echo, silence, deepgram"),
            ({"VOICEBOT_AGENT": "deepgram"}, "deepgram_api_key: the agent deepgram wants its calls"),
        ):
            base = {"PUBLISH_URL": "memory://", "JWT_PUBLIC_KEY": self.issuer.public_pem}
            daemon = Daemon(self, {**base, "EXOTEL_WS_TOKEN": TOKEN, **settings})
            code = await as_future(daemon.spawn())
            self.assertNotEqual(code, 0)
            self.assertIn(line, daemon.output)
            self.assertNotIn("Traceback", daemon.output)


class RecordTests(VoicebotCase):
    """Where sessions are kept a call is one, among those of devices."""

    @asynchronous
    async def test_it_is_listed_and_ended_as_any_other(self) -> None:
        daemon = await self.start_voicebot(PUBLISH_URL="memory://", JWT_SECRET="s" * 32, GRPC="off")
        place = daemon.admin_url("/api/admin/sessions")
        async with aiohttp.ClientSession() as operator:

            async def listed(status: str) -> list[dict[str, Any]]:
                async with operator.get(place, params={"status": status}) as answer:
                    found: list[dict[str, Any]] = (await answer.json())["sessions"]
                return found

            caller = await self.dial(daemon, "call-1")
            caller.begin(8000, tenant_id="acme")
            caller.speak(audio_of(1, 1600))
            while not (found := await listed("active")):
                await asyncio.sleep(0.05)
            (row,) = found
            known = {name: row[name] for name in ("transport", "tenantId", "interactionId")}
            self.assertEqual(known, {"transport": "voicebot", "tenantId": "acme", "interactionId": "call-1"})
            async with operator.delete(f"{place}/{row['sessionId']}") as answer:
                self.assertEqual(answer.status, 200)
            await caller.closed()
            self.assertEqual(caller.close_code, 1000)
            while not (found := await listed("completed")) or not found[0]["frames"]:
                await asyncio.sleep(0.05)
            self.assertEqual((found[0]["sessionId"], found[0]["reason"]), (row["sessionId"], "ended"))
            self.assertEqual((await self.sessions(daemon))["total"], 0)
