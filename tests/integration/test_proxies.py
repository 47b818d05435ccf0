"""nginx and HAProxy in front of the daemon, with the very files of ``deploy/``.

The files name ports, certificates and addresses that are not there in a test; ``Place`` says what
each is replaced with, and fails where a file no longer holds it. Callers come from several
addresses of the loopback (127.0.0.2, 127.0.0.3), so that shares by address can be told apart.
"""

from __future__ import annotations

import asyncio
import functools
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Coroutine, Generator, Mapping
from pathlib import Path
from typing import Any, Final

import trustme
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.case import SynchronousTestCase, TestCase
from tests.support.daemon import HOST, ROOT, Daemon, free_port
from tests.support.tokens import Issuer
from voiceingest.aio import as_deferred
from voiceingest.config import Settings

NGINX: Final = ROOT / "deploy" / "nginx" / "voiceingest.conf"
HAPROXY: Final = ROOT / "deploy" / "haproxy" / "voiceingest.cfg"
PASSTHROUGH: Final = ROOT / "deploy" / "haproxy" / "voiceingest-passthrough.cfg"

FRAMES: Final = 25
FRAME_BYTES: Final = 9600
START: Final = {"event": "start", "interaction_id": "call-1", "tenant_id": "t1", "sample_rate": 24000}
# A share small enough to be filled by a test.
SHARE: Final = 2
DEADLINE_S: Final = 45.0

Steps = Generator[Deferred[Any], Any, None]


@functools.cache
def one_issuer() -> Issuer:
    """One key for all tests: making it takes its time."""
    return Issuer()


