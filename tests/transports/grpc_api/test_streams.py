from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.grpc_peer import Peer
from tests.transports.grpc_api.test_server import ServerCase
from voiceingest.aio import as_deferred
from voiceingest.transports.grpc_api import server as module
from voiceingest.transports.grpc_api.generated import session_pb2 as pb

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


class OpenCallsTests(ServerCase):
    """Against a server that lets three be open."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(module, "STREAMS_MAX_COUNT", 3)

    async def test_who_only_watches_leaves_room(self) -> None:
        server = await self.serve()

        async def scenario(channel: Any) -> None:
            health = health_pb2_grpc.HealthStub(channel)
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            held = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
            mirror = reflection.ServerReflectionInfo()
            await mirror.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            for call in (*held, mirror):
                await call.read()
            for call in (health.Watch(health_pb2.HealthCheckRequest()), reflection.ServerReflectionInfo()):
                self.assertEqual(await call.code(), FULL)
            await Peer(channel, "token-of-usr_1").call("StartSession", pb.StartSessionRequest())
            await mirror.done_writing()
            self.assertEqual(await mirror.code(), grpc.StatusCode.OK)
            held.pop().cancel()
            # Both places are had again, once the server has heard of it.
            while len(held) < 3:
                call = health.Watch(health_pb2.HealthCheckRequest())
                # One that came too early is refused.
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call.read()
                    held.append(call)
                await asyncio.sleep(0)
            for call in held:
                call.cancel()

        async def run() -> None:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                await scenario(channel)

        await as_deferred(run())
