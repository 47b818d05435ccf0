"""What is no message, to a server over real sockets."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from tests.support.grpc_peer import Peer
from voiceingest.transports.grpc_api.generated import session_pb2 as pb
from voiceingest.transports.grpc_api.server import SERVICE

from .test_server import ServerCase

_HEALTH = "grpc.health.v1.Health"
_REFLECTION = "grpc.reflection.v1alpha.ServerReflection"

# A field of no type there is; a text that is no UTF-8; a length past the end.
_BAD = (b"\xff\xff\xff\xff", b"\x0a\x02\xff\xff", b"\x0a\x7fx")


class DecodingTests(ServerCase):
    async def refused(self, server: Any, kind: str, path: str, message: bytes) -> tuple[Any, str, str]:
        async def scenario(peer: Peer) -> tuple[Any, str, str]:
            call: Any = getattr(peer.channel, kind)(path)(
                message if kind != "stream_stream" else iter([message])
            )
            try:
                if kind == "unary_unary":
                    await call
                else:
                    async for _ in call:
                        raise AssertionError("answered")
            except grpc.aio.AioRpcError as error:
                trailing = {str(key): str(value) for key, value in error.trailing_metadata() or ()}
                return error.code(), error.details() or "", trailing["voiceingest-code"]
            raise AssertionError("not refused")

        answer: tuple[Any, str, str] = await self.ask(server, scenario)
        return answer

    async def test_what_is_no_message_is_refused_and_counted(self) -> None:
        server = await self.serve()
        calls = [("unary_unary", f"/{SERVICE}/{name}") for name in (
            "StartSession", "StopSession", "GetSessionStatus", "UpdateSessionConfig", "ListSessions",
        )]  # fmt: skip
        calls += [("unary_unary", f"/{_HEALTH}/Check"), ("unary_stream", f"/{_HEALTH}/Watch")]
        calls += [("stream_stream", f"/{_REFLECTION}/ServerReflectionInfo")]
        refusal = (grpc.StatusCode.INVALID_ARGUMENT, "the message is not one of this call", "bad_field")
        for kind, path in calls:
            for message in _BAD[:1]:
                self.assertEqual(await self.refused(server, kind, path, message), refusal, path)
        for message in _BAD:
            self.assertEqual(await self.refused(server, *calls[2], message), refusal, message)
        self.assertEqual(self.metrics.errors["bad_field", "grpc"], len(calls) + len(_BAD))
        self.assertEqual(self.sessions.asked, [])

    async def test_what_is_one_is_served(self) -> None:
        server = await self.serve()

        async def scenario(peer: Peer) -> None:
            await peer.call("StartSession", pb.StartSessionRequest())
            watch: Any = peer.channel.unary_stream(
                f"/{_HEALTH}/Watch", response_deserializer=health_pb2.HealthCheckResponse.FromString
            )(b"")
            async for told in watch:
                self.assertEqual(told.status, health_pb2.HealthCheckResponse.SERVING)
                break
            watch.cancel()

        await self.ask(server, scenario)
        self.assertEqual(len(self.sessions.kept), 1)
