"""Two daemons on one PostgreSQL: what one does the other knows, with a Redis between them and without."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import websockets

from tests.support.daemon import Daemon
from tests.support.postgres import shared_server
from tests.support.servers import RedisServer
from voiceingest.aio import as_deferred, as_future
from voiceingest.sessions.bus import CHANNEL

from .case import asynchronous
from .control import Entrance
from .test_control import SECRET, ControlCase, said


class NodesCase(ControlCase):
    """Two processes, and how a device stands before either."""

    async def nodes(self, **settings: str) -> tuple[Entrance, Entrance]:
        """Both are started at once, on a database with nothing in it."""
        base = {
            "JWT_SECRET": SECRET, "DATABASE_URL": shared_server().database(self), "GRPC": "off",
            "PUBLISH_URL": "memory://", "API_RATE_FACTOR": "0", "DRAIN_DEADLINE_S": "1",
        }  # fmt: skip
        daemons = [Daemon(self, {**base, **settings}) for _ in range(2)]
        await asyncio.gather(*(as_future(daemon.start()) for daemon in daemons))
        client = aiohttp.ClientSession()
        self.addCleanup(lambda: as_deferred(client.close()))
        nowhere: Any = None
        here, there = (Entrance(daemon, client, nowhere) for daemon in daemons)
        return here, there

    async def stream_at(self, entrance: Entrance, device: dict[str, Any], interaction_id: str) -> Any:
        """A live stream of a device at one of them."""
        self.entrance = entrance
        return await self.socket(device["accessToken"], interaction_id, device["userId"])

    async def ends_with(self, stream: Any, event: str, code: str | None, close_code: int) -> None:
        """It is told so, and closed."""
        last = (await said(stream))[-1]
        self.assertEqual((last["event"], last.get("code"), stream.close_code), (event, code, close_code))

    async def check_both(self, here: Entrance, there: Entrance) -> None:
        """What one does the other knows, whether or not they can tell one another."""
        device = await here.device()
        mine, its = (entrance.api("rest", device["accessToken"]) for entrance in (here, there))
        name = (await mine.create()).shown.session_id
        await its.get(name)
        await mine.edit(name, metadata={"x": 1})
        self.assertEqual((await its.get(name)).shown.config["metadata"], {"x": 1})

        stream = await self.stream_at(there, device, name)
        await self.until(mine, name, "active")
        await mine.end(name)
        await self.ends_with(stream, "stopped", None, 1000)
        self.assertEqual((await its.get(name)).shown.status, "completed")

        stream = await self.stream_at(there, device, "a-call")
        while not (await mine.page(status="active")).sessions:
            await asyncio.sleep(0.05)
        status, answer = await here.post("revoke", {}, device["accessToken"])
        self.assertEqual(status, 200, answer)
        await self.ends_with(stream, "error", "token_revoked", 4401)
        # Where nobody has told of it, a token that was good a moment ago is for a moment more.
        while (await its.page()).code != "token_revoked":
            await asyncio.sleep(0.05)
        with self.assertRaises(websockets.InvalidStatus) as refused:
            await self.stream_at(there, device, "another-call")
        self.assertEqual(refused.exception.response.status_code, 401)


class NodesTests(NodesCase):
    """See the head of this file."""

    @asynchronous
    async def test_with_a_redis_between_them(self) -> None:
        redis = RedisServer(self)
        here, there = await self.nodes(SESSION_CACHE_URL=redis.url())
        with redis.control() as control:
            while dict(control.pubsub_numsub(CHANNEL)) != {CHANNEL.encode(): 2}:
                await asyncio.sleep(0.05)
        async with asyncio.timeout(60):
            await self.check_both(here, there)
        told = "voiceingest_control_messages_total"
        self.assertIn(f'{told}{{kind="session_ended"}} 1.0', await self.metrics(there.daemon))
        self.assertIn(f'{told}{{kind="device_revoked"}} 1.0', await self.metrics(there.daemon))
        # And when it is gone it is found out.
        redis.kill()
        async with asyncio.timeout(90):
            await self.check_both(here, there)
        for entrance in (here, there):
            self.assertEqual(await as_future(entrance.daemon.stop()), 0)
            self.assertEqual(entrance.daemon.logged("stop_failed"), [])

    @asynchronous
    async def test_one_refresh_token_at_both_at_once(self) -> None:
        here, there = await self.nodes()
        for _ in range(5):
            device = await here.device()
            body = {"refreshToken": device["refreshToken"]}
            answers = await asyncio.gather(here.post("refresh", body), there.post("refresh", body))
            self.assertLessEqual([status for status, _ in answers].count(200), 1, answers)
            codes = {answer.get("code") for status, answer in answers if status != 200}
            self.assertLessEqual(codes, {"refresh_reused", "token_revoked"})
            for status, answer in answers:
                if status == 200:
                    again = await here.post("refresh", {"refreshToken": answer["refreshToken"]})
                    self.assertEqual((again[0], again[1]["code"]), (401, "token_revoked"))
        for entrance in (here, there):
            self.assertEqual(len(entrance.daemon.logged("store_prepared")), 1)
