"""A restart nobody notices: two daemons on one port, the older one drains under load (scenario 30)."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import time
from collections import Counter
from typing import Any, Final

from twisted.trial.unittest import SkipTest

from tests.support.case import SynchronousTestCase
from tests.support.daemon import HOST, Daemon, free_port
from tests.support.servers import RedisServer
from tests.support.sockets import handshake
from voiceingest.accepting import SETTLE_S
from voiceingest.aio import as_future
from voiceingest.config import Settings
from voiceingest.places import take_apart

from .callers import Caller, audio_of
from .case import IngestCase, asynchronous
from .test_systemd import SERVICE, UNITS, directives

_STREAMS: Final = 20
# 40 ms of audio every 40 ms.
_PACE_S: Final = 0.04
_FRAME_BYTES: Final = 1920
# What is still sent when the older daemon has gone.
_LAST_FRAMES: Final = 25

# When the other daemon is up, and how long the older one may take for its streams.
_TERM_AFTER_S: Final = 1.0
_DRAIN_DEADLINE_S: Final = 2.0
_LISTEN_S: Final = 0.6
# Beyond the deadline: the flush of what was accepted, and the end of the process.
_EXIT_MARGIN_S: Final = 20.0


class ResumingClient:
    """One paced stream that goes on wherever it may: at ``moved`` and at any end of its connection."""

    def __init__(self, case: IngestCase, port: int, interaction_id: str) -> None:
        self._case = case
        self._port = port
        self._token = case.issuer.token()
        self._zero = time.monotonic()
        self.last_seq: int | None = None
        self.interaction_id = interaction_id
        self.resume_token: str | None = None
        self.acked = 0
        self.begun: list[dict[str, Any]] = []
        self.moved: list[dict[str, Any]] = []
        self.stopped: dict[str, Any] | None = None
        self.close_codes: list[int | None] = []
        self.not_connected: list[str] = []
        self.refused: list[str] = []

    async def run(self) -> None:
        """Send frames as they come due, until :meth:`end`."""
        while self.stopped is None:
            caller = await self._connect()
            if caller is None:
                await asyncio.sleep(_PACE_S)
                continue
            try:
                await self._speak(caller)
            finally:
                caller.abort()

    def end(self) -> None:
        """Some frames more, then ``stop``."""
        self.last_seq = self._due() + _LAST_FRAMES

    def _due(self) -> int:
        return int((time.monotonic() - self._zero) / _PACE_S)

    async def _connect(self) -> Caller | None:
        """A WebSocket, or ``None``: why is in ``refused`` (told so in HTTP) or ``not_connected``."""
        caller = Caller()
        try:
            await asyncio.get_running_loop().create_connection(lambda: caller, HOST, self._port)
        except OSError as error:
            self.not_connected.append(type(error).__name__)
            return None
        caller.send(handshake("/v1/ingest", Authorization=f"Bearer {self._token}"))
        await caller.until(lambda: caller.head or caller.lost, "an answer to the handshake")
        if not caller.head:
            self.not_connected.append("closed without an answer")
            return None
        if caller.status == 101:
            return caller
        await caller.closed()
        self.refused.append(f"{caller.status} {caller.headers.get('retry-after')} {caller.body.decode()}")
        return None

    async def _speak(self, caller: Caller) -> None:
        resume: dict[str, Any] = {}
        if self.resume_token is not None:
            resume = {"resume_token": self.resume_token, "acked": self.acked, "from_seq": self.acked + 1}
        caller.say(
            "start", interaction_id=self.interaction_id, tenant_id="t1", sample_rate=24000, resumable=True,
            **resume,
        )
        await caller.until(lambda: caller.events("started") or caller.lost, "started")
        if not caller.events("started"):
            self.close_codes.append(caller.close_code)
            return
        started = caller.events("started")[0]
        self.begun.append(started)
        self.resume_token = started["resume_token"]
        await self._send(caller, started["next_seq"])
        await caller.closed()
        self.close_codes.append(caller.close_code)
        self._take_note(caller)

    async def _send(self, caller: Caller, seq: int) -> None:
        """Frames as they come due, until this connection takes no more."""
        has_said_stop = False
        while not (caller.lost or caller.events("moved") or caller.events("stopped")):
            due = self._due()
            while seq <= min(due, self.last_seq or due):
                caller.audio(audio_of(seq, _FRAME_BYTES))
                seq += 1
            if self.last_seq is not None and seq > self.last_seq and not has_said_stop:
                has_said_stop = True
                caller.say("stop")
            await asyncio.sleep(_PACE_S / 2)

    def _take_note(self, caller: Caller) -> None:
        """What the connection said before it ended: how far it came, and how to go on."""
        self.acked = max([self.acked, *(ack["seq"] for ack in caller.events("ack"))])
        for goaway in caller.events("goaway"):
            self.resume_token = goaway["resume_token"]
        for moved in caller.events("moved"):
            self.moved.append(moved)
            self.resume_token, self.acked = moved["resume_token"], moved["seq"]
        for stopped in caller.events("stopped"):
            self.stopped = stopped


class Prober:
    """Asks for ``/readyz`` on new connections all the time, as many callers would come."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answers: Counter[str] = Counter()

    async def run(self) -> None:
        """Until cancelled; each is waited for on its own, since one SYN may have to be sent again."""
        asked: set[asyncio.Task[None]] = set()
        try:
            while True:
                task = asyncio.create_task(self._ask())
                asked.add(task)
                task.add_done_callback(asked.discard)
                await asyncio.sleep(0.01)
        finally:
            await asyncio.gather(*asked)

    async def _ask(self) -> None:
        try:
            reader, writer = await asyncio.open_connection(HOST, self._port)
        except OSError as error:
            self.answers[type(error).__name__] += 1
            return
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            self.answers[answer[9:12].decode() or "closed without an answer"] += 1
        except OSError as error:
            self.answers[type(error).__name__] += 1
        finally:
            writer.close()


