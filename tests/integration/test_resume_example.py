"""Clients that resume, against the real daemon: the small one of ``examples``, ``simulate``, ``bench``.

Between them and the daemon is a proxy that hangs up; or the daemon itself goes. The bus is a Redis
stream, which is read as a whole afterwards.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import redis
from twisted.internet.task import deferLater

from tests.cli.program import Program, ProgramCase, coroutine
from tests.cli.proxy import Proxy
from tests.support.daemon import ROOT, Daemon
from tests.support.servers import RedisServer
from tests.support.tokens import Issuer
from voiceingest.cli.minting import rsa_pair
from voiceingest.cli.speech import speak
from voiceingest.cli.wavfile import write_wav

PAIR = rsa_pair(2048)
ISSUER = Issuer()
SECRET = "s" * 32
# Long enough that a busy machine comes to its fault before the end.
RATE, SECONDS, FRAMES = 8000, 6.0, 30


class ResumeCase(ProgramCase):
    async def up(self, public_pem: str) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.redis = RedisServer(self)
        self.settings = {
            "PUBLISH_URL": self.redis.url().replace("redis:", "redis-streams:"),
            "JWT_PUBLIC_KEY": public_pem,
            "RESUME_SECRET": SECRET,
        }
        self.daemon = await self.another_daemon()
        self.proxy = Proxy()
        await self.proxy.listen(self, reactor, self.daemon.port)
        self.wav = self.mktemp_path().with_suffix(".wav")
        self.audio = speak(SECONDS, RATE)
        write_wav(self.wav, self.audio, RATE)

    async def another_daemon(self) -> Daemon:
        daemon = Daemon(self, self.settings)
        await daemon.start()
        return daemon

    def entries(self) -> list[dict[bytes, bytes]]:
        with redis.Redis(port=self.redis.port, socket_timeout=5) as client:
            answer: Any = client.xrange("audio:frames")
            return [fields for _, fields in answer]

    def events(self) -> list[dict[str, Any]]:
        with redis.Redis(port=self.redis.port, socket_timeout=5) as client:
            answer: Any = client.xrange("audio:events")
            return [json.loads(fields[b"event"]) for _, fields in answer]

    def check_bus(self) -> None:
        """Every frame once, in order, of one numbering; the audio is that of the file."""
        entries = self.entries()
        self.assertEqual([int(entry[b"seq"]) for entry in entries], list(range(1, FRAMES + 1)))
        self.assertEqual(len({entry[b"epoch"] for entry in entries}), 1)
        self.assertEqual(b"".join(entry[b"audio"] for entry in entries), self.audio)


class ExampleTests(ResumeCase):
    def example(self) -> Program:
        """Start the client of the documentation."""
        program = Program(self.reactor)
        command = [sys.executable, str(ROOT / "examples" / "resume_client.py"), str(self.wav)]
        environ = {"WS_URL": self.proxy.url(), "JWT_TOKEN": ISSUER.token("acme"), "TENANT_ID": "acme"}
        self.reactor.spawnProcess(program, sys.executable, command, env=environ)
        self.addCleanup(program.kill)
        return program

    async def frames_there(self, count: int) -> None:
        for _ in range(2000):
            if len(self.entries()) >= count:
                return
            await deferLater(self.reactor, 0.02)
        raise AssertionError(f"only {len(self.entries())} frames")

    async def names_of_all_events(self) -> list[str]:
        """The events, once the last is there: the client is told of its end before the bus is."""
        for _ in range(2000):
            names = [event["event"] for event in self.events()]
            if "stopped" in names:
                return names
            await deferLater(self.reactor, 0.02)
        raise AssertionError(f"only {names}")

    @coroutine
    async def test_connections_that_are_cut_again_and_again(self: Any) -> None:
        await self.up(ISSUER.public_pem)
        program = self.example()
        await self.frames_there(1)
        self.proxy.cut_every(self, 0.7)
        self.assertEqual((await program.ended, program.err), (0, ""))
        (told,) = program.documents
        self.assertGreaterEqual(told["resumes"], 3)
        self.assertEqual((told["restarts"], told["stopped"]["published"]), (0, FRAMES))
        self.check_bus()
        names = await self.names_of_all_events()
        self.assertEqual((names[0], names[-1], names.count("started")), ("started", "stopped", 1))

    @coroutine
    async def test_a_daemon_that_drains_and_another_that_goes_on(self: Any) -> None:
        await self.up(ISSUER.public_pem)
        # Before it speaks: a daemon takes its time to come up, and the audio is not long.
        other = await self.another_daemon()
        program = self.example()
        await self.frames_there(5)
        self.proxy.to = other.port
        await self.daemon.stop()
        self.assertEqual((await program.ended, program.err), (0, ""))
        self.assertEqual((program.documents[0]["resumes"], program.documents[0]["restarts"]), (1, 0))
        self.check_bus()

    @coroutine
    async def test_a_daemon_that_is_killed_and_another_that_goes_on(self: Any) -> None:
        await self.up(ISSUER.public_pem)
        other = await self.another_daemon()
        program = self.example()
        await self.frames_there(12)
        self.proxy.to = other.port
        self.daemon._transport.signalProcess("KILL")
        self.assertEqual((await program.ended, program.err), (0, ""))
        self.assertEqual((program.documents[0]["resumes"], program.documents[0]["restarts"]), (1, 0))
        # What was not acknowledged may be there twice, with the same numbers; nothing is missing.
        once = {(entry[b"epoch"], int(entry[b"seq"])): entry[b"audio"] for entry in self.entries()}
        self.assertEqual(b"".join(once[key] for key in sorted(once)), self.audio)
        self.assertEqual(len(once), FRAMES)

    @coroutine
    async def test_a_token_nobody_knows_begins_anew(self: Any) -> None:
        await self.up(ISSUER.public_pem)
        self.settings["RESUME_SECRET"] = "another secret of thirty-two characters"
        other = await self.another_daemon()
        program = self.example()
        await self.frames_there(12)
        self.proxy.to = other.port
        self.proxy.cut()
        self.assertEqual((await program.ended, program.err), (0, ""))
        self.assertEqual((program.documents[0]["resumes"], program.documents[0]["restarts"]), (0, 1))
        self.assertEqual(len({entry[b"epoch"] for entry in self.entries()}), 2)
        heard = b"".join(entry[b"audio"] for entry in self.entries())
        self.assertIn(self.audio[-RATE:], heard)


class CommandTests(ResumeCase):
    """The same with our own commands."""

    async def up_with_key(self) -> None:
        await self.up(PAIR.public_pem.decode())
        key = self.mktemp_path()
        key.write_bytes(PAIR.private_pem)
        self.where = ("--url", self.proxy.url(), "--key", key)

    @coroutine
    async def test_simulate(self: Any) -> None:
        await self.up_with_key()
        program = self.start("simulate", "ingest", self.wav, *self.where)
        # A stream that has begun comes back for as long as its window is; before that, twice.
        await program.until(self.entries)
        self.proxy.cut_every(self, 0.7)
        self.assertEqual((await program.ended), 0, program.out + program.err)
        self.assertRegex(program.out, r"resumed: +\d+ times")
        self.check_bus()

    @coroutine
    async def test_simulate_from_one_daemon_to_another(self: Any) -> None:
        await self.up_with_key()
        other = await self.another_daemon()
        program = self.start("simulate", "ingest", self.wav, *self.where, "--json")
        await program.until(lambda: len(self.entries()) > 3)
        self.proxy.to = other.port
        await self.daemon.stop()
        self.assertEqual((await program.ended), 0, program.err)
        (document,) = program.documents
        self.assertEqual((document["resumes"], document["confirmed_frames"]), (1, FRAMES))
        self.check_bus()

    @coroutine
    async def test_simulate_without_resuming(self: Any) -> None:
        await self.up_with_key()
        program = self.start("simulate", "ingest", self.wav, *self.where, "--no-resume")
        await program.until(lambda: len(self.entries()) > 3)
        self.proxy.cut()
        self.assertEqual((await program.ended), 1)
        self.assertIn("The connection broke", program.err)

    def speaking_after(self, count: int) -> int:
        """How many streams have resumed so often and have been heard since."""
        heard: dict[str, int] = {}
        for entry in self.entries():
            name = entry[b"interaction_id"].decode()
            heard[name] = max(heard.get(name, 0), int(entry[b"seq"]))
        begun: dict[str, list[int]] = {}
        for event in self.events():
            if event["event"] == "resumed":
                begun.setdefault(event["interaction_id"], []).append(event["next_seq"])
        return sum(len(seqs) >= count and heard.get(name, 0) >= seqs[-1] for name, seqs in begun.items())

    @coroutine
    async def test_bench(self: Any) -> None:
        await self.up_with_key()
        options = ("--streams", "8", "--frame-ms", "50", "--seconds", "100", "--json")
        bus = ("--publish-url", self.settings["PUBLISH_URL"])
        program = self.start("bench", *self.where, *bus, *options)
        # Said when all have begun.
        await program.until(lambda: "heard at" in program.err)
        for count in (1, 2):
            self.proxy.cut()
            # Who is cut again before that has come back once.
            await program.until(lambda count=count: self.speaking_after(count) == 8)
        # An interrupt ends the load, and what was sent is counted as ever.
        program.signal("INT")
        self.assertEqual((await program.ended), 0, program.out + program.err)
        (document,) = program.documents
        self.assertGreaterEqual(document["resumes"], 16)
        samples = document["samples"]
        self.assertEqual(samples["received"], samples["sent"])