def program(name: str) -> str:
    """The path of a proxy. Raises: ``SkipTest`` when it is not installed; CI has to have it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        if os.environ.get("CI") == "true":
            raise AssertionError(f"{name} is not installed, and in CI it has to be")
        raise SkipTest(f"{name} is not installed: apt-get install {name}")
    return found


def filled_in(path: Path, places: Mapping[str, str]) -> str:
    """The text of a file of ``deploy/`` with each place replaced; every one has to be there."""
    text = path.read_text()
    for place, value in places.items():
        if place not in text:
            raise AssertionError(f"{path.name} no longer holds {place!r}")
        text = text.replace(place, value)
    return text


class Caller:
    """Opens WebSockets through a proxy, over TLS, from an address of the loopback."""

    def __init__(self, url: str, ca_path: Path, token: str) -> None:
        self._url = url
        self._trust = ssl.create_default_context(cafile=str(ca_path))
        self._token = token

    async def open(self, source: str = HOST, query: str = "", **headers: str) -> ClientConnection:
        """One connection. Raises: ``InvalidStatus`` when it is refused."""
        sent = {"Authorization": f"Bearer {self._token}"} if not query else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        trust = self._trust if self._url.startswith("wss:") else None
        return await connect(
            self._url + query, ssl=trust, additional_headers=sent, local_addr=(source, 0), proxy=None,
            open_timeout=DEADLINE_S,
        )  # fmt: skip

    async def status(self, source: str = HOST, query: str = "", **headers: str) -> tuple[int, str]:
        """The status and the error code of a connection that is refused; ``(101, "")`` otherwise."""
        try:
            socket = await self.open(source, query, **headers)
        except InvalidStatus as refused:
            body = bytes(refused.response.body or b"")
            code = json.loads(body)["code"] if body.startswith(b"{") else body.decode(errors="replace")
            return refused.response.status_code, code
        await socket.close()
        return 101, ""


async def whole_session(caller: Caller) -> dict[str, Any]:
    """Start, 25 frames, stop: the acks, the last message and the close code."""
    told: dict[str, Any] = {"acks": []}
    socket = await caller.open()
    await socket.send(json.dumps(START))
    for number in range(FRAMES):
        await socket.send(bytes((number,)) * FRAME_BYTES)
    await socket.send('{"event":"stop"}')
    try:
        async for message in socket:
            answer = json.loads(message)
            if answer["event"] == "ack":
                told["acks"].append(answer["seq"])
            told[answer["event"]] = answer
    except ConnectionClosed:
        told["unclean"] = True
    told["close"] = socket.close_code
    return told


class ProxyCase(TestCase):
    """A daemon with a proxy in front of it."""

    def setUp(self) -> None:
        self.directory = self.mktemp_path()
        self.directory.mkdir()
        self.issuer = one_issuer()
        self.port = free_port()
        self.log_path = self.directory / "proxy.log"
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", HOST)
        self.ca_path = self.directory / "ca.crt"
        self.cert_path, self.key_path = self.directory / "voice.crt", self.directory / "voice.key"
        authority.cert_pem.write_to_path(self.ca_path)
        certificate.private_key_pem.write_to_path(self.key_path)
        certificate.cert_chain_pems[0].write_to_path(self.cert_path)
        self.pem_path = self.directory / "voice.pem"
        self.pem_path.write_bytes(self.cert_path.read_bytes() + self.key_path.read_bytes())

    @inlineCallbacks
    def start_daemon(self, *args: str, **settings: str) -> Generator[Deferred[Any], Any, Daemon]:
        """A daemon that is ready and believes ``issuer``."""
        base = {"JWT_PUBLIC_KEY": self.issuer.public_pem, "PUBLISH_URL": "memory://"}
        base["EXOTEL_WS_TOKEN"] = "exotel-token"
        daemon = Daemon(self, {**base, **settings}, args=args)
        yield daemon.start()
        return daemon

    @inlineCallbacks
    def start_proxy(self, command: list[str]) -> Steps:
        """Start it and wait until its port is open."""
        from twisted.internet import reactor

        with self.log_path.open("ab") as log:
            process = subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log)
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.terminate)
        waited_s = 0.0
        while not (yield as_deferred(_is_open(self.port))):
            if process.poll() is not None or waited_s > DEADLINE_S:
                self.fail(f"{command[0]} did not come up:\n{self.log_path.read_text()[-2000:]}")
            yield deferLater(reactor, 0.05)
            waited_s += 0.05

    def caller(self) -> Caller:
        """Calls through the proxy, over TLS."""
        return Caller(f"wss://localhost:{self.port}/v1/ingest", self.ca_path, self.issuer.token())

    def within(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run asyncio code, for ``DEADLINE_S`` at most."""
        return as_deferred(asyncio.wait_for(coroutine, DEADLINE_S))

    async def check_session(self, caller: Caller) -> None:
        """A whole session passes, and a close code of ours comes through."""
        told = await whole_session(caller)
        self.assertEqual(told["started"]["interaction_id"], "call-1")
        self.assertEqual(told["acks"], [10, 20])
        self.assertEqual((told["stopped"]["seq"], told["stopped"]["pending"]), (FRAMES, 0))
        self.assertEqual(told["close"], 1000)
        socket = await caller.open()
        await socket.send(json.dumps({**START, "tenant_id": "t2"}))
        self.assertEqual(json.loads(await socket.recv())["code"], "forbidden")
        await socket.wait_closed()
        self.assertEqual(socket.close_code, 4403)

    async def check_shares(self, caller: Caller) -> None:
        """Each caller has a share of its own, whatever it says about itself."""
        held = [await caller.open("127.0.0.2") for _ in range(SHARE)]
        full = (429, "too_many_from_address")
        self.assertEqual(await caller.status("127.0.0.2"), full)
        for claim in ("10.9.9.9", "127.0.0.3", "10.9.9.9, 127.0.0.3"):
            self.assertEqual(await caller.status("127.0.0.2", X_Forwarded_For=claim), full, claim)
        self.assertEqual(await caller.status("127.0.0.3"), (101, ""))
        for socket in held:
            await socket.close()
        # The proxy may take a moment to let go of the daemon, after the caller has let go of the proxy.
        while (told := await caller.status("127.0.0.2")) == full:
            await asyncio.sleep(0.05)
        self.assertEqual(told, (101, ""))

    async def check_refusals(self, caller: Caller) -> None:
        """What the daemon refuses reaches the caller as it is; what is not public is not there."""
        self.assertEqual(await caller.status(Authorization="Bearer a.b.c"), (401, "unauthorized"))
        self.assertEqual(await caller.status(Origin="https://evil.example"), (403, "origin_refused"))
        elsewhere = Caller(f"wss://localhost:{self.port}/metrics", self.ca_path, self.issuer.token())
        self.assertEqual((await elsewhere.status())[0], 404)
        # What Exotel asks for gets to the daemon, which does not know this token there.
        for path in ("/voicebot/ws", "/api/v1/exotel/voice/connect"):
            exotel = Caller(f"wss://localhost:{self.port}{path}", self.ca_path, self.issuer.token())
            self.assertEqual(await exotel.status(), (401, "unauthorized"), path)

    async def check_ticket(self, caller: Caller) -> None:
        """A ticket in the query opens a connection, and is in no log of the proxy."""
        reader, writer = await asyncio.open_connection(
            "localhost", self.port, ssl=ssl.create_default_context(cafile=str(self.ca_path))
        )
        writer.write(
            b"POST /api/auth/ticket HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n"
            b"Authorization: Bearer " + self.issuer.token().encode() + b"\r\n\r\n"
        )
        answer = await reader.read()
        writer.close()
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer[:200])
        ticket = re.search(rb'"ticket":"([^"]+)"', answer)
        assert ticket is not None
        query = f"?ticket={ticket[1].decode()}"
        self.assertEqual(await caller.status(query=query), (101, ""))
        self.assertEqual(await caller.status(query=query), (401, "unauthorized"))
        written = await self._log_of("/v1/ingest")
        self.assertNotIn("ticket=", written)

    async def _log_of(self, path: str) -> str:
        """The proxy's access log, once it holds a line about ``path``."""
        for _ in range(600):
            written = self.log_path.read_text(errors="replace")
            if path in written:
                return written
            await asyncio.sleep(0.05)
        raise AssertionError(f"the proxy has logged nothing about {path}:\n{written[-2000:]}")


