from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.case import SynchronousTestCase
from tests.support.daemon import Daemon, free_port
from tests.support.tokens import Issuer
from voiceingest.cli.failures import UsageFailed
from voiceingest.cli.minting import rsa_pair
from voiceingest.cli.simulate import names, token_source
from voiceingest.cli.wavfile import write_wav

from .program import ProgramCase, coroutine, invoked
from .server import Manners, Server

PAIR = rsa_pair(2048)
ISSUER = Issuer(kid=None)


class AgainstTheDaemonTests(ProgramCase):
    async def up(self) -> None:
        folder = self.mktemp_path()
        folder.mkdir()
        self.key = folder / "private.pem"
        self.key.write_bytes(PAIR.private_pem)
        self.daemon = Daemon(
            self, {"PUBLISH_URL": "memory://", "JWT_PUBLIC_KEY": PAIR.public_pem.decode()}, tls=True
        )
        await self.daemon.start()
        self.where = ("--url", self.daemon.wss_url("/v1/ingest"), "--ca", self.daemon.ca_path)

    @coroutine
    async def test_what_is_spoken_over_tls_with_a_minted_token(self: Any) -> None:
        await self.up()
        # The longest first; the others run meanwhile.
        spoken = self.start(
            "simulate", "ingest", *self.where, "--key", self.key, "--seconds", "50", terminal=True
        )
        await self.a_file()
        await self.many_streams_as_json()
        await spoken.until(lambda: "dBFS" in spoken.seen)
        spoken.signal("INT")
        # Ctrl-C stops the stream and waits for the last frames.
        self.assertEqual((await spoken.ended), 0)
        self.assertIn("ok: every frame was confirmed", spoken.seen)
        self.assertIn("closed:      1000", spoken.seen)

    async def a_file(self) -> None:
        wav = self.mktemp_path().with_suffix(".wav")
        write_wav(wav, bytes(range(256)) * 100, 16000)
        program = await self.run_it("simulate", "ingest", wav, *self.where, "--key", self.key)
        self.assertEqual(program.code, 0, program.out + program.err)
        self.assertIn("sent:        4 frames, 0.8 s of audio, 25600 bytes", program.out)
        self.assertIn("closed:      1000, TLSv1.3", program.out)
        self.assertTrue(program.out.endswith("ok: every frame was confirmed\n"))

    async def many_streams_as_json(self) -> None:
        load = ("--streams", "5", "--frame-ms", "20", "--seconds", "0.24", "--json")
        program = await self.run_it("simulate", "ingest", *self.where, "--key", self.key, *load)
        self.assertEqual(program.code, 0, program.err)
        (document,) = program.documents
        self.assertEqual((document["ok"], document["streams"], document["confirmed_frames"]), (True, 5, 60))
        self.assertEqual(document["acks"], 5)
        self.assertEqual(set(document["ack_latency_ms"]), {"p50", "p95", "p99", "max"})

    @coroutine
    async def test_refusals_have_their_code_and_a_hint(self: Any) -> None:
        await self.up()
        nowhere = ("--url", self.daemon.wss_url("/nowhere"))
        refused = self.start("simulate", "ingest", *self.where, JWT_TOKEN=ISSUER.token("demo"))
        lost = self.start("simulate", "ingest", *self.where[2:], *nowhere, "--key", self.key)
        nobody_vouches = self.start("simulate", "ingest", *self.where[:2], "--key", self.key, "--json")
        unchecked = self.start(
            "simulate", "ingest", *self.where[:2], "--key", self.key, "--insecure", "--seconds", "0.2"
        )
        self.assertEqual(((await refused.ended), refused.out), (1, ""))
        self.assertIn("(unauthorized, HTTP 401)", refused.err)
        self.assertIn("hint: ", refused.err)
        self.assertEqual((await lost.ended), 1)
        self.assertIn("HTTP 404", lost.err)
        self.assertEqual((await nobody_vouches.ended), 3)
        self.assertFalse(nobody_vouches.documents[0]["ok"])
        self.assertIn("--ca FILE", nobody_vouches.err)
        self.assertEqual((await unchecked.ended), 0, unchecked.err)
        self.assertNotIn("Traceback", refused.err + lost.err + nobody_vouches.err + unchecked.err)


