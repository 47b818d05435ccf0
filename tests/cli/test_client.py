from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.case import TestCase
from voiceingest.cli import client as client_module
from voiceingest.cli import session as session_module
from voiceingest.cli.client import Endurance, IngestClient
from voiceingest.cli.failures import ConnectionFailed, Exit, UsageFailed
from voiceingest.cli.link import Refused
from voiceingest.cli.minting import tls_pair
from voiceingest.cli.session import Identity
from voiceingest.cli.target import Trust, parse_target

from .program import coroutine
from .server import Manners, Server

FRAME = bytes(range(256)) * 2
# For what happens at once, on a machine that does not.
PATIENCE_S = 60.0


class ClientCase(TestCase):
    async def serve(self, manners: Manners | None = None, tls: tuple[Path, Path] | None = None) -> Server:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        server = Server(manners)
        await server.listen(self, reactor, tls)
        return server

    async def serve_raw(self, answer: bytes | None) -> Server:
        from twisted.internet import reactor

        self.reactor = reactor
        server = Server()
        await server.listen_raw(self, reactor, answer)
        return server

    def client(self, url: str, token: str | None = "t.o.k", **options: Any) -> IngestClient:
        client = IngestClient(self.reactor, parse_target(url), Identity("acme", "call-1"), token, **options)
        self.addCleanup(client.abort)
        return client

    async def refusal(self, client: IngestClient, kind: type[Any] = Refused) -> Any:
        try:
            await client.open()
        except kind as refused:
            return refused
        raise AssertionError("it was not refused")


class SessionTests(ClientCase):
    @coroutine
    async def test_a_session_from_start_to_stopped(self) -> None:
        server = await self.serve()
        client = self.client(server.url())
        await client.open()
        for number in range(25):
            client.send(FRAME[number:] * 2)
        await client.stop(PATIENCE_S)
        self.assertEqual(server.connections[0].frames, [FRAME[number:] * 2 for number in range(25)])
        self.assertEqual(
            server.controls[0],
            {
                "event": "start",
                "interaction_id": "call-1",
                "tenant_id": "acme",
                "sample_rate": 24000,
                "encoding": "pcm16",
            },
        )
        self.assertEqual(server.headers[0]["authorization"], "Bearer t.o.k")
        self.assertTrue(client.tally.complete)
        self.assertEqual((client.tally.acked, client.tally.acks), (25, 2))
        self.assertEqual(client.tally.latencies.count, 2)
        assert client.ending is not None
        self.assertEqual(client.ending.close_code, 1000)
        self.assertEqual(client.tls_version, "")

    @coroutine
    async def test_a_renewed_token_is_sent_when_the_old_one_expires(self) -> None:
        server = await self.serve(Manners(expiring_at=1))
        client = self.client(server.url(), renew=lambda: "new.to.ken")
        await client.open()
        client.send(FRAME)
        await client.stop(PATIENCE_S)
        self.assertIn({"event": "auth", "token": "new.to.ken"}, server.controls)
        self.assertEqual(client.tally.renewals, 1)

    @coroutine
    async def test_an_error_that_does_not_close_is_counted_and_the_stream_goes_on(self) -> None:
        server = await self.serve(Manners(error_at=2))
        client = self.client(server.url())
        await client.open()
        for _ in range(3):
            client.send(FRAME)
        await client.stop(PATIENCE_S)
        self.assertEqual(client.tally.error_count, 1)
        self.assertEqual(client.tally.errors[0][0], "odd_frame")
        self.assertTrue(client.tally.complete)

    @coroutine
    async def test_garbage_from_the_server_is_an_error_and_no_crash(self) -> None:
        server = await self.serve(Manners(garbage_at=1))
        client = self.client(server.url())
        await client.open()
        client.send(FRAME)
        await client.stop(PATIENCE_S)
        self.assertEqual(client.tally.errors[0][0], "bad_json")

    @coroutine
    async def test_an_acknowledgement_of_what_was_never_sent_is_an_error(self) -> None:
        server = await self.serve(Manners(ack_offset=1))
        client = self.client(server.url())
        await client.open()
        for _ in range(10):
            client.send(FRAME)
        await client.stop(PATIENCE_S)
        self.assertEqual(client.tally.errors[0][0], "ack_unsent")

    @coroutine
    async def test_a_server_that_never_says_stopped_is_hung_up_on(self) -> None:
        server = await self.serve(Manners(stopped=False, acks=False))
        client = self.client(server.url())
        await client.open()
        client.send(FRAME)
        await client.stop(0.2)
        self.assertIsNotNone(client.ending)
        self.assertFalse(client.tally.complete)

    @coroutine
    async def test_frames_the_server_dropped_are_a_problem(self) -> None:
        server = await self.serve(Manners(dropped=1))
        client = self.client(server.url())
        await client.open()
        client.send(FRAME)
        client.send(FRAME)
        await client.stop(PATIENCE_S)
        problem = client.tally.problem(client.ending)
        assert problem is not None
        self.assertEqual(problem.text, "1 of 2 frames were not confirmed")

    @coroutine
    async def test_a_close_on_the_way_has_a_meaning(self) -> None:
        for code, text, hint in (
            (4401, "A valid bearer token is required", "token check"),
            (4429, "Too much came", "--fast"),
            (1001, "shutting down", "come back"),
        ):
            server = await self.serve(Manners(close_at=(2, code)))
            client = self.client(server.url())
            await client.open()
            client.send(FRAME)
            client.send(FRAME)
            await client.stop(PATIENCE_S)
            problem = client.tally.problem(client.ending)
            assert problem is not None and client.ending is not None
            self.assertEqual(client.ending.close_code, code)
            self.assertIn(text, problem.text)
            self.assertIn(hint, problem.hint)

    @coroutine
    async def test_a_connection_that_breaks_is_no_refusal(self) -> None:
        server = await self.serve(Manners(drop_at=1, error_at=1))
        client = self.client(server.url())
        await client.open()
        client.send(FRAME)
        await client.stop(PATIENCE_S)
        problem = client.tally.problem(client.ending)
        assert problem is not None
        self.assertIn("broke", problem.text)
        self.assertTrue(problem.retryable)
        client.send(FRAME)
        self.assertEqual(client.tally.sent_frames, 1)

    @coroutine
    async def test_a_server_that_does_not_read_makes_the_client_wait(self) -> None:
        server = await self.serve()
        client = self.client(server.url())
        await client.open()
        server.connections[0].transport.pauseProducing()
        sent = 0
        while await client.room(0.2) and sent < 2000:
            client.send(bytes(60000))
            sent += 1
        self.assertLess(sent, 2000)
        server.connections[0].transport.resumeProducing()
        self.assertTrue(await client.room(PATIENCE_S))
        await client.stop(PATIENCE_S)
        self.assertTrue(client.tally.complete)


