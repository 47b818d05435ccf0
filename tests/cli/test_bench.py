from __future__ import annotations

from typing import Any

from tests.support.case import SynchronousTestCase
from tests.support.daemon import Daemon, free_port
from tests.support.servers import RedisServer
from voiceingest.cli.bench import frame_length_s
from voiceingest.cli.minting import rsa_pair

from .program import ProgramCase, coroutine, invoked

PAIR = rsa_pair(2048)


class SelfTests(ProgramCase):
    @coroutine
    async def test_everybody_can_try_it(self: Any) -> None:
        program = await self.run_it(
            "bench", "--self", "--streams", "5", "--seconds", "0.4", "--frame-ms", "20", "--json"
        )
        self.assertEqual(program.code, 0, program.out + program.err)
        (document,) = program.documents
        self.assertTrue(document["ok"])
        self.assertEqual((document["streams"], document["frames"]), (5, 100))
        samples = document["samples"]
        self.assertEqual((samples["sent"], samples["received"]), (100 * 480, 100 * 480))
        self.assertEqual(set(document["mouth_to_bus_ms"]), {"p50", "p99", "p99.9", "max"})

    @coroutine
    async def test_flat_out(self: Any) -> None:
        program = await self.run_it("bench", "--self", "--streams", "2", "--seconds", "200ms", "--flat-out")
        self.assertEqual(program.code, 0, program.out + program.err)
        self.assertIn("ok: sent = received + declared, in order", program.out)


class AgainstTheDaemonTests(ProgramCase):
    async def up(self) -> None:
        folder = self.mktemp_path()
        folder.mkdir()
        key = folder / "private.pem"
        key.write_bytes(PAIR.private_pem)
        self.redis = RedisServer(self)
        bus = self.redis.url()
        self.daemon = Daemon(self, {"PUBLISH_URL": bus, "JWT_PUBLIC_KEY": PAIR.public_pem.decode()})
        await self.daemon.start()
        url = self.daemon.ws_url("/v1/ingest")
        self.where = ("--url", url, "--key", key, "--publish-url", bus, "--streams", "4", "--frame-ms", "40")

    @coroutine
    async def test_over_pubsub_and_a_bus_that_loses_what_it_was_given_is_told(self: Any) -> None:
        await self.up()
        import redis

        sound = self.start("bench", *self.where, "--seconds", "0.4", "--json")
        self.assertEqual((await sound.ended), 0, sound.out + sound.err)
        self.assertEqual(sound.documents[0]["samples"]["received"], 4 * 10 * 960)
        # It still speaks when its subscription is cut, however late that is.
        broken = self.start("bench", *self.where, "--seconds", "4", "--json")
        with redis.Redis(port=self.redis.port, socket_timeout=5) as client:
            await broken.until(lambda: "heard at" in broken.err)
            await broken.until(lambda: client.client_kill_filter(_type="pubsub"))
        self.assertEqual((await broken.ended), 1, broken.err)
        (document,) = broken.documents
        self.assertGreater(document["samples"]["lost"], 0)
        self.assertIn("nobody said so", broken.err)

    @coroutine
    async def test_nobody_there_and_nothing_to_show(self: Any) -> None:
        url = f"redis://127.0.0.1:{free_port()}"
        alone = self.start("bench", "--url", "ws://127.0.0.1:1", "--token", "t", "--publish-url", url)
        nothing = self.start("bench", "--publish-url", "redis://h")
        self.assertEqual((await alone.ended), 3, alone.err)
        self.assertIn("nothing listens", alone.err)
        self.assertEqual((await nothing.ended), 2, nothing.err)
        self.assertIn("there is no token", nothing.err)

    def test_usage(self) -> None:
        for arguments, words in (
            (("--publish-url", "memory://", "--token", "t"), "inside the daemon"),
            (("--self", "--rate", "8000", "--frame-ms", "1.9"), "--frame-ms"),
        ):
            result = invoked("bench", *arguments)
            self.assertEqual(result.exit_code, 2, result.stderr)
            self.assertIn(words, result.stderr)


class LengthTests(SynchronousTestCase):
    def test_of_a_frame(self) -> None:
        self.assertEqual(frame_length_s({"rate": "8000", "frame_ms": 20, "flat_out": False}), 0.02)
        self.assertEqual(frame_length_s({"rate": "8000", "frame_ms": 20, "flat_out": True}), 0.0)
