"""What the daemon tells about itself; what it never tells is in ``test_canaries``."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import trustme

from tests.support.daemon import HOST, Daemon, free_port
from tests.support.servers import RedisServer
from tests.support.sockets import CONTINUATION, TEXT, frame
from voiceingest.aio import as_future
from voiceingest.metrics import CALL_FAMILIES, CONTROL_FAMILIES, FAMILIES

from .callers import DEADLINE_S, Caller, audio_of
from .case import IngestCase, asynchronous, metric
from .consumer import Consumer
from .test_fd_exhaustion import limit_descriptors

ADMIN_TOKEN: Final = "an-admin-token"

# Whether it moves is the allocator's affair.
_MAY_STAND_STILL: Final = {"process_virtual_memory_bytes"}


class KeySetServer(asyncio.Protocol):
    """Answers every request with one document."""

    def __init__(self, document: bytes) -> None:
        self._document = document

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's hook."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """asyncio's hook."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        length = b"Content-Length: %d\r\n\r\n" % len(self._document)
        self._transport.write(head + length + self._document)
        self._transport.close()


class MetricsTests(IngestCase):
    """A counter nobody increments is a lie on a dashboard."""

    @asynchronous
    async def test_every_family_moves(self) -> None:
        self.scrapes: list[str] = []
        self.redis = RedisServer(
            self, acl=["user default on nopass ~* &* +@all", "user ingest on >pass &* +@all"]
        )
        daemon = await self.start_daemon(
            tls=True, PUBLISH_URL=self.redis.url("ingest", "pass"), PUBLISH_RETRY_MAX_S="0.2",
            PUBLISH_INFLIGHT_BYTES="65536", BUFFER_DURATION_MS="500", INGEST_MAX_REALTIME_FACTOR="2",
            JWT_PUBLIC_KEY="", JWT_JWKS_URL=await self.serve_keys(), JWT_JWKS_COOLDOWN_S="1",
            DRAIN_DEADLINE_S="6",
        )  # fmt: skip
        await self.scrape(daemon)
        caller = await self.call(daemon, tls=True)
        await caller.start("moves-1")
        self.send(caller, 20)
        await caller.event("ack")
        await self.scrape(daemon)
        await self.callers_that_are_refused(daemon)
        await self.callers_that_come_back(daemon)
        await self.no_descriptor_left(daemon)
        await self.a_bus_that_fails(daemon, caller)
        await caller.stop()
        await self.things_read_again(daemon)
        await self.a_log_that_cannot_be_written(daemon)
        await self.a_shutdown(daemon)
        # Those of calls: test_call_metrics; those of devices and sessions: test_control.
        others = {*CALL_FAMILIES, *CONTROL_FAMILIES}
        moving = {family.name for family in {*FAMILIES} - others if not family.constant}
        still = {name for name in moving if not self.moved(name)}
        self.assertEqual(still - _MAY_STAND_STILL, set())

    async def serve_keys(self) -> str:
        """The URL of a key set."""
        document, port = self.issuer.jwks(), free_port()
        server = await asyncio.get_running_loop().create_server(lambda: KeySetServer(document), HOST, port)
        self.addCleanup(server.close)
        return f"http://{HOST}:{port}/keys"

    async def scrape(self, daemon: Daemon) -> None:
        """Keep what is exported now."""
        self.scrapes.append(await self.metrics(daemon))

    def moved(self, name: str) -> bool:
        """Whether any sample of a family was different in some scrape."""
        samples = re.compile(rf"^{re.escape(name)}(?:_bucket|_count|_sum)?(?:{{| ).*$", re.MULTILINE)
        seen = {tuple(sorted(samples.findall(scrape))) for scrape in self.scrapes}
        return len(seen) > 1

    def send(self, caller: Caller, count: int, size_bytes: int = 960) -> None:
        """Some frames at once."""
        for number in range(count):
            caller.audio(audio_of(number, size_bytes))

    async def callers_that_are_refused(self, daemon: Daemon) -> None:
        """Without a token, with a key that is unknown, by ticket, and too fast."""
        await (await self.connect(daemon)).closed()
        await (await self.connect(daemon, Authorization="Bearer a.b.c")).closed()
        bearer = f"Bearer {self.issuer.token()}"
        minted = await self.get(daemon.port, "/api/auth/ticket", "POST", Authorization=bearer)
        ticket = json.loads(minted.body)["ticket"]
        for status in (101, 401):
            again = await self.connect(daemon, f"/v1/ingest?ticket={ticket}")
            self.assertEqual(again.status, status)
        fast = await self.call(daemon)
        await fast.start("fast-1", sample_rate=8000)
        self.send(fast, 5, 16000)
        await fast.stop()
        flood = await self.call(daemon)
        flood.send(frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b"", fin=False) * 5000)
        await flood.until(lambda: flood.close_code, "the end of a flood")

    async def callers_that_come_back(self, daemon: Daemon) -> None:
        """With a token, with one that is none, and without."""
        away = await self.call(daemon)
        started = await away.start("away-1")
        away.abort()
        await self.until_metric(daemon, "voiceingest_streams_detached", lambda value: value == 1)
        await self.scrape(daemon)
        back = await self.call(daemon)
        back.say("start", interaction_id="away-1", tenant_id="t1", sample_rate=24000, resume_token="none")
        self.assertEqual(await back.error(), "resume_refused")
        await back.start("away-1", resume_token=started["resume_token"])
        newer = await self.call(daemon)
        await newer.start("away-1")
        self.assertEqual(await back.closed(), 4409)
        await newer.stop()

    async def no_descriptor_left(self, daemon: Daemon) -> None:
        """More callers than there are descriptors."""
        before = limit_descriptors(daemon.pid, more=4)
        crowd = [Caller() for _ in range(20)]
        for caller in crowd:
            self.addCleanup(caller.abort)
            await asyncio.get_running_loop().create_connection(
                lambda caller=caller: caller, HOST, daemon.port  # type: ignore[misc]
            )
        await as_future(daemon.wait_for_log("accept_paused"))
        for caller in crowd:
            caller.abort()
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)

    async def a_shutdown(self, daemon: Daemon) -> None:
        """One client is moved, one goes on for longer than it may while the bus takes nothing."""
        moving, staying = await self.call(daemon), await self.call(daemon)
        await moving.start("moving-1", resumable=True)
        await staying.start("staying-1")
        daemon.signal("TERM")
        await moving.event("moved")
        await self.scrape(daemon)
        self.redis.freeze()
        end = time.monotonic() + DEADLINE_S
        while metric(await self.metrics(daemon), "voiceingest_frames_fenced_total") == 0:
            self.assertLess(time.monotonic(), end, "frames that came too late")
            staying.audio(audio_of(1))
        await self.scrape(daemon)
        self.redis.thaw()
        self.assertEqual(await staying.closed(), 1001)

    async def a_bus_that_fails(self, daemon: Daemon, caller: Caller) -> None:
        """Frozen, refusing, gone and back."""
        self.redis.freeze()
        self.send(caller, 24, 4000)
        await self.until_metric(daemon, "voiceingest_queue_frames", lambda value: value > 0)
        await self.scrape(daemon)
        self.redis.thaw()
        await self.until_metric(daemon, "voiceingest_queue_bytes", lambda value: value == 0)
        admin = Consumer()
        await asyncio.get_running_loop().create_connection(lambda: admin, HOST, self.redis.port)
        self.addCleanup(admin.abort)
        admin.command("ACL", "SETUSER", "ingest", "resetchannels", "&audio:frames")
        await admin.until(lambda: admin.answers, "the user")
        refused = await self.call(daemon)
        await refused.start("refused-1")
        await refused.stop()
        await as_future(daemon.wait_for_log("bus_refused"))
        self.redis.kill()
        await as_future(daemon.wait_for_log("bus_down"))
        dropped = 'voiceingest_frames_dropped_total{reason="overflow"}'
        before = metric(await self.metrics(daemon), dropped)
        self.send(caller, 20, 4000)
        await self.until_metric(daemon, dropped, lambda value: value > before)
        await self.scrape(daemon)
        self.redis.restart()
        await self.until_metric(daemon, "voiceingest_bus_up", lambda value: value == 1)

    async def until_metric(self, daemon: Daemon, name: str, there: Callable[[float], bool]) -> None:
        """Wait for a sample."""
        end = time.monotonic() + DEADLINE_S
        while not there(metric(await self.metrics(daemon), name)):
            self.assertLess(time.monotonic(), end, name)
            await asyncio.sleep(0.05)

    async def things_read_again(self, daemon: Daemon) -> None:
        """A new certificate, which expires at another time."""
        later = datetime.now(UTC) + timedelta(days=3)
        certificate = trustme.CA().issue_cert("localhost", not_after=later)
        certificate.private_key_pem.write_to_path(daemon.settings["SSL_KEY_PATH"])
        certificate.cert_chain_pems[0].write_to_path(daemon.settings["SSL_CERT_PATH"])
        daemon.signal("HUP")
        await as_future(daemon.wait_for_log("reloaded"))

    async def a_log_that_cannot_be_written(self, daemon: Daemon) -> None:
        """Nobody reads the pipe any more; the daemon goes on."""
        daemon._transport.closeChildFD(1)
        await (await self.connect(daemon)).closed()
        await self.until_metric(daemon, "voiceingest_ready", lambda value: value == 1)


