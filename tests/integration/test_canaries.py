"""What must never be written down goes through everything that can be done and refused."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, Final

from tests.support.daemon import HOST, Daemon
from tests.support.servers import RedisServer
from tests.support.sockets import TEXT, frame
from voiceingest.aio import as_future

from .callers import Caller
from .case import IngestCase, asynchronous
from .consumer import Consumer

ADMIN_TOKEN: Final = "canary-admin-token-5e6f"


class CanaryTests(IngestCase):
    """At the most verbose level there is."""

    NUMBER = "+919876543210"
    PASSWORD = "canary-redis-pass-7a8b"
    GARBAGE = "canarygarbage9c0d"
    AUDIO = b"CANARY-AUDIO-OF-A-CALL--" * 40

    @asynchronous
    async def test_nothing_of_it_is_told(self) -> None:
        self.told: list[str] = []
        self.redis = RedisServer(self, password=self.PASSWORD)
        daemon = await self.start_daemon(
            LOG_LEVEL="debug", ADMIN_TOKEN=ADMIN_TOKEN, PUBLISH_URL=self.redis.url("default", self.PASSWORD),
            PUBLISH_RETRY_MAX_S="0.2", BUFFER_DURATION_MS="100",
        )  # fmt: skip
        self.token = self.issuer.token(interaction_id=self.NUMBER, sub=self.NUMBER)
        await self.sessions(daemon)
        await self.requests(daemon)
        await self.failures(daemon)
        for port in (daemon.admin_port, daemon.port):
            for path in ("/metrics", "/healthz", "/readyz"):
                answer = await self.get(port, path, Authorization=f"Bearer {ADMIN_TOKEN}")
                self.keep(answer)
        code = await as_future(daemon.stop())
        self.assertEqual(code, 0)
        self.assertGreater(len(daemon.log), 30, daemon.output)
        self.assertTrue(daemon.logged("http_answered"), "not at its most verbose")
        self.told.append(daemon.output)
        self.check()

    def keep(self, *callers: Caller) -> None:
        """Errors, close reasons and answers; what the dialect itself repeats is not meant."""
        for caller in callers:
            self.told += [message["message"] for message in caller.events("error")]
            self.told += [caller.close_reason, caller.head.decode("latin-1"), caller.body.decode("latin-1")]

    def check(self) -> None:
        """None of the canaries, whole or in telling parts, in any text."""
        audio = base64.b64encode(self.AUDIO).decode()
        canaries = {
            "token": self.token.split(".")[1][:24],
            "signature": self.token.rsplit(".", 1)[1][:24],
            "number": self.NUMBER[1:],
            "ticket": self.ticket,
            "admin token": ADMIN_TOKEN,
            "password": self.PASSWORD,
            "garbage": self.GARBAGE,
            "audio": self.AUDIO[:24].decode(),
            "audio in base64": audio[:32],
            "key": self.issuer.public_pem.splitlines()[1][:24],
        }
        for text in self.told:
            for name, canary in canaries.items():
                at = text.find(canary)
                self.assertEqual(at, -1, f"{name} in: {text[max(0, at - 200) : at + 100]!r}")

    async def sessions(self, daemon: Daemon) -> None:
        """A good one by each kind of credential, and one that does everything wrong."""
        bearer = f"Bearer {self.token}"
        minted = await self.get(daemon.port, "/api/auth/ticket", "POST", Authorization=bearer)
        self.ticket = json.loads(minted.body)["ticket"]
        offered = f"voice.v1, bearer.{self.token}"
        table: list[tuple[str, dict[str, Any]]] = [
            (f"/v1/ingest?ticket={self.ticket}", {}),
            ("/v1/ingest", {"Authorization": bearer, "X-Request-Id": self.NUMBER[1:]}),
            ("/v1/ingest", {"Sec-WebSocket-Protocol": offered}),
        ]
        for path, headers in table:
            caller = await self.connect(daemon, path, **headers)
            self.assertEqual(caller.status, 101)
            await caller.start(self.NUMBER)
            caller.audio(self.AUDIO)
            caller.send(frame(TEXT, f'{{"event":"{self.GARBAGE}"}}'.encode()))
            caller.send(frame(TEXT, f"{{{self.GARBAGE}".encode()) + frame(2, self.AUDIO[:959]))
            caller.say("auth", token=self.GARBAGE)
            await caller.event("error", 4)
            await caller.stop()
            caller.head = b""  # it echoes the caller's own request id
            self.keep(caller)
        other = await self.call(daemon, self.token)
        other.say("start", interaction_id=self.GARBAGE, tenant_id=self.GARBAGE)
        self.assertEqual(await other.closed(), 4403)
        big = await self.call(daemon, self.token)
        big.audio(self.AUDIO * 100)
        self.assertEqual(await big.closed(), 1009)
        unmasked = await self.call(daemon, self.token)
        unmasked.send(frame(2, self.AUDIO, masked=False))
        self.assertEqual(await unmasked.closed(), 1002)
        text = await self.call(daemon, self.token)
        text.send(frame(TEXT, self.AUDIO + b"\xff"))
        self.assertEqual(await text.closed(), 1007)
        self.keep(other, big, unmasked, text)

    async def requests(self, daemon: Daemon) -> None:
        """Credentials where they belong and where they do not."""
        for caller in (
            await self.connect(daemon, f"/v1/ingest?ticket={self.ticket}"),
            await self.connect(daemon, f"/v1/ingest?token={self.token}&to={self.NUMBER}"),
            await self.connect(daemon, Authorization=f"Bearer {self.GARBAGE}"),
            await self.connect(daemon, Authorization=f"Basic {self.GARBAGE}"),
            await self.connect(daemon, Authorization=f"Bearer {self.token[:-6]}AAAAAA"),
            await self.connect(
                daemon, Authorization=f"Bearer {self.token}", Origin=f"https://{self.GARBAGE}"
            ),
            await self.connect(daemon, Authorization=f"Bearer {self.token}", Cookie=self.GARBAGE + "\x01"),
            await self.get(daemon.port, f"/{self.GARBAGE}?call={self.NUMBER}"),
            await self.get(daemon.port, "/metrics", Authorization=f"Bearer {self.GARBAGE}"),
            await self.get(
                daemon.port, "/v1/ingest", self.GARBAGE.upper(), Authorization=f"Bearer {self.token}"
            ),
            await self.get(daemon.port, "/api/auth/ticket", "POST", self.AUDIO, Authorization=self.GARBAGE),
        ):
            await caller.closed()
            self.assertTrue(400 <= caller.status < 500, caller)
            self.keep(caller)

    async def failures(self, daemon: Daemon) -> None:
        """A bus that lets nobody in, and audio that is lost meanwhile."""
        caller = await self.call(daemon, self.token)
        await caller.start(self.NUMBER)
        admin = Consumer()
        await asyncio.get_running_loop().create_connection(lambda: admin, HOST, self.redis.port)
        self.addCleanup(admin.abort)
        admin.command("AUTH", self.PASSWORD)
        admin.command("CONFIG", "SET", "requirepass", "another")
        admin.command("CLIENT", "KILL", "TYPE", "normal")
        await as_future(
            daemon.wait_until(
                lambda: any(line["reason"] == "auth" for line in daemon.logged("bus_down")), 40, "is in"
            )
        )
        for _ in range(20):
            caller.audio(self.AUDIO)
        await caller.event("gap")
        self.redis.restart()
        await as_future(daemon.wait_until(lambda: len(daemon.logged("bus_up")) == 2, 40, "has no bus"))
        caller.audio(self.AUDIO)
        await caller.stop()
        self.keep(caller)
        daemon.signal("HUP")
        await as_future(daemon.wait_for_log("reloaded"))