class AgainstBadMannersTests(ProgramCase):
    async def call(self, manners: Manners, *arguments: Any) -> Any:
        from twisted.internet import reactor

        server = Server(manners)
        await server.listen(self, reactor)
        return await self.run_it(
            "simulate", "ingest", "--url", server.url(), "--frame-ms", "20", *arguments, JWT_TOKEN="a.b.c"
        )

    @coroutine
    async def test_a_close_on_the_way(self: Any) -> None:
        program = await self.call(Manners(close_at=(5, 4429)), "--seconds", "1")
        self.assertEqual(program.code, 1)
        self.assertIn("Too much came in too short a time", program.err)
        self.assertIn("--fast", program.err)
        self.assertIn("closed:      4429", program.out)

    @coroutine
    async def test_what_the_server_complained_about_is_told(self: Any) -> None:
        program = await self.call(Manners(error_at=2), "--seconds", "0.2")
        self.assertEqual(program.code, 0)
        self.assertIn("server: odd_frame:", program.err)

    @coroutine
    async def test_some_streams_of_many_fail(self: Any) -> None:
        program = await self.call(Manners(drop_at=3), "--seconds", "0.2", "--streams", "3")
        self.assertEqual(program.code, 1)
        self.assertIn("3 streams: The connection broke", program.err)
        self.assertIn("streams:     0 of 3", program.out)


class UsageTests(ProgramCase):
    @coroutine
    async def test_what_is_wrong_before_anything_is_sent(self: Any) -> None:
        stereo = self.mktemp_path().with_suffix(".pcm")
        stereo.write_bytes(b"abc")
        for arguments, words in (
            (("--url", "ws://127.0.0.1:1"), "there is no token"),
            ((stereo, "--token", "t"), "whole number"),
            (("--rate", "11025", "--token", "t"), "11025"),
            (("--seconds", "soon", "--token", "t"), "length of time"),
        ):
            result = invoked("simulate", "ingest", *arguments)
            self.assertEqual(result.exit_code, 2, result.stderr)
            self.assertIn(words, result.stderr)
        # What these say is found out by what connects: in processes, all at once.
        programs = [
            (self.start("simulate", "ingest", *arguments), words)
            for arguments, words in (
                (("--url", "http://x", "--token", "t"), "begins with ws:// or wss://"),
                (("--url", "ws://127.0.0.1:1", "--token", "a\nb"), "character"),
                (("--ca", stereo, "--token", "t"), "no PEM certificate"),
            )
        ]
        for program, words in programs:
            self.assertEqual((await program.ended), 2, program.err)
            self.assertIn(words, program.err)

    @coroutine
    async def test_nobody_there(self: Any) -> None:
        program = await self.run_it(
            "simulate", "ingest", "--url", f"ws://127.0.0.1:{free_port()}", "--token", "t"
        )
        self.assertEqual((program.code, program.out), (3, ""))
        self.assertIn("nothing listens at", program.err)

    @coroutine
    async def test_a_second_ctrl_c_does_not_wait(self: Any) -> None:
        from twisted.internet import reactor

        server = Server(Manners(stopped=False))
        await server.listen(self, reactor)
        program = self.start("simulate", "ingest", "--url", server.url(), JWT_TOKEN="a.b.c")
        await program.until(lambda: server.connections and server.connections[0].frames)
        program.signal("INT")
        await program.until(lambda: {"event": "stop"} in server.controls)
        program.signal("INT")
        self.assertEqual((await program.ended), 130)


class TokenSourceTests(SynchronousTestCase):
    def test_a_token_that_was_given(self) -> None:
        self.assertEqual(token_source("given", None, "acme")("call"), "given")

    def test_a_key_goes_before_a_token(self) -> None:
        path = self.mktemp_path()
        path.write_bytes(PAIR.private_pem)
        minted = token_source("given", path, "acme")("call")
        assert minted is not None
        self.assertEqual(minted.count("."), 2)

    def test_neither(self) -> None:
        with self.assertRaises(UsageFailed):
            token_source(None, None, "acme")

    def test_a_key_that_is_none(self) -> None:
        with self.assertRaises(UsageFailed):
            token_source(None, Path("/proc/nobody"), "acme")


class NameTests(SynchronousTestCase):
    def test_names(self) -> None:
        self.assertEqual(names({"interaction": "call", "streams": 1}), ["call"])
        self.assertEqual(names({"interaction": "call", "streams": 2}), ["call-1", "call-2"])
        made_up = names({"interaction": None, "streams": 1})
        self.assertRegex(made_up[0], r"\Asim-[0-9a-f]{8}\Z")
        self.assertNotEqual(made_up, names({"interaction": None, "streams": 1}))
