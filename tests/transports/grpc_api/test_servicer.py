"""The five calls over a real socket: what is asked of the sessions, what is answered, what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.struct_pb2 import Struct
from grpc import StatusCode

from tests.support.case import SynchronousTestCase
from tests.support.grpc_peer import Peer
from voiceingest.errors import IllegalMove, StoreUnavailable
from voiceingest.session_interfaces import SessionEdit
from voiceingest.stream import SessionState
from voiceingest.transports.grpc_api.generated import session_pb2 as pb
from voiceingest.transports.grpc_api.servicer import peer_address

from .test_server import ServerCase

METHODS = {
    "StartSession": pb.StartSessionRequest,
    "StopSession": pb.StopSessionRequest,
    "GetSessionStatus": pb.GetSessionStatusRequest,
    "UpdateSessionConfig": pb.UpdateSessionConfigRequest,
    "ListSessions": pb.ListSessionsRequest,
}


class AnswerTests(ServerCase):
    async def test_each_call(self) -> None:
        server = await self.serve()

        async def scenario(peer: Peer) -> None:
            config = Struct()
            config.update({"rate": 16000})
            made = await peer.call(
                "StartSession", pb.StartSessionRequest(audio_config=config), ("idempotency-key", "k1")
            )
            self.assertEqual(made.session.status, pb.SESSION_STATUS_PENDING)
            edit = SessionEdit(audio_config={"rate": 16000})
            self.assertEqual(self.sessions.asked[-1], ("create", "usr_1", "grpc", edit, "k1"))
            name = made.session.session_id
            got = await peer.call("GetSessionStatus", pb.GetSessionStatusRequest(session_id=name))
            self.assertEqual(got.session, made.session)
            await peer.call(
                "UpdateSessionConfig", pb.UpdateSessionConfigRequest(session_id=name, metadata=config)
            )
            self.assertIn(("edit", "usr_1", name, SessionEdit(metadata={"rate": 16000})), self.sessions.asked)
            await peer.call("StopSession", pb.StopSessionRequest(session_id=name))
            self.assertIn(("end", "usr_1", name), self.sessions.asked)

        await self.ask(server, scenario)
        self.assertEqual(self.metrics.grpc_calls["StartSession", "ok"], 1)
        self.assertEqual(self.limits.asked[:2], [
            ("StartSession", "127.0.0.1", None), ("StartSession", "127.0.0.1", "usr_1"),
        ])  # fmt: skip

    async def test_a_list_page_by_page(self) -> None:
        server = await self.serve()

        async def scenario(peer: Peer) -> list[list[str]]:
            for _ in range(5):
                await peer.call("StartSession", pb.StartSessionRequest())
            pages, token = [], ""
            while True:
                wish = pb.ListSessionsRequest(page_size=2, page_token=token, status=pb.SESSION_STATUS_PENDING)
                page = await peer.call("ListSessions", wish)
                pages.append([session.session_id for session in page.sessions])
                token = page.next_page_token
                if not token:
                    return pages

        pages = await self.ask(server, scenario)
        self.assertEqual(pages, [["ses_5", "ses_4"], ["ses_3", "ses_2"], ["ses_1"]])
        query = self.sessions.asked[-1][1]
        self.assertEqual((query.user_id, query.status), ("usr_1", SessionState.PENDING))


class RefusalTests(ServerCase):
    async def test_who_is_not_known(self) -> None:
        server = await self.serve()

        async def scenario(peer: Peer) -> None:
            for method, make in METHODS.items():
                status, _, trailing = await peer.refused(method, make())
                self.assertEqual(
                    (status, trailing["voiceingest-code"]), (StatusCode.UNAUTHENTICATED, "unauthorized")
                )
            for value in ("", "Basic x", "Bearer", "Bearer wrong", "x" * 9000):
                status, _, _ = await peer.refused(
                    "ListSessions", pb.ListSessionsRequest(), ("authorization", value)
                )
                self.assertEqual(status, StatusCode.UNAUTHENTICATED, value)

        await self.ask(server, scenario, token=None)
        self.assertEqual(self.sessions.asked, [])
        self.assertEqual(self.metrics.errors["unauthorized", "grpc"], len(METHODS) + 5)

    async def test_what_the_service_refuses(self) -> None:
        server = await self.serve()

        async def scenario(peer: Peer) -> None:
            missing = pb.GetSessionStatusRequest(session_id="ses_9")
            status, _, trailing = await peer.refused("GetSessionStatus", missing)
            self.assertEqual(
                (status, trailing["voiceingest-code"]), (StatusCode.NOT_FOUND, "session_not_found")
            )
            for error, wanted in (
                (IllegalMove(), StatusCode.FAILED_PRECONDITION),
                (StoreUnavailable(), StatusCode.UNAVAILABLE),
            ):
                self.sessions.fails = error
                status, text, trailing = await peer.refused(
                    "StopSession", pb.StopSessionRequest(session_id="s")
                )
                self.assertEqual(
                    (status, text, trailing["voiceingest-code"]), (wanted, error.message, error.code)
                )

        await self.ask(server, scenario)

    async def test_a_bug_tells_nothing_of_itself(self) -> None:
        server = await self.serve()
        self.sessions.fails = RuntimeError("secret-of-the-database")

        async def scenario(peer: Peer) -> Any:
            return await peer.refused("ListSessions", pb.ListSessionsRequest())

        status, text, _ = await self.ask(server, scenario)
        self.assertEqual(status, StatusCode.INTERNAL)
        self.assertNotIn("secret", text)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_what_is_asked_wrongly(self) -> None:
        server = await self.serve()

        async def scenario(peer: Peer) -> None:
            for size in (-1, 101):
                status, _, trailing = await peer.refused(
                    "ListSessions", pb.ListSessionsRequest(page_size=size)
                )
                self.assertEqual(
                    (status, trailing["voiceingest-code"]), (StatusCode.INVALID_ARGUMENT, "bad_field")
                )
            twice = (("idempotency-key", "a"), ("idempotency-key", "b"))
            status, _, _ = await peer.refused("StartSession", pb.StartSessionRequest(), *twice)
            self.assertEqual(status, StatusCode.INVALID_ARGUMENT)
            big = Struct()
            big.update({"x": "y" * 200_000})
            status, _, _ = await peer.refused("StartSession", pb.StartSessionRequest(metadata=big))
            self.assertEqual(status, StatusCode.RESOURCE_EXHAUSTED)

        await self.ask(server, scenario)

    async def test_too_often(self) -> None:
        server = await self.serve()
        self.limits.is_over = True

        async def scenario(peer: Peer) -> Any:
            return await peer.refused("ListSessions", pb.ListSessionsRequest())

        status, _, trailing = await self.ask(server, scenario)
        self.assertEqual((status, trailing["retry-after"]), (StatusCode.RESOURCE_EXHAUSTED, "3"))

    async def test_a_deadline_ends_what_was_begun(self) -> None:
        server = await self.serve()
        self.sessions.waits = asyncio.Event()

        async def scenario(peer: Peer) -> Any:
            refused = await peer.refused("ListSessions", pb.ListSessionsRequest(), timeout_s=0.2)
            while not self.sessions.cancelled:
                await asyncio.sleep(0.01)
            return refused

        status, _, _ = await self.ask(server, scenario)
        self.assertEqual(status, StatusCode.DEADLINE_EXCEEDED)


class AddressTests(SynchronousTestCase):
    def test_the_forms_there_are(self) -> None:
        for peer, address in (
            ("ipv4:192.0.2.1:50000", "192.0.2.1"),
            ("ipv6:%5B2001:db8::1%5D:50000", "2001:db8::1"),
            ("ipv6:[::1]:50000", "::1"),
            ("unix:", "unix"),
            ("", "unknown"),
        ):
            self.assertEqual(peer_address(peer), address)