def post(port: int, path: str) -> int:
    """The status of a POST without a body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=DEADLINE_S)
    try:
        connection.request("POST", path)
        return connection.getresponse().status
    finally:
        connection.close()


async def _is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


class NginxTests(ProxyCase):
    """``deploy/nginx/voiceingest.conf``."""

    def config(self, upstream: str) -> Path:
        """The file as it is included, and the little around it that every installation has."""
        site = filled_in(
            NGINX,
            {
                "listen 443 ssl": f"listen {HOST}:{self.port} ssl",
                "server_name voice.example.com": "server_name localhost",
                "/etc/nginx/tls/voice.crt": str(self.cert_path),
                "/etc/nginx/tls/voice.key": str(self.key_path),
                "/var/log/nginx/voiceingest.log": str(self.log_path),
                "server 127.0.0.1:8080": f"server {upstream}",
            },
        )
        (self.directory / "site.conf").write_text(site)
        temporary = "".join(
            f"    {name}_temp_path {self.directory}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        path = self.directory / "nginx.conf"
        path.write_text(
            f"daemon off;\nworker_processes 1;\npid {self.directory}/nginx.pid;\n"
            "events { worker_connections 512; }\n"
            f"http {{\n{temporary}    include {self.directory}/site.conf;\n}}\n"
        )
        return path

    @inlineCallbacks
    def up(self, **settings: str) -> Generator[Deferred[Any], Any, Daemon]:
        """A daemon behind nginx."""
        nginx = program("nginx")
        daemon: Daemon = yield self.start_daemon(TRUSTED_PROXIES=HOST, **settings)
        config = self.config(f"{HOST}:{daemon.port}")
        yield self.start_proxy([nginx, "-e", "stderr", "-p", str(self.directory), "-c", str(config)])
        return daemon

    @inlineCallbacks
    def test_a_whole_session(self) -> Steps:
        yield self.up()
        yield self.within(self.check_session(self.caller()))

    @inlineCallbacks
    def test_shares_are_those_of_the_callers(self) -> Steps:
        yield self.up(MAX_CONNECTIONS_PER_IP=str(SHARE))
        yield self.within(self.check_shares(self.caller()))

    @inlineCallbacks
    def test_refusals_and_tickets(self) -> Steps:
        yield self.up()
        yield self.within(self.check_refusals(self.caller()))
        yield self.within(self.check_ticket(self.caller()))

    @inlineCallbacks
    def test_a_unix_socket_between_them(self) -> Steps:
        nginx = program("nginx")
        # The path of a Unix socket may be 107 bytes long: that of a test's directory may not do.
        socket_path = Path("/tmp") / f"voiceingest-{os.getpid()}-{self.port}.sock"
        self.addCleanup(socket_path.unlink, True)
        yield self.start_daemon(
            "--port",
            f"unix:{socket_path}:mode=666",
            TRUSTED_PROXIES=HOST,
            MAX_CONNECTIONS_PER_IP=str(SHARE),
        )
        config = self.config(f"unix:{socket_path}")
        yield self.start_proxy([nginx, "-e", "stderr", "-p", str(self.directory), "-c", str(config)])
        yield self.within(self.check_session(self.caller()))
        yield self.within(self.check_shares(self.caller()))

    @inlineCallbacks
    def test_a_daemon_that_stops_listens_no_more(self) -> Steps:
        daemon = yield self.up()
        held = yield self.within(self.caller().open())
        yield self.within(held.send(json.dumps(START)))
        yield self.within(held.recv())
        self.assertEqual((yield self.within(asyncio.to_thread(post, daemon.admin_port, "/drain"))), 202)
        yield daemon.wait_for_log("listening_ended")
        self.assertEqual((yield self.within(self.caller().status()))[0], 502)
        self.assertEqual(json.loads((yield self.within(held.recv())))["event"], "goaway")
        yield self.within(held.close())


class HaproxyTests(ProxyCase):
    """``deploy/haproxy/voiceingest.cfg``: TLS at the proxy, ``X-Forwarded-For``."""

    def config(self, path: Path, places: Mapping[str, str]) -> Path:
        """A file of ``deploy/`` that logs to standard output and needs few file descriptors."""
        written = self.directory / "haproxy.cfg"
        common = {
            "log /dev/log local0 info": "log stdout format raw local0 info",
            "maxconn 20000": "maxconn 200",
        }
        written.write_text(filled_in(path, {**common, **places}))
        return written

    @inlineCallbacks
    def up(self, **settings: str) -> Generator[Deferred[Any], Any, Daemon]:
        """A daemon behind HAProxy."""
        haproxy = program("haproxy")
        daemon: Daemon = yield self.start_daemon(TRUSTED_PROXIES=HOST, **settings)
        places = {
            "bind :443 ssl": f"bind {HOST}:{self.port} ssl",
            "/etc/haproxy/tls/voice.pem": str(self.pem_path),
            "server one 127.0.0.1:8080": f"server one {HOST}:{daemon.port}",
        }
        yield self.start_proxy([haproxy, "-db", "-f", str(self.config(HAPROXY, places))])
        return daemon

    @inlineCallbacks
    def test_a_whole_session(self) -> Steps:
        yield self.up()
        yield self.within(self.check_session(self.caller()))

    @inlineCallbacks
    def test_shares_are_those_of_the_callers(self) -> Steps:
        yield self.up(MAX_CONNECTIONS_PER_IP=str(SHARE))
        yield self.within(self.check_shares(self.caller()))

    @inlineCallbacks
    def test_refusals_and_tickets(self) -> Steps:
        yield self.up()
        yield self.within(self.check_refusals(self.caller()))
        yield self.within(self.check_ticket(self.caller()))

    @inlineCallbacks
    def test_a_daemon_that_drains_gets_no_new_calls_and_keeps_its_own(self) -> Steps:
        daemon = yield self.up(DRAIN_DEADLINE_S="60")
        caller = self.caller()
        held = yield self.within(caller.open())
        yield self.within(held.send(json.dumps(START)))
        yield self.within(held.recv())
        daemon.signal("TERM")
        yield daemon.wait_for_log("listening_ended")
        self.assertEqual(json.loads((yield self.within(held.recv())))["event"], "goaway")
        yield self.within(self.check_turned_away(caller))
        for number in range(10):
            yield self.within(held.send(bytes((number,)) * FRAME_BYTES))
        self.assertEqual(json.loads((yield self.within(held.recv()))), {"event": "ack", "seq": 10})
        yield self.within(held.send('{"event":"stop"}'))
        self.assertEqual(json.loads((yield self.within(held.recv())))["published"], 10)
        yield self.within(held.wait_closed())
        self.assertEqual(held.close_code, 1000)

    async def check_turned_away(self, caller: Caller) -> None:
        """No daemon listens: the proxy answers for it."""
        self.assertEqual((await caller.status())[0], 503)


class PassthroughTests(HaproxyTests):
    """``deploy/haproxy/voiceingest-passthrough.cfg``: a PROXY header, TLS at the daemon."""

    @inlineCallbacks
    def up(self, **settings: str) -> Generator[Deferred[Any], Any, Daemon]:
        """A daemon that wants a PROXY header and then TLS."""
        haproxy = program("haproxy")
        inner = free_port()
        daemon: Daemon = yield self.start_daemon(
            "--port",
            f"tls+haproxy:tcp:{inner}:interface={HOST}",
            SSL_KEY_PATH=str(self.key_path),
            SSL_CERT_PATH=str(self.cert_path),
            **settings,
        )
        places = {
            "bind :443": f"bind {HOST}:{self.port}",
            "server one 127.0.0.1:8444": f"server one {HOST}:{inner}",
            "port 9464": f"port {daemon.admin_port}",
        }
        yield self.start_proxy([haproxy, "-db", "-f", str(self.config(PASSTHROUGH, places))])
        return daemon

    async def check_ticket(self, caller: Caller) -> None:
        """The proxy sees no request at all: there is nothing of one in its log."""
        self.assertNotIn("/v1/ingest", self.log_path.read_text(errors="replace"))

    async def check_turned_away(self, caller: Caller) -> None:
        """No daemon listens, and the proxy has no words: it hangs up."""
        with self.assertRaises(OSError):
            await caller.open()

    @inlineCallbacks
    def test_bytes_without_a_proxy_header_are_cut(self) -> Steps:
        daemon = yield self.up()
        direct = Caller(
            f"wss://localhost:{self._inner_port(daemon)}/v1/ingest", self.ca_path, self.issuer.token()
        )

        async def refused() -> None:
            with self.assertRaises((OSError, EOFError, ConnectionClosed)):
                await direct.open()

        yield self.within(refused())

    @staticmethod
    def _inner_port(daemon: Daemon) -> int:
        found = re.search(r"tls\+haproxy:tcp:(\d+)", " ".join(daemon.args))
        assert found is not None
        return int(found[1])


class StrangerTests(ProxyCase):
    """Without a proxy in between."""

    @inlineCallbacks
    def test_a_claim_of_a_stranger_is_ignored(self) -> Steps:
        daemon = yield self.start_daemon(TRUSTED_PROXIES="127.0.0.9", MAX_CONNECTIONS_PER_IP=str(SHARE))
        caller = Caller(daemon.ws_url("/v1/ingest"), self.ca_path, self.issuer.token())

        async def fill_up() -> None:
            held = [
                await caller.open("127.0.0.2", X_Forwarded_For=f"10.0.0.{number}") for number in range(SHARE)
            ]
            self.assertEqual(
                await caller.status("127.0.0.2", X_Forwarded_For="10.0.0.99"), (429, "too_many_from_address")
            )
            for socket in held:
                await socket.close()

        yield self.within(fill_up())


class TimeoutTests(SynchronousTestCase):
    """A connection that lives is never silent for longer than a proxy waits."""

    def longest_silence_s(self) -> float:
        """The time within which a ping or its answer passes."""
        defaults: Callable[[str], float] = lambda name: Settings.model_fields[name].default  # noqa: E731
        return defaults("ping_interval_s") + defaults("ping_timeout_s")

    def assert_longer(self, path: Path, *names: str) -> None:
        for name in names:
            found = re.findall(rf"^\s*{name}\s+(\d+)s", path.read_text(), re.MULTILINE)
            self.assertTrue(found, f"{path.name} has no {name}")
            self.assertGreater(max(map(float, found)), self.longest_silence_s(), f"{path.name}: {name}")

    def test_nginx(self) -> None:
        ingest = NGINX.read_text().partition("location ~ ^/(v1/ingest|voicebot/ws)$ {")[2].partition("}")[0]
        for name in ("proxy_read_timeout", "proxy_send_timeout"):
            found = re.search(rf"{name}\s+(\d+)s;", ingest)
            assert found is not None, name
            self.assertGreater(float(found[1]), self.longest_silence_s(), name)

    def test_haproxy(self) -> None:
        self.assert_longer(HAPROXY, "timeout tunnel")
        self.assert_longer(PASSTHROUGH, "timeout client", "timeout server")
