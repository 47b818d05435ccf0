"""Calls placed through Exotel's API, and calls an applet brings: the daemon, a Redis and a fake Exotel.

The fake is strict where Exotel is (``tests/support/exotel_api.py``); the socket is Exotel's side of it
by hand.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, Final

import aiohttp
from twisted.internet.threads import deferToThread

from tests.support.daemon import ROOT, Daemon
from tests.support.exotel_api import STALL, FakeExotel, busy, refusal
from tests.support.servers import RedisServer
from voiceingest.aio import as_future

from .case import IngestCase, asynchronous, metric

NUMBER: Final = "+919876543210"
HOOK: Final = "canary-hook"
CONNECT: Final = f"/api/v1/exotel/voice/connect?token={HOOK}"

# 100 ms at 8 kHz, and not silence.
CHUNK: Final = bytes(range(1, 161)) * 10


async def in_thread(call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call what blocks."""
    return await as_future(deferToThread(call, *args, **named))


class Case(IngestCase):
    def setUp(self) -> None:
        super().setUp()
        self.exotel = FakeExotel(self)

    async def start(self, **settings: str) -> Daemon:
        """A daemon that knows where it is reached."""
        self.redis = RedisServer(self)
        daemon = Daemon(
            self,
            {
                "JWT_PUBLIC_KEY": self.issuer.public_pem,
                "REDIS_URL": self.redis.url(),
                "DRAIN_DEADLINE_S": "1",
                "EXOTEL_WEBHOOK_TOKEN": HOOK,
                **self.exotel.settings(),
                **settings,
            },
        )
        daemon.settings.setdefault("WEBHOOK_BASE_URL", daemon.url(""))
        await as_future(daemon.start())
        return daemon

    async def command(self, daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``voiceingest call``, at the admin site of this daemon."""
        command = [sys.executable, "-m", "voiceingest.cli", "call", NUMBER]
        words = [*command, "--url", daemon.admin_url(""), *arguments]
        environ = {"PYTHONPATH": str(ROOT)}
        done: subprocess.CompletedProcess[str] = await in_thread(
            subprocess.run, words, env=environ, capture_output=True, text=True, timeout=40, check=False
        )
        self.assertNotIn("Traceback", done.stderr)
        return done

    async def answer(self, url: str, call_id: str) -> list[dict[str, Any]]:
        """The callee picks up: Exotel connects, a second is said, they hang up; what the daemon sent."""
        sent: list[dict[str, Any]] = []
        start: dict[str, Any] = {
            "stream_sid": "s-1", "call_sid": call_id, "account_sid": "acme1", "from": "1", "to": "2",
            "media_format": {"encoding": "audio/x-raw", "sample_rate": "8000", "bit_rate": "16"},
        }
        stop = {"call_sid": call_id, "account_sid": "acme1", "reason": "callended"}
        payload = b64encode(CHUNK).decode()
        media = [{"chunk": n, "timestamp": str(n * 100), "payload": payload} for n in range(10)]
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            await socket.send_json({"event": "connected"})
            said = [("start", start), *(("media", piece) for piece in media)]
            for number, (event, value) in enumerate(said, 1):
                common = {"event": event, "sequence_number": str(number), "stream_sid": "s-1"}
                await socket.send_json({**common, event: value})
            while not any(message["event"] == "media" for message in sent):
                sent.append(json.loads((await socket.receive(20)).data))
            await socket.send_json({"event": "stop", "stream_sid": "s-1", "stop": stop})
        return sent

    def assert_nobody_is_named(self, daemon: Daemon, *secrets: str) -> None:
        """What is in the log is about nobody."""
        for secret in ("98765", "canary", "sig=", "ticket=", "run=", *secrets):
            self.assertNotIn(secret, daemon.output)


class OutboundTests(Case):
    @asynchronous
    async def test_from_the_command_to_what_became_of_the_call(self) -> None:
        daemon = await self.start()
        consumer = await self.consume()
        done = await self.command(daemon, "--tenant", "acme", "--custom", "canary order", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        (call,) = self.exotel.calls
        self.assertEqual(json.loads(done.stdout), {"call_id": call.call_id, "status": "in-progress"})
        self.assertEqual((call.form["From"], call.form["CustomField"]), (NUMBER, "canary order"))

        sent = await self.answer(call.stream_url, call.call_id)
        first = next(message for message in sent if message["event"] == "media")
        self.assertEqual(len(b64decode(first["media"]["payload"])) % 320, 0)
        await consumer.event(call.call_id, "stopped")
        audio = b"".join(payload for _, payload in consumer.frames(call.call_id))
        self.assertTrue(audio == CHUNK * 10, "the audio differs")
        self.assertEqual({message["tenant_id"] for _, message in consumer.messages}, {"acme"})

        for event, status, kind in (
            ("answered", "in-progress", ""), ("terminal", "completed", "multipart/form-data"),
            ("terminal", "completed", ""), ("answered", "in-progress", ""),
        ):
            told = await in_thread(self.exotel.deliver, call, event, status, content_type=kind)
            self.assertEqual(told, [200])
        await consumer.until(lambda: len(self.statuses(consumer, call.call_id)) == 2, "both statuses")
        self.assertEqual(
            [(event["call_event"], event["status"]) for event in self.statuses(consumer, call.call_id)],
            [("answered", "in-progress"), ("terminal", "completed")],
        )
        exposed = await self.metrics(daemon)
        for result, count in (("new", 2), ("repeated", 2)):
            name = f'voiceingest_status_callbacks_total{{result="{result}"}}'
            self.assertEqual(metric(exposed, name), count)
        self.assertEqual(metric(exposed, 'voiceingest_outbound_calls_total{result="placed"}'), 1)
        self.assert_nobody_is_named(daemon, call.call_id)
        self.assertEqual(self.exotel.problems, [])

    def statuses(self, consumer: Any, call_id: str) -> list[dict[str, Any]]:
        """What was published of a call's status."""
        return [event for event in consumer.events(call_id) if event["event"] == "call_status"]

    @asynchronous
    async def test_what_exotel_does_not_do(self) -> None:
        daemon = await self.start(EXOTEL_API_TIMEOUT_S="3")
        self.exotel.script(refusal(403, 34001), busy(17), STALL)
        for words in (
            "(HTTP 403, code 34001): the account may not do this (upstream_refused)",
            "Exotel takes no more calls for a while (upstream_busy)",
            "(upstream_failed)",
        ):
            done = await self.command(daemon)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(words, done.stderr)
        # Each was asked once, and the daemon goes on.
        self.assertEqual(self.exotel.asked, 3)
        self.assertEqual((await self.command(daemon)).returncode, 0)
        self.assert_nobody_is_named(daemon)

    @asynchronous
    async def test_without_an_account(self) -> None:
        nothing = dict.fromkeys(self.exotel.settings(), "")
        daemon = await self.start(**{**nothing, "EXOTEL_API_URL": self.exotel.url})
        done = await self.command(daemon)
        self.assertEqual(done.returncode, 1)
        self.assertIn("these settings are missing: exotel_account_sid, exotel_api_key", done.stderr)

    @asynchronous
    async def test_signatures_of_others(self) -> None:
        daemon = await self.start()
        await self.command(daemon)
        (call,) = self.exotel.calls
        forged = type(call)(call.call_id, {**call.form, "StatusCallback": call.form["StatusCallback"] + "0"})
        self.assertEqual(await in_thread(self.exotel.deliver, forged), [401, 401, 401])
        self.assert_nobody_is_named(daemon, call.call_id)


class AppletTests(Case):
    @asynchronous
    async def test_a_call_finds_its_way(self) -> None:
        daemon = await self.start()
        consumer = await self.consume()
        status, url = await in_thread(self.exotel.resolve, daemon.url(CONNECT), "c0ffee01")
        self.assertEqual(status, 200)
        await self.answer(url, "c0ffee01")
        await consumer.event("c0ffee01", "stopped")
        # The ticket has served: nobody else comes in with it.
        with self.assertRaises(aiohttp.WSServerHandshakeError) as caught:
            await self.answer(url, "c0ffee01")
        self.assertEqual(caught.exception.status, 401)
        self.assert_nobody_is_named(daemon, "c0ffee01")

    @asynchronous
    async def test_a_handshake_that_failed_is_tried_again(self) -> None:
        daemon = await self.start()
        consumer = await self.consume()
        _, url = await in_thread(self.exotel.resolve, daemon.url(CONNECT), "c0ffee02")
        async with aiohttp.ClientSession() as session, session.ws_connect(url):
            # Lost before its start came.
            await asyncio.sleep(0)
        await self.answer(url, "c0ffee02")
        await consumer.event("c0ffee02", "stopped")

    @asynchronous
    async def test_without_the_token(self) -> None:
        daemon = await self.start()
        for path in (CONNECT.partition("?")[0], CONNECT + "x"):
            self.assertEqual(await in_thread(self.exotel.resolve, daemon.url(path)), (401, ""))
        self.assert_nobody_is_named(daemon)