class ResumeTests(ClientCase):
    """The stream goes on over several connections: every frame once, in order, at the far end."""

    def resuming(self, server: Server, *, live: bool = True, **options: Any) -> IngestClient:
        return self.client(server.url(), endurance=Endurance(resume=True, live=live), **options)

    def starts(self, server: Server) -> list[dict[str, Any]]:
        return [control for control in server.controls if control["event"] == "start"]

    async def play(self, client: IngestClient, count: int, pause_s: float = 0.002) -> list[bytes]:
        """Open, send, stop; the frames, each of them different."""
        from twisted.internet.task import deferLater

        frames = [b"%04d" % number for number in range(1, count + 1)]
        await client.open()
        for frame in frames:
            await deferLater(self.reactor, pause_s)
            if not await client.room():
                break
            client.send(frame)
        await client.stop(PATIENCE_S)
        return frames

    @coroutine
    async def test_connections_that_are_lost(self) -> None:
        server = await self.serve(Manners(resumable=True, lose_at=(7, 8, 23)))
        client = self.resuming(server)
        frames = await self.play(client, 40)
        self.assertEqual(server.streams["call-1"], [frames])
        self.assertTrue(client.tally.complete)
        self.assertEqual((client.tally.sent_frames, client.tally.acked), (40, 40))
        self.assertEqual((client.tally.resumes, client.tally.restarts), (3, 0))
        assert client.ending is not None
        self.assertEqual(client.ending.close_code, 1000)

    @coroutine
    async def test_closes_that_ask_to_come_back(self) -> None:
        for code in (1001, 1011, 1012, 1013, 4408):
            server = await self.serve(Manners(resumable=True, close_once_at=(5, code)))
            client = self.resuming(server)
            frames = await self.play(client, 12)
            self.assertEqual((server.streams["call-1"], client.tally.resumes), ([frames], 1), code)

    @coroutine
    async def test_closes_that_do_not(self) -> None:
        for code in (4400, 4401, 4403, 4409, 4429, 1009):
            server = await self.serve(Manners(resumable=True, close_once_at=(5, code)))
            client = self.resuming(server)
            await self.play(client, 12)
            assert client.ending is not None
            self.assertEqual((client.ending.close_code, client.tally.resumes), (code, 0))

    @coroutine
    async def test_a_token_that_expired_is_replaced_where_it_can_be(self) -> None:
        server = await self.serve(Manners(resumable=True, close_once_at=(5, 4401)))
        client = self.resuming(server, renew=lambda: "new.to.ken")
        frames = await self.play(client, 12)
        self.assertEqual((server.streams["call-1"], client.tally.resumes), ([frames], 1))
        tokens = [headers["authorization"] for headers in server.headers]
        self.assertEqual(tokens, ["Bearer t.o.k", "Bearer new.to.ken"])

    @coroutine
    async def test_a_daemon_that_moves_its_streams(self) -> None:
        server = await self.serve(Manners(resumable=True, move_at=9))
        client = self.resuming(server)
        frames = await self.play(client, 20)
        self.assertEqual((server.streams["call-1"], client.tally.resumes), ([frames], 1))
        self.assertEqual(self.starts(server)[1]["resume_token"], "token-moved")

    @coroutine
    async def test_a_daemon_that_was_killed_is_sent_what_it_had_not_acknowledged(self) -> None:
        server = await self.serve(Manners(resumable=True, lose_at=(17,), forget_unacked=True))
        client = self.resuming(server)
        frames = await self.play(client, 30)
        self.assertEqual((server.streams["call-1"], client.tally.acked), ([frames], 30))
        acked = self.starts(server)[1]["acked"]
        self.assertEqual([len(connection.frames) for connection in server.connections], [17, 30 - acked])

    @coroutine
    async def test_a_stream_that_is_over_begins_anew_and_says_so(self) -> None:
        server = await self.serve(Manners(resumable=True, lose_at=(17,), resume_error="resume_expired"))
        client = self.resuming(server)
        frames = await self.play(client, 30)
        first, second = server.streams["call-1"]
        self.assertEqual((first, second), (frames[:17], frames[self.starts(server)[1]["acked"] :]))
        self.assertEqual((client.tally.restarts, client.tally.resumes), (1, 0))
        self.assertEqual(client.tally.errors[0][0], "resume_expired")
        self.assertTrue(client.tally.complete)

    @coroutine
    async def test_what_could_not_be_kept_is_declared(self) -> None:
        server = await self.serve(Manners(resumable=True, lose_at=(5,), deny_after=1, deny_count=2))
        self.patch(session_module, "kept_bytes", lambda rate: 40)
        client = self.resuming(server)
        frames = await self.play(client, 60, 0.01)
        (heard,) = server.streams["call-1"]
        lost = [number for number, frame in enumerate(heard) if not frame]
        self.assertEqual(client.tally.gap_frames, len(lost))
        self.assertGreater(len(lost), 0)
        kept = [frame for number, frame in enumerate(frames) if number not in lost]
        self.assertEqual([frame for frame in heard if frame], kept)
        self.assertEqual(client.tally.acked, 60 - len(lost))
        self.assertFalse(client.tally.complete)

    @coroutine
    async def test_audio_that_can_wait_does(self) -> None:
        server = await self.serve(Manners(resumable=True, lose_at=(5,), deny_after=1, deny_count=2))
        self.patch(session_module, "kept_bytes", lambda rate: 100)
        client = self.resuming(server, live=False)
        frames = await self.play(client, 60)
        self.assertEqual((server.streams["call-1"], client.tally.acked), ([frames], 60))

    @coroutine
    async def test_a_daemon_that_drains_is_asked_again(self) -> None:
        server = await self.serve(Manners(resumable=True, deny_count=2))
        client = self.resuming(server)
        frames = await self.play(client, 3)
        self.assertEqual((server.streams["call-1"], len(server.headers)), ([frames], 3))

    @coroutine
    async def test_a_line_that_breaks_before_the_stream_has_begun(self) -> None:
        server = await self.serve_raw(b"")
        client = self.resuming(server)
        self.patch(client_module, "OPEN_AGAIN_COUNT", 1)
        failed = await self.refusal(client, ConnectionFailed)
        self.assertEqual((failed.reason, server.raw_count), ("lost", 2))

    @coroutine
    async def test_the_end_of_the_window_is_the_end(self) -> None:
        manners = Manners(resumable=True, window_s=0.3, lose_at=(5,), deny_after=1, deny_count=10**6)
        server = await self.serve(manners)
        client = self.resuming(server)
        begun_s = self.reactor.seconds()
        await self.play(client, 8)
        self.assertLess(self.reactor.seconds() - begun_s, 5)
        assert client.gave_up is not None and client.ending is not None
        self.assertIn("HTTP 503", client.gave_up.message)
        self.assertEqual(client.ending.http_status, 503)

    @coroutine
    async def test_lost_between_stop_and_stopped(self) -> None:
        server = await self.serve(Manners(resumable=True))
        client = self.resuming(server)
        await client.open()
        client.send(b"0001")
        client.break_link()
        await client.stop(PATIENCE_S)
        self.assertTrue(client.tally.complete)
        self.assertEqual(client.tally.resumes, 1)

    @coroutine
    async def test_the_answer_to_stop_is_lost(self) -> None:
        server = await self.serve(Manners(resumable=True, lose_at_stop=True, resume_error="resume_expired"))
        client = self.resuming(server)
        frames = await self.play(client, 12)
        self.assertEqual(server.streams["call-1"], [frames])
        self.assertTrue(client.tally.unanswered)
        self.assertEqual((client.gave_up, client.tally.restarts), (None, 0))
        problem = client.tally.problem(client.ending)
        assert problem is not None
        self.assertIn("are not confirmed", problem.text)

    @coroutine
    async def test_the_answer_to_stop_is_heard_by_coming_back(self) -> None:
        server = await self.serve(Manners(resumable=True, lose_at_stop=True, stopped_at_resume=True))
        client = self.resuming(server)
        frames = await self.play(client, 12)
        self.assertEqual(server.streams["call-1"], [frames])
        self.assertTrue(client.tally.complete)
        self.assertEqual((client.gave_up, client.tally.restarts), (None, 0))
        self.assertEqual(client.ending.close_code, 1000)

    @coroutine
    async def test_an_abort_ends_the_attempts(self) -> None:
        server = await self.serve(Manners(resumable=True, lose_at=(1,), deny_after=1, deny_count=10**6))
        client = self.resuming(server)
        await client.open()
        client.send(b"0001")
        self.reactor.callLater(0.3, client.abort)
        await client.stop(PATIENCE_S)
        assert client.gave_up is not None

    @coroutine
    async def test_a_connection_that_stalls_is_left(self) -> None:
        self.patch(client_module, "STALLED_S", 1.0)
        server = await self.serve(Manners(resumable=True))
        client = self.resuming(server)
        await client.open()
        server.connections[0].transport.pauseProducing()
        for _ in range(400):
            client.send(bytes(20000))
        from twisted.internet.task import deferLater

        await deferLater(self.reactor, 1.2)
        client.send(b"last")
        await client.stop(PATIENCE_S)
        self.assertEqual(client.tally.resumes, 1)
        self.assertEqual(len(server.connections), 2)


