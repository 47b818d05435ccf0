"""The daemon as operators run it: real ``twistd`` processes, signals, sockets and files.

Nothing here runs in the reactor of the test: a test waits, blocking, for a process of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import trustme

from ..support.case import SynchronousTestCase
from ..support.daemon import HOST, ROOT, free_port
from ..support.tokens import Issuer

DEADLINE_S: Final = 45.0

# The twistd next to the interpreter in use; fd 3 and LISTEN_PID are what systemd would give it.
TWISTD: Final = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
ACTIVATED: Final = (
    "import os, sys; fd = int(sys.argv.pop(1)); os.dup2(fd, 3);"
    " os.environ['LISTEN_PID'] = str(os.getpid());"
    f" os.execv(sys.executable, [sys.executable, '-c', {TWISTD!r}, *sys.argv[1:]])"
)
ISSUER: Final = Issuer()


class Twistd:
    """One twistd process, its output in files."""

    def __init__(self, case: TwistdCase, arguments: Sequence[str], environ: Mapping[str, str],
                 inherit: socket.socket | None = None) -> None:
        self.out, self.err = case.path("out"), case.path("err")
        kept = ("COVERAGE_", "PATH")
        passed_on = {name: value for name, value in os.environ.items() if name.startswith(kept)}
        code = [TWISTD] if inherit is None else [ACTIVATED, str(inherit.fileno())]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", *code, *arguments], stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                cwd=case.directory, pass_fds=[inherit.fileno()] if inherit else [],
                env={**passed_on, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environ},
            )
        case.addCleanup(self.process.wait)
        case.addCleanup(self.process.kill)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log so far: each of them must be JSON."""
        whole, _, _ = self.out.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        return [line for line in self.log if line["event"] == event]

    @property
    def errors(self) -> list[str]:
        """The lines on standard error."""
        return self.err.read_text().splitlines()

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        return self.process.wait(DEADLINE_S)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


class TwistdCase(SynchronousTestCase):
    """Ports, files and requests for one daemon."""

    def setUp(self) -> None:
        self.directory = self.mktemp_path()
        self.directory.mkdir()
        self.port, self.admin_port = free_port(), free_port()
        self.environ = {
            "PUBLISH_URL": "memory://",
            "JWT_PUBLIC_KEY": ISSUER.public_pem,
            "ADMIN": f"tcp:{self.admin_port}:interface={HOST}",
            "DRAIN_LISTEN_S": "0",
        }
        self.port_flag = ["--port", f"tcp:{self.port}:interface={HOST}"]
        self._names = 0

    def path(self, name: str) -> Path:
        """A path of this test's own."""
        self._names += 1
        return self.directory / f"{self._names}-{name}"

    def twistd(self, *arguments: str, before: Sequence[str] = ("-n", "--pidfile="), **more: Any) -> Twistd:
        """``twistd BEFORE voiceingest ARGUMENTS``."""
        return Twistd(self, [*before, "voiceingest", *arguments], self.environ, **more)

    def until(self, condition: Callable[[], Any], problem: str) -> Any:
        """What ``condition`` returns, once that is true."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(problem)

    def get(
        self, path: str, port: int | None = None, context: ssl.SSLContext | None = None
    ) -> tuple[int, bytes]:
        """Status and body of one request, of the admin site unless ``port`` says otherwise."""
        to = (HOST, port or self.admin_port)
        connection = (
            http.client.HTTPSConnection(*to, timeout=DEADLINE_S, context=context)
            if context else http.client.HTTPConnection(*to, timeout=DEADLINE_S)
        )
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def is_up(self) -> bool:
        """Whether the daemon says it is ready."""
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def up(self, *arguments: str, **more: Any) -> Twistd:
        """A daemon that is ready."""
        daemon = self.twistd(*arguments, **more)
        self.until(lambda: self.is_up() or daemon.process.poll() is not None, "neither up nor down")
        self.assertIsNone(daemon.process.poll(), daemon.err.read_text() + daemon.out.read_text())
        return daemon

    def metric(self, name: str) -> float:
        """One sample of the metrics; 0 when it has never been counted."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics")[1].decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def caller(self) -> socket.socket:
        """An open WebSocket without a stream."""
        caller = socket.create_connection((HOST, self.port), timeout=DEADLINE_S)
        self.addCleanup(caller.close)
        caller.sendall(
            f"GET /v1/ingest HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Authorization: Bearer {ISSUER.token()}\r\n\r\n".encode()
        )
        self.assertIn(b" 101 ", caller.recv(4096).splitlines()[0])
        return caller