class LateCloseTests(IngestCase):
    """What callers of a daemon that drains are told, to the last of them."""

    @asynchronous
    async def test_they_are_told_so_in_http_from_the_first_moment(self) -> None:
        """Health pages are answered too; a second SIGTERM waits for nothing."""
        daemon = await self.start_daemon(PUBLISH_URL="memory://", DRAIN_LISTEN_S="60")
        daemon.signal("TERM")
        await as_future(daemon.wait_for_log("stopping"))
        refused = await self.connect(daemon, Authorization=f"Bearer {self.issuer.token()}")
        await refused.closed()
        self.assertEqual((refused.status, refused.headers["retry-after"]), (503, "5"))
        self.assertIn(b'"code":"draining"', refused.body)
        self.assertEqual((await self.get(daemon.port, "/livez")).status, 200)
        self.assertEqual((await self.get(daemon.port, "/readyz")).status, 503)
        daemon.signal("TERM")
        self.assertEqual(await as_future(daemon.wait_for_exit()), 1)

    @asynchronous
    async def test_who_has_not_asked_yet_is_answered_after_the_port_is_closed(self) -> None:
        """Nothing is reset: neither who is connected, nor who has begun to ask."""
        daemon = await self.start_daemon(PUBLISH_URL="memory://", DRAIN_LISTEN_S="0")
        silent, halfway = Caller(), Caller()
        for caller in (silent, halfway):
            self.addCleanup(caller.abort)
            await asyncio.get_running_loop().create_connection(
                lambda caller=caller: caller, HOST, daemon.port  # type: ignore[misc]
            )
        request = handshake("/v1/ingest", Authorization=f"Bearer {self.issuer.token()}")
        halfway.send(request[:40])
        daemon.signal("TERM")
        await as_future(daemon.wait_for_log("listening_ended"))
        silent.send(request)
        halfway.send(request[40:])
        for caller in (silent, halfway):
            await caller.closed()
            self.assertEqual(caller.status, 503, caller.head)
        self.assertEqual(await as_future(daemon.wait_for_exit()), 0)