class RefusalTests(ClientCase):
    @coroutine
    async def test_a_refused_upgrade_is_told_with_its_status(self) -> None:
        server = await self.serve(Manners(deny=(401, "no")))
        refused = await self.refusal(self.client(server.url()))
        self.assertIn("HTTP 401", refused.message)
        self.assertIn("token check", refused.hint)
        self.assertEqual(refused.exit_code, Exit.REFUSED)

    @coroutine
    async def test_the_code_in_the_body_of_a_refusal_is_read(self) -> None:
        body = b'{"code":"too_many_connections","message":"x","request_id":"r"}'
        answer = b"HTTP/1.1 503 Busy\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        server = await self.serve_raw(answer)
        refused = await self.refusal(self.client(server.url()))
        self.assertEqual(refused.code, "too_many_connections")
        self.assertIn("MAX_CONNECTIONS", refused.hint)

    @coroutine
    async def test_a_body_that_is_cut_short_is_still_a_refusal(self) -> None:
        server = await self.serve_raw(b"HTTP/1.1 404 No\r\nContent-Length: 500\r\n\r\n{")
        refused = await self.refusal(self.client(server.url()))
        self.assertIn("HTTP 404", refused.message)

    @coroutine
    async def test_what_is_no_websocket_is_no_connection(self) -> None:
        for answer in (b"220 mail.example.com ESMTP\r\n\r\n", b"\xff\xfe\x00" * 10):
            server = await self.serve_raw(answer)
            failed = await self.refusal(self.client(server.url()), ConnectionFailed)
            self.assertEqual(failed.exit_code, Exit.NO_CONNECTION)

    @coroutine
    async def test_a_start_that_is_refused_carries_code_and_close_code(self) -> None:
        server = await self.serve(Manners(start_error=("forbidden", 4403)))
        refused = await self.refusal(self.client(server.url()))
        self.assertEqual(refused.code, "forbidden")
        self.assertIn("close code 4403", refused.message)
        self.assertIn("--tenant", refused.hint)

    @coroutine
    async def test_a_start_that_is_refused_without_a_close_is_refused_all_the_same(self) -> None:
        server = await self.serve(Manners(start_error=("unsupported_audio", None)))
        refused = await self.refusal(self.client(server.url()))
        self.assertEqual(refused.code, "unsupported_audio")

    @coroutine
    async def test_a_token_that_fits_in_no_header_is_not_sent(self) -> None:
        server = await self.serve()
        refused = await self.refusal(self.client(server.url(), token="a\r\nX: y"), UsageFailed)
        self.assertNotIn("X: y", refused.message)
        self.assertEqual(server.headers, [])


