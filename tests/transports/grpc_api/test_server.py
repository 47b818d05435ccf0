"""The server as a whole over real sockets: listening, health, reflection, TLS, the end."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.case import TestCase
from tests.support.grpc_peer import AT, Devices, Limits, Peer, Sessions
from tests.support.servers import TlsFiles
from voiceingest.aio import as_deferred
from voiceingest.errors import PortUnavailable
from voiceingest.metrics import Metrics
from voiceingest.tls import KeyPair
from voiceingest.transports.grpc_api import server as module
from voiceingest.transports.grpc_api.credentials import ReloadingCredentials
from voiceingest.transports.grpc_api.generated import session_pb2 as pb
from voiceingest.transports.grpc_api.server import SERVICE, GrpcServer
from voiceingest.transports.grpc_api.servicer import Pages, SessionServicer


class ServerCase(TestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()
        self.sessions = Sessions()
        self.limits = Limits()
        self.why_not: str | None = None
        pages = Pages(lambda token: (float(token), ""), lambda place: str(place[0]))
        self.servicer = SessionServicer(
            Devices(),
            self.sessions,
            self.limits,
            pages,
            lambda: AT + 100,
            self.metrics,  # type: ignore[arg-type]
        )

    async def serve(self, credentials: ReloadingCredentials | None = None, port: int = 0) -> GrpcServer:
        address = f"127.0.0.1:{port}"
        server = GrpcServer(self.servicer, address, credentials, lambda: self.why_not, self.metrics)
        await server.start()
        self.addCleanup(server.stop)
        return server

    async def ask(self, server: GrpcServer, scenario: Any, token: str | None = "token-of-usr_1") -> Any:
        """Run ``scenario(peer)`` in asyncio."""

        async def run() -> Any:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                return await scenario(Peer(channel, token))

        return await as_deferred(run())


class LifeTests(ServerCase):
    async def test_a_busy_port_fails_the_start(self) -> None:
        first = await self.serve()
        with self.assertRaises(PortUnavailable) as caught:
            await self.serve(port=first.port)
        self.assertIn(f"127.0.0.1:{first.port}", caught.exception.message)

    async def test_nothing_listens_after_the_stop(self) -> None:
        server = await self.serve()
        await server.stop()
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", server.port)), 0)
        await server.stop()

    async def test_a_call_under_way_is_answered_at_the_stop(self) -> None:
        server = await self.serve()
        self.sessions.waits = asyncio.Event()

        async def scenario(peer: Peer) -> Any:
            asked = asyncio.ensure_future(peer.call("StartSession", pb.StartSessionRequest()))
            while not self.sessions.asked:
                await asyncio.sleep(0.01)
            assert self.sessions.waits is not None
            asyncio.get_running_loop().call_later(0.05, self.sessions.waits.set)
            await server._stop()
            return await asked

        answer = await self.ask(server, scenario)
        self.assertEqual(answer.session.session_id, "ses_1")


class HealthTests(ServerCase):
    async def test_it_follows_what_the_daemon_says_of_itself(self) -> None:
        self.patch(module, "HEALTH_INTERVAL_S", 0.01)
        server = await self.serve()
        words = health_pb2.HealthCheckResponse

        async def scenario(peer: Peer) -> None:
            stub: Any = health_pb2_grpc.HealthStub(peer.channel)

            async def status(name: str) -> int:
                return int((await stub.Check(health_pb2.HealthCheckRequest(service=name))).status)

            self.assertEqual(await status(""), words.SERVING)
            self.assertEqual(await status(SERVICE), words.SERVING)
            self.why_not = "the database is away"
            while await status(SERVICE) != words.NOT_SERVING:
                await asyncio.sleep(0.01)
            self.why_not = None
            while await status("") != words.SERVING:
                await asyncio.sleep(0.01)

        await self.ask(server, scenario, token=None)


class ReflectionTests(ServerCase):
    async def test_the_services_are_told(self) -> None:
        server = await self.serve()

        async def scenario(peer: Peer) -> list[str]:
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(peer.channel)
            wish = reflection_pb2.ServerReflectionRequest(list_services="")
            call = stub.ServerReflectionInfo(iter([wish]))
            async for answer in call:
                return [service.name for service in answer.list_services_response.service]
            return []

        found = await self.ask(server, scenario, token=None)
        self.assertIn("voiceingest.v1.SessionService", found)
        self.assertIn("grpc.health.v1.Health", found)


class TlsTests(ServerCase):
    async def test_a_new_certificate_is_for_new_connections(self) -> None:
        folder = self.mktemp_path()
        files = TlsFiles(folder)
        credentials = ReloadingCredentials(KeyPair(files.key_path, files.cert_path))
        server = await self.serve(credentials)

        async def ask(roots: bytes, channels: list[Any]) -> str:
            trust = grpc.ssl_channel_credentials(roots)
            channel = grpc.aio.secure_channel(f"localhost:{server.port}", trust)
            channels.append(channel)
            answer = await Peer(channel).call("StartSession", pb.StartSessionRequest())
            return str(answer.session.session_id)

        async def scenario() -> None:
            channels: list[Any] = []
            first = files.ca_path.read_bytes()
            self.assertEqual(await ask(first, channels), "ses_1")
            fresh = TlsFiles(folder)
            credentials.reload()
            self.assertEqual(await ask(fresh.ca_path.read_bytes(), channels), "ses_2")
            # The connection that stood goes on with the certificate it began with.
            self.assertEqual(
                (await Peer(channels[0]).call("StartSession", pb.StartSessionRequest())).session.session_id,
                "ses_3",
            )
            for channel in channels:
                await channel.close()

        await as_deferred(scenario())