class ReactorTests(TwistdCase):
    def test_no_flag_is_needed(self) -> None:
        daemon = self.up(*self.port_flag)
        self.assertTrue(any("VoiceReactor" in line["message"] for line in daemon.log))
        self.assertEqual(daemon.stop(), 0)

    def test_asyncio_reactors_are_taken_by_name(self) -> None:
        for name, kind in (("voiceingest", "VoiceReactor"), ("asyncio", "AsyncioSelectorReactor")):
            daemon = self.up(*self.port_flag, before=["-n", "--pidfile=", f"--reactor={name}"])
            self.assertTrue(any(kind in line["message"] for line in daemon.log))
            self.assertEqual(daemon.stop(), 0)

    def test_another_is_refused_in_one_line(self) -> None:
        daemon = self.twistd(*self.port_flag, before=["-n", "--pidfile=", "--reactor=epoll"])
        self.assertEqual(daemon.wait(), 1)
        [line] = daemon.errors
        self.assertIn("EPollReactor is installed", line)
        self.assertEqual(daemon.out.read_text(), "")


class RefusedStartTests(TwistdCase):
    def assert_refused(self, daemon: Twistd, *beginnings: str) -> None:
        """Exit code 1, one line for each problem, no traceback anywhere."""
        self.assertEqual(daemon.wait(), 1)
        errors = sorted(daemon.errors)
        self.assertEqual(len(errors), len(beginnings), errors)
        for line, beginning in zip(errors, beginnings, strict=True):
            self.assertTrue(line.startswith(f"voiceingest: {beginning}"), line)
        self.assertNotIn("Traceback", daemon.out.read_text())

    def test_a_busy_port(self) -> None:
        with socket.create_server((HOST, self.port)):
            daemon = self.twistd(*self.port_flag)
            self.assert_refused(daemon, f"listen: {self.port_flag[1]}: cannot listen: Address already in use")
        [line] = daemon.logged("start_failed")
        self.assertEqual((line["level"], line["code"]), ("critical", "port_unavailable"))

    def test_a_busy_admin_port(self) -> None:
        with socket.create_server((HOST, self.admin_port)):
            daemon = self.twistd(*self.port_flag)
            self.assert_refused(daemon, f"admin: {self.environ['ADMIN']}: cannot listen")
        self.assertEqual(daemon.logged("listening"), [])

    def test_every_problem_of_the_settings(self) -> None:
        settings = self.path("settings.toml")
        settings.write_text("colour = 'red'\nack_interval = 0\n")
        self.environ["MAX_FRAME_BYTES"] = "many"
        daemon = self.twistd("--config", str(settings), "--drain-deadline-s=-1", *self.port_flag)
        self.assert_refused(daemon, "ack_interval", "colour", "drain_deadline_s", "max_frame_bytes")

    def test_a_certificate_that_is_not_there(self) -> None:
        daemon = self.twistd("--port", f"ssl:{self.port}:privateKey=/nowhere/k.pem")
        self.assert_refused(daemon, "/nowhere/k.pem: No such file or directory")


