from __future__ import annotations

import wave
from typing import Any

from tests.support.case import SynchronousTestCase
from tests.support.daemon import Daemon
from tests.support.servers import RedisServer
from voiceingest.cli.failures import UsageFailed
from voiceingest.cli.minting import rsa_pair
from voiceingest.cli.readers import parse_redis
from voiceingest.cli.speech import speak
from voiceingest.cli.wavfile import write_wav

from .program import Program, ProgramCase, coroutine, invoked

PAIR = rsa_pair(2048)


class WholeWayTests(ProgramCase):
    """From a WAV file through the daemon and Redis into a WAV file."""

    async def up(self, **settings: str) -> None:
        self.folder = self.mktemp_path()
        self.folder.mkdir()
        self.key = self.folder / "private.pem"
        self.key.write_bytes(PAIR.private_pem)
        self.redis = RedisServer(self, password="canary")
        self.url = self.redis.url("default", "canary")
        public = {"JWT_PUBLIC_KEY": PAIR.public_pem.decode()}
        self.daemon = Daemon(self, {"REDIS_URL": self.url, **public, **settings}, tls=True)
        await self.daemon.start()

    async def tails(self, *several: tuple[Any, ...], terminal: bool = False) -> list[Program]:
        """Start one for each, the last at a terminal, and wait until all have their subscriptions."""
        import redis

        programs = [
            self.start("tail", *arguments, terminal=terminal and arguments is several[-1], REDIS_URL=self.url)
            for arguments in several
        ]
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            clients = client.client_list
            for program in programs:
                await program.until(
                    lambda: sum(int(one["sub"]) + int(one["psub"]) == 2 for one in clients()) == len(several)
                )
        return programs

    async def say(self, interaction: str, *arguments: Any) -> None:
        where = ("--url", self.daemon.wss_url("/v1/ingest"), "--ca", self.daemon.ca_path, "--key", self.key)
        program = await self.run_it("simulate", "ingest", *arguments, *where, "--interaction", interaction)
        self.assertEqual(program.code, 0, program.err)

    @coroutine
    async def test_a_recording_is_bit_for_bit_a_count_ends_it_and_a_meter_moves(self: Any) -> None:
        await self.up()
        spoken, out = self.folder / "spoken.wav", self.folder / "out.wav"
        write_wav(spoken, speak(1.0, 16000), 16000)
        recording, counting, metering = await self.tails(
            ("--record", out, "--interaction", "call-7"),
            ("--count", "3", "--interaction", "call-7"),
            (),
            terminal=True,
        )
        # Long enough to be drawn while it speaks.
        await self.say("other", "--tone", "440", "--seconds", "3")
        await metering.until(lambda: "event   stopped" in metering.seen)
        metering.signal("INT")
        self.assertEqual((await metering.ended), 0)
        self.assertRegex(metering.seen, r"other +demo +24000 Hz +seq \d+ +\d\.\d s +█+\S* +-9\.0 dBFS")
        await self.say("call-7", spoken)
        await recording.until(lambda: "event   stopped" in recording.out)
        recording.signal("INT")
        self.assertEqual((await recording.ended), 0)
        with wave.open(str(out), "rb") as recorded:
            self.assertEqual(recorded.getparams()[:3], (1, 2, 16000))
            self.assertEqual(recorded.readframes(recorded.getnframes()), speak(1.0, 16000))
        self.assertIn("5 frames, 2 events, 1 streams, 0 missing, 0 repeated", recording.err)
        self.assertEqual(recording.out.count("\nframe   "), 5)
        self.assertNotIn("canary", recording.out + recording.err)
        self.assertEqual((await counting.ended), 0)
        self.assertEqual(counting.out.count("frame   "), 3)
        self.assertNotIn("other", counting.out)

    @coroutine
    async def test_templates_two_streams_and_json(self: Any) -> None:
        template = {
            "REDIS_CHANNEL": "audio:frames:{tenant_id}",
            "REDIS_EVENTS_CHANNEL": "audio:events:{tenant_id}:{interaction_id}",
        }
        await self.up(**template)
        channels = (
            "--channel",
            template["REDIS_CHANNEL"],
            "--events-channel",
            template["REDIS_EVENTS_CHANNEL"],
        )
        (program,) = await self.tails((*channels, "--json", "--record", self.folder / "out.wav"))
        await self.say("call", "--streams", "2", "--seconds", "0.2", "--frame-ms", "40")
        await program.until(lambda: program.out.count('"event": "stopped"') == 2)
        program.signal("TERM")
        self.assertEqual((await program.ended), 0)
        frames = [found for found in program.documents if found["type"] == "frame"]
        for name in ("call-1", "call-2"):
            seqs = [found["seq"] for found in frames if found["interaction_id"] == name]
            self.assertEqual(seqs, [1, 2, 3, 4, 5])
        summary = program.documents[-1]
        self.assertEqual((summary["type"], summary["frames"], summary["events"]), ("summary", 10, 4))
        self.assertEqual(
            sorted(path.name for path in self.folder.glob("out*")), ["out-call-1.wav", "out-call-2.wav"]
        )


class AloneTests(ProgramCase):
    @coroutine
    async def test_for_a_time_and_not_as_many_as_were_asked_for(self: Any) -> None:
        redis = RedisServer(self)
        program = self.start("tail", "--url", redis.url(), "--for", "100ms")
        wanting = self.start("tail", "--url", redis.url(), "--for", "100ms", "--count", "1")
        self.assertEqual((await program.ended), 0, program.err)
        self.assertEqual((await wanting.ended), 1)
        self.assertIn("0 frames came, not 1", wanting.err)

    @coroutine
    async def test_nobody_reads_what_it_says(self: Any) -> None:
        redis = RedisServer(self)
        program = self.start("tail", "--url", redis.url())
        import redis as client_library

        with client_library.Redis.from_url(redis.url(), socket_timeout=5) as client:
            await program.until(lambda: len(client.pubsub_channels()) == 2)
            program.transport.closeStdout()
            event = b'{"event":"x","tenant_id":"a","interaction_id":"b","timestamp_ms":1}'
            await program.until(lambda: program.code is not None or not client.publish("audio:events", event))
        self.assertEqual((await program.ended), 0)
        self.assertNotIn("Traceback", program.err)
        self.assertNotIn("BrokenPipe", program.err)

    def test_what_is_wrong_before_anything_is_heard(self) -> None:
        there = self.mktemp_path()
        there.write_bytes(b"precious")
        for arguments, words in (
            (("--url", "http://user:canary@h"), "redis, rediss, unix, "),
            (("--record", there), "exists"),
            (("--for", "soon"), "length of time"),
            (("--count", "0"), "--count"),
        ):
            result = invoked("tail", *arguments)
            self.assertEqual(result.exit_code, 2, result.stderr)
            self.assertIn(words, result.stderr)
            self.assertNotIn("canary", result.stderr)
        self.assertEqual(there.read_bytes(), b"precious")


class UrlTests(SynchronousTestCase):
    def test_a_url_that_is_none_is_told_without_being_repeated(self) -> None:
        with self.assertRaises(UsageFailed) as caught:
            parse_redis("redis://user:canary#1@h")
        self.assertTrue(caught.exception.message.startswith("--url "))
        self.assertNotIn("canary", caught.exception.message)