class PagesTests(IngestCase):
    """Health for everybody, the rest for operators; and the log lines that go with a request."""

    async def statuses(self, port: int, paths: Iterable[str], **headers: Any) -> list[int]:
        """The status of each page."""
        return [(await self.get(port, path, **headers)).status for path in paths]

    @asynchronous
    async def test_who_sees_what_and_what_is_logged(self) -> None:
        path = self.mktemp_path()
        path.write_text('log_level = "info"\n')
        daemon = await self.start_daemon(
            PUBLISH_URL="memory://", ADMIN_TOKEN=ADMIN_TOKEN, VOICEINGEST_CONFIG=str(path)
        )
        pages = ("/livez", "/readyz", "/healthz", "/metrics")
        self.assertEqual(await self.statuses(daemon.admin_port, pages), [200] * 4)
        self.assertEqual(await self.statuses(daemon.port, pages), [200, 200, 200, 401])
        token = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        self.assertEqual(await self.statuses(daemon.port, pages, **token), [200] * 4)
        health = json.loads((await self.get(daemon.admin_port, "/healthz")).body)
        self.assertEqual(set(health), {"status", "uptime", "memory", "checks"})
        self.assertEqual(set(health["checks"]), {"reactor", "memory", "keys"})
        self.assertEqual(json.loads((await self.get(daemon.port, "/healthz")).body), {"status": "ok"})
        await self.request_ids(daemon)
        await self.more_is_logged_after_sighup(daemon, path)
        self.check_lines(daemon)

    async def request_ids(self, daemon: Daemon) -> None:
        """Accepted, echoed, or made; and in the log."""
        given = await self.connect(daemon, X_Request_Id="call-centre.42")
        made = await self.connect(daemon)
        bad = await self.connect(daemon, X_Request_Id="a b")
        for caller in (given, made, bad):
            await caller.closed()
            self.assertEqual(json.loads(caller.body)["request_id"], caller.headers["x-request-id"])
        self.assertEqual(given.headers["x-request-id"], "call-centre.42")
        self.assertRegex(made.headers["x-request-id"], "^[a-z]{20}$")
        self.assertRegex(bad.headers["x-request-id"], "^[a-z]{20}$")
        ids = [caller.headers["x-request-id"] for caller in (given, made, bad)]
        await as_future(
            daemon.wait_until(lambda: len(daemon.logged("connection_refused")) == 3, DEADLINE_S, "is silent")
        )
        self.assertEqual([line["request_id"] for line in daemon.logged("connection_refused")], ids)

    async def more_is_logged_after_sighup(self, daemon: Daemon, path: Any) -> None:
        """The level is taken from the file again."""
        self.assertEqual(daemon.logged("http_answered"), [])
        path.write_text('log_level = "debug"\n')
        daemon.signal("HUP")
        await as_future(
            daemon.wait_until(
                lambda: "log_level" in [line["what"] for line in daemon.logged("reloaded")],
                DEADLINE_S,
                "keeps it",
            )
        )
        answer = await self.get(daemon.port, "/livez?token=canary", X_Request_Id="after-hup")
        self.assertEqual(answer.headers["x-request-id"], "after-hup")

        def answered() -> list[dict[str, Any]]:
            return [line for line in daemon.logged("http_answered") if line.get("request_id") == "after-hup"]

        await as_future(daemon.wait_until(answered, DEADLINE_S, "did not log the answer"))
        [line] = answered()
        self.assertEqual((line["level"], line["route"], line["status"]), ("debug", "/livez", 200))

    def check_lines(self, daemon: Daemon) -> None:
        """Every line is one JSON object with the same fields, Twisted's own as well."""
        # Of the last one there may be a half so far.
        lines = [json.loads(line) for line in daemon.output.rpartition("\n")[0].splitlines()]
        for line in lines:
            self.assertLessEqual(
                {"time", "level", "event", "message", "logger", "service", "environment"}, set(line), line
            )
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertEqual((line["service"], line["environment"]), ("voiceingest", "production"))
        self.assertTrue([line for line in lines if line["logger"].startswith("twisted.")])
        self.assertTrue([line for line in lines if line["logger"].startswith("voiceingest.")])

    @asynchronous
    async def test_without_an_admin_token(self) -> None:
        self.redis = RedisServer(self)
        daemon = await self.start_daemon(PUBLISH_URL=self.redis.url())
        pages = ("/livez", "/readyz", "/healthz", "/metrics", "/drain", "/voicebot/sessions")
        anything = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        self.assertEqual(await self.statuses(daemon.port, pages, **anything), [200, 200, 200, 404, 404, 404])
        self.redis.kill()
        await as_future(daemon.wait_for_log("bus_down"))
        for port, keys in ((daemon.port, {"status"}), (daemon.admin_port, {"status", "reasons"})):
            self.assertEqual(await self.statuses(port, pages[:3]), [200, 503, 200])
            body = json.loads((await self.get(port, "/readyz")).body)
            self.assertEqual((set(body), body["status"]), (keys, "degraded"))
        self.assertEqual(set(body["reasons"]), {"redis"})
        refused = await self.get(daemon.admin_port, "/drain", "POST", Origin="https://evil.example")
        self.assertEqual(refused.status, 403)
        asked = await self.get(daemon.admin_port, "/drain", "POST")
        self.assertEqual(asked.status, 202)
        self.assertEqual(await as_future(daemon.wait_for_exit()), 0)