class NoConnectionTests(ClientCase):
    @coroutine
    async def test_nobody_listens(self) -> None:
        server = await self.serve()
        from tests.support.daemon import free_port

        failed = await self.refusal(self.client(f"ws://127.0.0.1:{free_port()}/"), ConnectionFailed)
        self.assertEqual(failed.reason, "refused")
        self.assertEqual(failed.exit_code, Exit.NO_CONNECTION)
        self.assertEqual(server.connections, [])

    @coroutine
    async def test_tls_where_there_is_none(self) -> None:
        server = await self.serve_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        failed = await self.refusal(self.client(server.url("wss")), ConnectionFailed)
        self.assertEqual(failed.reason, "tls_none")

    @coroutine
    async def test_a_server_that_says_nothing(self) -> None:
        server = await self.serve_raw(None)
        failed = await self.refusal(self.client(server.url(), open_timeout_s=0.1), ConnectionFailed)
        self.assertEqual(failed.reason, "timeout")

    @coroutine
    async def test_a_server_that_does_not_answer_the_start(self) -> None:
        server = await self.serve(Manners(silent_start=True))
        # Long enough for the connection itself.
        refused = await self.refusal(self.client(server.url(), open_timeout_s=2.0))
        self.assertIn("did not say started", refused.message)

    @coroutine
    async def test_an_abort_ends_the_attempt_to_connect(self) -> None:
        server = await self.serve_raw(None)
        client = self.client(server.url())
        self.reactor.callLater(0.05, client.abort)
        failed = await self.refusal(client, ConnectionFailed)
        self.assertEqual(failed.exit_code, Exit.NO_CONNECTION)

    @coroutine
    async def test_a_certificate_nobody_vouches_for_names_the_way_out(self) -> None:
        server = await self.serve(tls=self.certificate("127.0.0.1"))
        failed = await self.refusal(self.client(server.url("wss")), ConnectionFailed)
        self.assertEqual(failed.reason, "tls_verify")
        self.assertIn("--ca", failed.hint)
        self.assertEqual(server.headers, [])

    @coroutine
    async def test_a_certificate_for_another_name(self) -> None:
        tls = self.certificate("voice.example.com")
        server = await self.serve(tls=tls)
        failed = await self.refusal(self.client(server.url("wss"), trust=Trust(tls[1])), ConnectionFailed)
        self.assertEqual(failed.reason, "tls_name")
        self.assertEqual(server.headers, [])

    @coroutine
    async def test_trusted_and_insecure_both_get_through(self) -> None:
        tls = self.certificate("127.0.0.1")
        server = await self.serve(tls=tls)
        for trust in (Trust(tls[1]), Trust(insecure=True)):
            client = self.client(server.url("wss"), trust=trust)
            await client.open()
            client.send(FRAME)
            await client.stop(PATIENCE_S)
            self.assertTrue(client.tally.complete)
            self.assertEqual(client.tls_version, "TLSv1.3")

    def certificate(self, host: str) -> tuple[Path, Path]:
        folder = self.mktemp_path()
        folder.mkdir()
        pair = tls_pair([host], datetime.now(UTC))
        key, certificate = folder / "key.pem", folder / "cert.pem"
        key.write_bytes(pair.private_pem)
        certificate.write_bytes(pair.public_pem)
        return key, certificate