class DaemonizedTests(TwistdCase):
    def before(self) -> list[str]:
        self.pid_file, self.log_file = self.path("twistd.pid"), self.path("log.json")
        return ["--pidfile", str(self.pid_file), "--logfile", str(self.log_file)]

    def test_the_shell_gets_the_prompt_back_when_it_is_up(self) -> None:
        started = self.twistd(*self.port_flag, before=self.before())
        self.assertEqual(started.wait(), 0, started.err.read_text())
        # No waiting here: whoever started it may use it at once.
        self.assertEqual(self.get("/livez")[0], 200)
        pid = int(self.pid_file.read_text())
        self.addCleanup(self._kill, pid)
        os.kill(pid, signal.SIGTERM)
        self.until(lambda: not self.pid_file.exists(), "the pid file is still there")
        self.until(lambda: "stopped" in self.logged(), "it does not say that it has stopped")
        self.assertEqual((started.out.read_text(), started.err.read_text()), ("", ""))

    def test_a_start_that_fails_is_told_to_the_shell(self) -> None:
        with socket.create_server((HOST, self.port)):
            started = self.twistd(*self.port_flag, before=self.before())
            self.assertEqual(started.wait(), 1)
        self.assertIn("Address already in use", started.err.read_text())
        self.assertNotIn("Traceback", started.err.read_text())
        self.until(lambda: not self.pid_file.exists(), "the pid file is still there")
        self.until(lambda: "start_failed" in self.logged(), "it does not say that it has failed")

    def logged(self) -> list[str]:
        """The events in the log file so far."""
        whole, _, _ = self.log_file.read_text().rpartition("\n")
        return [json.loads(line)["event"] for line in whole.splitlines()]

    def _kill(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            self.assertFalse(self.pid_file.exists())

    def test_log_file_in_the_foreground(self) -> None:
        daemon = self.up(*self.port_flag, before=["-n", *self.before()])
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(daemon.out.read_text(), "")
        self.assertIn('"event": "serving"', self.log_file.read_text())


class SystemdTests(TwistdCase):
    def setUp(self) -> None:
        super().setUp()
        # The path of a Unix socket may be 107 bytes long: that of a temporary directory may not do.
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notify.close)
        name = f"voiceingest-{os.getpid()}-{self.port}"
        self.notify.bind(f"\0{name}")
        self.notify.settimeout(DEADLINE_S)
        self.environ["NOTIFY_SOCKET"] = f"@{name}"

    def told(self) -> list[str]:
        """The lines of the next message."""
        return self.notify.recv(4096).decode().splitlines()

    def told_beside_watchdog(self) -> list[str]:
        """The lines of the next message that is no sign of life."""
        while (lines := self.told()) == ["WATCHDOG=1"]:
            pass
        return lines

    def test_ready_when_the_ports_are_bound_then_reloading_then_stopping(self) -> None:
        daemon = self.twistd(*self.port_flag)
        self.assertIn("READY=1", self.told())
        self.assertEqual(self.get("/livez", self.port)[0], 200)
        before = time.monotonic_ns() // 1000
        daemon.process.send_signal(signal.SIGHUP)
        reloading = self.told()
        self.assertEqual(reloading[0], "RELOADING=1")
        said = int(reloading[1].removeprefix("MONOTONIC_USEC="))
        self.assertTrue(before <= said <= time.monotonic_ns() // 1000)
        self.assertIn("READY=1", self.told())
        daemon.process.send_signal(signal.SIGTERM)
        self.assertIn("STOPPING=1", self.told())
        self.assertEqual(daemon.wait(), 0)

    def test_not_ready_when_the_start_fails(self) -> None:
        with socket.create_server((HOST, self.port)):
            self.assertEqual(self.twistd(*self.port_flag).wait(), 1)
        self.notify.setblocking(False)
        with self.assertRaises(BlockingIOError):
            while "READY=1" not in self.told():
                pass

    def test_the_watchdog_is_told_at_half_time_and_not_when_it_hangs(self) -> None:
        self.environ["WATCHDOG_USEC"] = "1000000"
        daemon = self.twistd(*self.port_flag)
        self.assertIn("READY=1", self.told_beside_watchdog())
        times = []
        for _ in range(6):
            self.assertEqual(self.told(), ["WATCHDOG=1"])
            times.append(time.monotonic())
        # Half a second apart; on a busy machine some are further apart, and never all.
        self.assertLess(min(later - earlier for earlier, later in pairwise(times)), 0.75)
        daemon.process.send_signal(signal.SIGSTOP)
        self.notify.settimeout(1.5)
        with self.assertRaises(TimeoutError):
            for _ in range(3):  # one may have been on its way
                self.told()
        daemon.process.send_signal(signal.SIGCONT)
        self.assertEqual(daemon.stop(), 0)

    def test_the_watchdog_is_told_during_a_drain(self) -> None:
        self.environ |= {"WATCHDOG_USEC": "400000", "DRAIN_DEADLINE_S": "30"}
        daemon = self.twistd(*self.port_flag)
        self.assertIn("READY=1", self.told_beside_watchdog())
        caller = self.caller()
        daemon.process.send_signal(signal.SIGTERM)
        self.assertIn("STOPPING=1", self.told_beside_watchdog())
        for _ in range(3):
            self.assertEqual(self.told(), ["WATCHDOG=1"])
        caller.close()
        self.assertEqual(daemon.wait(), 0)

    def test_a_socket_of_systemd(self) -> None:
        with socket.create_server((HOST, self.port)) as inherited:
            self.environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "voiceingest.socket"}
            daemon = self.twistd("--port", "systemd:domain=INET:index=0", inherit=inherited)
            self.assertIn("READY=1", self.told())
        self.assertEqual(self.get("/livez", self.port)[0], 200)
        self.assertEqual(daemon.stop(), 0)

    def test_a_socket_of_systemd_with_tls(self) -> None:
        authority = trustme.CA()
        write_certificate(authority, self.directory)
        with socket.create_server((HOST, self.port)) as inherited:
            self.environ |= {
                "LISTEN_FDS": "1", "LISTEN_FDNAMES": "voiceingest.socket",
                "SSL_KEY_PATH": "key.pem", "SSL_CERT_PATH": "cert.pem",
            }
            port = "tls+systemd:domain=INET:name=voiceingest.socket"
            daemon = self.twistd("--port", port, inherit=inherited)
            self.assertIn("READY=1", self.told())
        self.assertEqual(self.get("/livez", self.port, client_context(authority))[0], 200)
        self.assertEqual(daemon.stop(), 0)