class RollingRestartTests(IngestCase):
    def one_of_two(self) -> Daemon:
        """A daemon that shares the port; not started."""
        settings = {
            "JWT_PUBLIC_KEY": self.issuer.public_pem,
            "REDIS_URL": self.redis.url(),
            "RESUME_SECRET": self.secret,
            "DRAIN_DEADLINE_S": str(_DRAIN_DEADLINE_S),
            "DRAIN_LISTEN_S": str(_LISTEN_S),
            "ACK_INTERVAL": "5",
            # A busy machine must look neither like a bus that is dead nor like one that falls behind.
            "PUBLISH_REPLY_TIMEOUT_S": "20",
            "BUFFER_DURATION_MS": "30000",
        }
        daemon = Daemon(self, settings)
        daemon.port = self.port
        daemon.args[daemon.args.index("--port") + 1] = f"tcp:{self.port}:interface={HOST}:reusePort=1"
        return daemon

    @asynchronous
    async def test_nothing_is_lost_and_nobody_is_turned_away(self) -> None:
        """Every frame is on the bus once, in order; no connection is refused or reset."""
        self.redis, self.port, self.secret = RedisServer(self), free_port(), secrets.token_urlsafe(32)
        consumer = await self.consume()
        older, newer = self.one_of_two(), self.one_of_two()
        await as_future(older.start())
        clients = [ResumingClient(self, self.port, f"i{number}") for number in range(_STREAMS)]
        streams = [asyncio.create_task(client.run()) for client in clients]
        prober = Prober(self.port)
        probing: list[asyncio.Task[None]] = []
        try:
            await consumer.until(
                lambda: sum(said.get("event") == "started" for _, said in consumer.messages) == _STREAMS,
                "every stream on the older daemon",
            )
            await as_future(newer.start())
            probing = [asyncio.create_task(prober.run())]
            await asyncio.sleep(_TERM_AFTER_S)
            exit_s = await self.restart(older)
            for client in clients:
                client.end()
            await asyncio.gather(*streams)
        finally:
            for task in (*streams, *probing):
                task.cancel()
            await asyncio.gather(*streams, *probing, return_exceptions=True)

        self.assertLess(exit_s, _DRAIN_DEADLINE_S + _EXIT_MARGIN_S)
        self.assertEqual(set(prober.answers) - {"200", "503"}, set(), prober.answers)
        for client in clients:
            self.check_client(client)
            assert client.last_seq is not None
            # The client was told so before the consumers, perhaps.
            await consumer.event(client.interaction_id, "stopped")
            expected = [audio_of(seq, _FRAME_BYTES) for seq in range(1, client.last_seq + 1)]
            self.assert_published(consumer, client.interaction_id, expected)
            self.check_events(consumer.events(client.interaction_id))
        self.assertEqual((await as_future(newer.stop())), 0)

    async def restart(self, older: Daemon) -> float:
        """SIGTERM; how long it took to its exit, in seconds. It must be unready at once, and end with 0."""
        begun = time.monotonic()
        older.signal("TERM")
        await as_future(older.wait_for_log("stopping"))
        ready = await self.get(older.admin_port, "/readyz")
        self.assertEqual(ready.status, 503, ready.body)
        self.assertIn(b"draining", ready.body)
        code = await as_future(older.wait_for_exit(_DRAIN_DEADLINE_S + _EXIT_MARGIN_S))
        self.assertEqual(code, 0, older.output[-2000:])
        return time.monotonic() - begun

    def check_client(self, client: ResumingClient) -> None:
        """What one client saw: it was moved once and went on from there."""
        self.assertEqual(client.not_connected, [])
        for refusal in client.refused:
            self.assertIn('503 5 {"code":"draining"', refusal)
        self.assertEqual(client.close_codes, [1001, 1000], client.begun)
        first, second = client.begun
        [moved] = client.moved
        self.assertEqual((first["resumed"], first["next_seq"]), (False, 1))
        self.assertEqual((second["resumed"], second["next_seq"]), (True, moved["seq"] + 1))
        self.assertEqual((moved["next_seq"], second["epoch"]), (moved["seq"] + 1, first["epoch"]))
        assert client.stopped is not None
        self.assertEqual(client.stopped["seq"], client.last_seq)

    def check_events(self, events: list[dict[str, Any]]) -> None:
        """What the consumers of the bus were told of one stream."""
        self.assertEqual(
            [event["event"] for event in events], ["started", "moved", "resumed", "stopped"], events
        )
        self.assertEqual(len({event["epoch"] for event in events}), 1)
        self.assertEqual(events[2]["next_seq"], events[1]["seq"] + 1)


class InstanceUnitTests(SynchronousTestCase):
    """The two instances under systemd: the unit with its drop-in."""

    def setUp(self) -> None:
        [self.drop_in] = (UNITS / "voiceingest@.service.d").iterdir()
        self.unit = directives(self.drop_in)
        self.environment = dict(line.split("=", 1) for line in self.unit["Environment"])

    def test_systemd_takes_them(self) -> None:
        analyze = shutil.which("systemd-analyze")
        if analyze is None:
            if os.environ.get("CI", "").lower() in ("1", "true"):
                self.fail("systemd-analyze is not installed (apt-get install systemd)")
            raise SkipTest("systemd-analyze is not installed")
        folder = self.mktemp_path()
        folder.mkdir()
        shutil.copy(SERVICE, folder / "voiceingest@.service")
        shutil.copytree(self.drop_in.parent, folder / self.drop_in.parent.name)
        done = subprocess.run(
            [analyze, "--no-pager", "verify", str(folder / "voiceingest@1.service")],
            capture_output=True, text=True, timeout=60, check=False,
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_they_share_the_port_and_nothing_they_write(self) -> None:
        self.assertTrue(take_apart(self.environment["LISTEN"], None).reuse_port)
        self.assertIn("%i", self.environment["ADMIN"])
        self.assertEqual(self.unit["RuntimeDirectory"], ["", "voiceingest-%i"])
        self.assertEqual(self.unit["User"], ["voiceingest"])

    def test_every_variable_is_a_setting(self) -> None:
        unknown = {name for name in self.environment if name.lower() not in Settings.model_fields}
        self.assertEqual(unknown, set())
        take_apart(self.environment["ADMIN"].replace("%i", "1"), None)
        self.assertGreater(float(self.environment["DRAIN_LISTEN_S"]), SETTLE_S - 0.001)
