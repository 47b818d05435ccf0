"""``tail`` and ``bench`` at the end of each bus the daemon has, with real servers."""

from __future__ import annotations

import wave
from typing import Any

from tests.support.daemon import Daemon
from tests.support.nats_servers import NatsServer
from tests.support.sentinels import Sentinels
from tests.support.servers import RedisServer
from voiceingest.cli.minting import rsa_pair
from voiceingest.cli.speech import speak
from voiceingest.cli.wavfile import write_wav

from .program import Program, ProgramCase, coroutine

PAIR = rsa_pair(2048)


class BusCase(ProgramCase):
    async def up(self, bus: str) -> None:
        self.bus = bus
        self.folder = self.mktemp_path()
        self.folder.mkdir()
        key = self.folder / "private.pem"
        key.write_bytes(PAIR.private_pem)
        settings = {"PUBLISH_URL": bus, "JWT_PUBLIC_KEY": PAIR.public_pem.decode()}
        self.daemon = Daemon(self, settings)
        await self.daemon.start()
        self.where = ("--url", self.daemon.ws_url("/v1/ingest"), "--key", key)

    async def whole_way(self, bus: str, *arguments: str) -> Program:
        """A WAV file through the daemon and the bus into a WAV file."""
        await self.up(bus)
        spoken, out = self.folder / "spoken.wav", self.folder / "out.wav"
        write_wav(spoken, speak(0.2, 8000), 8000)
        where = (*self.where, "--interaction", "call-7", "--frame-ms", "40")
        said = await self.run_it("simulate", "ingest", spoken, *where)
        self.assertEqual(said.code, 0, said.err)
        program = self.start("tail", "--json", "--record", out, *arguments, PUBLISH_URL=bus)
        await program.until(lambda: '"event": "stopped"' in program.out)
        program.signal("INT")
        self.assertEqual((await program.ended), 0, program.err)
        with wave.open(str(out), "rb") as recorded:
            self.assertEqual(recorded.readframes(recorded.getnframes()), speak(0.2, 8000))
        frames = [found for found in program.documents if found["type"] == "frame"]
        self.assertEqual([found["seq"] for found in frames], [1, 2, 3, 4, 5])
        self.assertEqual(len({found["epoch"] for found in frames}), 1)
        summary = program.documents[-1]
        self.assertEqual((summary["missing"], summary["repeated"], summary["unreadable"]), (0, 0, 0))
        return program

    async def bench(self) -> None:
        options = ("--streams", "4", "--frame-ms", "40", "--seconds", "0.4", "--json")
        program = await self.run_it("bench", *self.where, *options, PUBLISH_URL=self.bus)
        self.assertEqual(program.code, 0, program.out + program.err)
        self.assertEqual(program.documents[0]["samples"]["received"], 4 * 10 * 960)


class BusTests(BusCase):
    @coroutine
    async def test_redis_streams(self: Any) -> None:
        server = RedisServer(self, password="canary")
        bus = server.url("default", "canary").replace("redis:", "redis-streams:")
        program = await self.whole_way(bus, "--from-start")
        self.assertNotIn("canary", program.out + program.err)
        await self.bench()

    @coroutine
    async def test_redis_streams_by_sentinels(self: Any) -> None:
        primary = RedisServer(self)
        sentinels = Sentinels(self, primary, [RedisServer(self, replica_of=primary)])
        await self.whole_way(sentinels.url("redis-streams"), "--from-start")
        await self.bench()

    @coroutine
    async def test_jetstream(self: Any) -> None:
        server = NatsServer(self)
        await self.whole_way(server.url(), "--from-start")
        await self.bench()