class StopTests(TwistdCase):
    def test_either_signal_ends_it_with_0(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            daemon = self.up(*self.port_flag)
            daemon.process.send_signal(number)
            self.assertEqual(daemon.wait(), 0)
            events = [line["event"] for line in daemon.log]
            self.assertIn("stopped", events)

    def test_a_drain_waits_for_those_who_are_there_and_takes_no_one_new(self) -> None:
        daemon = self.up(*self.port_flag)
        caller = self.caller()
        daemon.process.send_signal(signal.SIGTERM)
        self.until(lambda: daemon.logged("listening_ended"), "it listens")
        self.assertTrue(daemon.logged("drain_started"))
        # The admin site is last down, so that whoever watches may watch this.
        self.assertEqual(self.get("/readyz")[0], 503)
        self.assertEqual(self.get("/livez")[0], 200)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((HOST, self.port), timeout=5)
        time.sleep(0.5)
        self.assertIsNone(daemon.process.poll())
        caller.close()
        self.assertEqual(daemon.wait(), 0)

    def test_a_second_signal_does_not_wait(self) -> None:
        daemon = self.up(*self.port_flag)
        self.caller()
        daemon.process.send_signal(signal.SIGTERM)
        self.until(lambda: daemon.logged("drain_started"), "no drain")
        began = time.monotonic()
        self.assertEqual(daemon.stop(), 1)
        # A drain waits half a minute for those who are there.
        self.assertLess(time.monotonic() - began, 20.0)
        self.assertTrue(daemon.logged("force_asked"))
        self.assertTrue(daemon.logged("stopped"))


def write_certificate(authority: trustme.CA, directory: Path) -> bytes:
    """A new ``key.pem`` and ``cert.pem``; returns the certificate in DER."""
    issued = authority.issue_cert(HOST)
    issued.private_key_pem.write_to_path(directory / "key.pem")
    issued.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """A client that trusts ``authority``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


class TlsTests(TwistdCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = trustme.CA()
        self.certificate = write_certificate(self.authority, self.directory)
        self.environ |= {"SSL_KEY_PATH": "key.pem", "SSL_CERT_PATH": "cert.pem"}
        self.port_flag = ["--port", f"ssl:{self.port}:interface={HOST}"]

    def connect(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """A TLS connection. Raises: ``ssl.SSLError``."""
        plain = socket.create_connection((HOST, self.port), timeout=DEADLINE_S)
        self.addCleanup(plain.close)
        connection = (context or client_context(self.authority)).wrap_socket(plain, server_hostname=HOST)
        self.addCleanup(connection.close)
        return connection

    def test_what_is_spoken(self) -> None:
        daemon = self.up(*self.port_flag)
        self.assertEqual(self.connect().version(), "TLSv1.3")
        context = client_context(self.authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2", "http/1.1"])
        connection = self.connect(context)
        self.assertEqual((connection.version(), connection.compression()), ("TLSv1.2", None))
        self.assertEqual(connection.selected_alpn_protocol(), "http/1.1")
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            context = client_context(self.authority)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
            with self.assertRaises(ssl.SSLError):
                self.connect(context)
        for cipher in ("AES256-GCM-SHA384", "AES128-SHA", "ECDHE-ECDSA-AES128-SHA"):
            context = client_context(self.authority)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(f"{cipher}:@SECLEVEL=0")
            with self.assertRaises(ssl.SSLError, msg=cipher):
                self.connect(context)
        self.assertEqual(daemon.stop(), 0)

    def test_sighup_changes_the_certificate_and_a_broken_file_keeps_it(self) -> None:
        # One connection waits all the time before it asks for anything.
        self.environ["HANDSHAKE_TIMEOUT_S"] = "60"
        daemon = self.up(*self.port_flag)
        before = self.connect()
        self.assertEqual(before.getpeercert(binary_form=True), self.certificate)
        expiry = self.metric("voiceingest_tls_expiry_seconds")
        self.assertGreater(expiry, time.time())

        new = write_certificate(self.authority, self.directory)
        self.reload(daemon, "reloaded", 1)
        self.assertEqual(self.connect().getpeercert(binary_form=True), new)

        (self.directory / "cert.pem").write_text("half a fi")
        self.reload(daemon, "reload_failed", 1)
        self.assertEqual(self.connect().getpeercert(binary_form=True), new)
        self.assertEqual(self.metric('voiceingest_reloads_total{result="ok",what="certificate"}'), 1)
        self.assertEqual(self.metric('voiceingest_reloads_total{result="failed",what="certificate"}'), 1)

        before.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertIn(b" 200 ", before.recv(4096).splitlines()[0])
        self.assertEqual(daemon.stop(), 0)

    def reload(self, daemon: Twistd, event: str, count: int) -> None:
        """SIGHUP, and wait until the certificate has been heard of ``count`` times."""
        daemon.process.send_signal(signal.SIGHUP)
        self.until(
            lambda: len([line for line in daemon.logged(event) if line["what"] == "certificate"]) == count,
            f"no {event}",
        )

    def test_sighup_changes_the_log_level(self) -> None:
        settings = self.path("settings.toml")
        settings.write_text('log_level = "info"\n')
        daemon = self.up("--config", str(settings), *self.port_flag)
        settings.write_text('log_level = "error"\n')
        daemon.process.send_signal(signal.SIGHUP)
        reloaded = 'voiceingest_reloads_total{result="ok",what="log_level"}'
        self.until(lambda: self.metric(reloaded) == 1, "not reloaded")
        before = len(daemon.log)
        settings.write_text('log_level = "nonsense"\n')
        self.reload_level_fails(daemon)
        self.assertEqual({line["level"] for line in daemon.log[before:]}, {"error"})
        self.assertEqual(daemon.stop(), 0)

    def reload_level_fails(self, daemon: Twistd) -> None:
        daemon.process.send_signal(signal.SIGHUP)
        # The key stands in the settings too, and they cannot be read: two lines, written one by one.
        failed = self.until(
            lambda: found if len(found := daemon.logged("reload_failed")) >= 2 else None, "no two errors"
        )
        self.assertEqual([line["what"] for line in failed], ["jwt_key", "log_level"])
        self.assertIn("log_level", failed[1]["problem"])


class PortTests(TwistdCase):
    def test_port_may_be_repeated(self) -> None:
        authority = trustme.CA()
        write_certificate(authority, self.directory)
        tls_port = free_port()
        daemon = self.up(
            *self.port_flag,
            "--port", f"ssl:{tls_port}:interface={HOST}:privateKey=key.pem:certKey=cert.pem",
            "--port", "unix:site.sock",
        )
        self.assertEqual(self.get("/livez", self.port)[0], 200)
        self.assertEqual(self.get("/livez", tls_port, client_context(authority))[0], 200)
        with socket.socket(socket.AF_UNIX) as client:
            # The path is too long for a Unix socket's address when it is absolute.
            directory = os.open(self.directory, os.O_RDONLY)
            client.connect(f"/proc/self/fd/{directory}/site.sock")
            os.close(directory)
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertIn(b" 200 ", client.recv(4096).splitlines()[0])
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse((self.directory / "site.sock").exists())

    def test_the_port_of_the_environment_speaks_tls_with_a_certificate(self) -> None:
        authority = trustme.CA()
        write_certificate(authority, self.directory)
        self.environ |= {"PORT": str(self.port)}
        daemon = self.up()
        self.assertEqual(self.get("/livez", self.port)[0], 200)
        self.assertEqual(daemon.stop(), 0)
        self.environ |= {"SSL_KEY_PATH": "key.pem", "SSL_CERT_PATH": "cert.pem"}
        daemon = self.up()
        self.assertEqual(self.get("/livez", self.port, client_context(authority))[0], 200)
        self.assertEqual(daemon.stop(), 0)
