"""The daemon as a process of its own: ``twistd -n voiceingest`` on free ports of the loopback.

    daemon = Daemon(self, {"PUBLISH_URL": "memory://", "JWT_PUBLIC_KEY": issuer.public_pem}, tls=True)
    yield daemon.start()                 # until /readyz of the admin site says 200
    ... daemon.ws_url("/v1/ingest"), daemon.wss_url("/v1/ingest"), daemon.admin_url("/metrics") ...
    code = yield daemon.stop()           # SIGTERM; a cleanup of the test does it otherwise

Settings are environment variables and the only ones the daemon gets, besides what finds programs.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trustme
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, readBody

if TYPE_CHECKING:
    from .case import TestCase

ROOT: Final = Path(__file__).resolve().parents[2]
HOST: Final = "127.0.0.1"

# What waits for a condition waits long: a busy machine is no failure.
START_DEADLINE_S: Final = 45.0
STOP_DEADLINE_S: Final = 45.0
_POLL_S: Final = 0.05

# Below the range the kernel takes the near end of connections from, so that no other test has them.
_PORTS: Final = range(10000, 20000)
_BLOCK_COUNT: Final = 100

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")

# The script that is next to the interpreter in use, without needing to be on the PATH.
_TWISTD: Final = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"


class DaemonFailed(AssertionError):
    """The daemon did not do what it was told to in time; the text ends with its last lines."""


@functools.cache
def _own_ports() -> tuple[socket.socket, Iterator[int]]:
    """Ports no other process of tests is told of, round and round, and what says that they are ours.

    Between being told of a port and listening on it a program takes a second to start; a server that is
    down for a while wants its port back. The name of a socket ends with the process that holds it.
    """
    firsts = _PORTS[::_BLOCK_COUNT]
    for first in random.sample(firsts, len(firsts)):
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            held.bind(f"\0voiceingest-test-ports-{first}")
        except OSError:
            held.close()
        else:
            return held, itertools.cycle(range(first, first + _BLOCK_COUNT))
    raise DaemonFailed("every block of ports is somebody's")


def free_port() -> int:
    """A TCP port of the loopback nobody listens on, and nobody else is told of meanwhile."""
    for port in itertools.islice(_own_ports()[1], _BLOCK_COUNT):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise DaemonFailed(f"{_BLOCK_COUNT} ports in a row are taken")


class _Process(ProcessProtocol):
    """Collects what the process writes; ``exited`` fires with its exit code, negative for a signal."""

    def __init__(self) -> None:
        self.written = bytearray()
        # The log alone: what is said on standard error may come in the middle of a line of it.
        self.logged = bytearray()
        self.exited: Deferred[int] = Deferred()
        self.exit_code: int | None = None

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep what was written to standard output or error."""
        self.written += data
        if childFD == 1:
            self.logged += data

    def processEnded(self, reason: Failure) -> None:
        """Note the exit code."""
        value = reason.value
        assert isinstance(value, (ProcessDone, ProcessTerminated))
        self.exit_code = -value.signal if value.signal else (value.exitCode or 0)
        self.exited.callback(self.exit_code)


class Daemon:
    """One daemon, for one test; ``tls`` adds a TLS port with a certificate of ``ca_path``."""

    def __init__(
        self, case: TestCase, settings: Mapping[str, str], *, tls: bool = False, args: Sequence[str] = ()
    ) -> None:
        from twisted.internet import reactor

        self._reactor: Any = reactor
        self._case = case
        self.directory = case.mktemp_path()
        self.directory.mkdir()
        self.settings = dict(settings)
        self.port, self.admin_port = free_port(), free_port()
        self.args = ["--port", f"tcp:{self.port}:interface={HOST}"]
        self.tls_port = 0
        if tls:
            self.tls_port = free_port()
            self._make_certificate()
            self.args += ["--port", f"ssl:{self.tls_port}:interface={HOST}"]
        self.args += ["--admin", f"tcp:{self.admin_port}:interface={HOST}", *args]
        self.process = _Process()
        self._transport: Any = None

    # --- where it is

    def ws_url(self, path: str) -> str:
        """URL of a WebSocket without TLS."""
        return f"ws://{HOST}:{self.port}{path}"

    def wss_url(self, path: str) -> str:
        """URL of a WebSocket with TLS; the certificate is for ``localhost`` and the address."""
        return f"wss://localhost:{self.tls_port}{path}"

    def url(self, path: str) -> str:
        """URL on the public site."""
        return f"http://{HOST}:{self.port}{path}"

    def admin_url(self, path: str) -> str:
        """URL on the admin site."""
        return f"http://{HOST}:{self.admin_port}{path}"

    @property
    def ca_path(self) -> Path:
        """PEM file of the authority that signed the certificate."""
        return self.directory / "ca.crt"

    @property
    def pid(self) -> int:
        """Process id."""
        return int(self._transport.pid)

    # --- what it said

    @property
    def output(self) -> str:
        """Everything written to standard output and error so far."""
        return self.process.written.decode(errors="replace")

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log lines so far, each of them one JSON object; lines that are not are left out."""
        # Of the last one there may be a half, and where it ends there may stand a brace.
        whole, _, _ = self.process.logged.decode(errors="replace").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        return [line for line in self.log if line.get("event") == event]

    # --- its life

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        """Start and wait until ready. Raises: ``DaemonFailed`` when it ends or takes too long."""
        self.spawn()
        yield self.wait_until(self._is_ready, START_DEADLINE_S, "is not ready")

    def spawn(self) -> Deferred[int]:
        """Start, and do not wait; the Deferred fires with the exit code."""
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        environment |= {"DRAIN_LISTEN_S": "0", **self.settings}
        command = [sys.executable, "-c", _TWISTD, "-n", "--pidfile=", "voiceingest", *self.args]
        self._transport = self._reactor.spawnProcess(
            self.process, sys.executable, command, env=environment, path=str(self.directory)
        )
        self._case.addCleanup(self.stop)
        return self.process.exited

    def signal(self, name: str) -> None:
        """Send a signal: ``TERM``, ``HUP``, ``STOP``, ``CONT``, ``KILL``, ..."""
        # Twisted knows only some names, and CONT is none of them.
        self._transport.signalProcess(getattr(signal, f"SIG{name}"))

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, int]:
        """Send SIGTERM and return the exit code, ``-N`` for signal N. Harmless when it has ended.

        Raises: ``DaemonFailed`` when it had to be killed.
        """
        try:
            self.signal("TERM")
        except ProcessExitedAlready:
            assert self.process.exit_code is not None
            return self.process.exit_code
        code: int = yield self.wait_for_exit()
        return code

    @inlineCallbacks
    def wait_for_exit(self, deadline_s: float = STOP_DEADLINE_S) -> Generator[Deferred[Any], Any, int]:
        """The exit code. Raises: ``DaemonFailed`` after ``deadline_s``; the process is then killed."""
        end = self._reactor.seconds() + deadline_s
        while self.process.exit_code is None:
            if self._reactor.seconds() > end:
                self.signal("KILL")
                yield self.process.exited
                raise self._failed(f"did not end within {deadline_s} s")
            yield deferLater(self._reactor, _POLL_S)
        return self.process.exit_code

    @inlineCallbacks
    def wait_for_log(self, event: str, deadline_s: float = 30.0) -> Generator[Deferred[Any], Any, None]:
        """Wait until an event has been logged."""
        yield self.wait_until(lambda: bool(self.logged(event)), deadline_s, f"did not log {event}")

    @inlineCallbacks
    def wait_until(
        self, condition: Callable[[], Any], deadline_s: float, problem: str
    ) -> Generator[Deferred[Any], Any, None]:
        """Wait until ``condition()``, a value or a Deferred, is true.

        Raises: ``DaemonFailed`` with ``problem`` after ``deadline_s`` or when the daemon has ended.
        """
        end = self._reactor.seconds() + deadline_s
        while not (yield maybeDeferred(condition)):
            if self.process.exit_code is not None:
                raise self._failed(f"{problem}: it ended with {self.process.exit_code}")
            if self._reactor.seconds() > end:
                raise self._failed(f"{problem} after {deadline_s} s")
            yield deferLater(self._reactor, _POLL_S)

    @inlineCallbacks
    def get(self, url: str) -> Generator[Deferred[Any], Any, tuple[int, bytes]]:
        """Status and body of one GET, on a connection of its own."""
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        agent = Agent(self._reactor, connectTimeout=15, pool=pool)
        response = yield agent.request(b"GET", url.encode())
        return response.code, (yield readBody(response))

    @inlineCallbacks
    def _is_ready(self) -> Generator[Deferred[Any], Any, bool]:
        try:
            status, _ = yield self.get(self.admin_url("/readyz"))
        except Exception:
            # Nobody listens yet, or the daemon has ended: the caller's deadline decides.
            return False
        return bool(status == 200)

    def _failed(self, problem: str) -> DaemonFailed:
        lines = self.output.splitlines()[-30:]
        return DaemonFailed("\n".join([f"the daemon {problem}; its last lines:", *lines]))

    def _make_certificate(self) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", HOST)
        authority.cert_pem.write_to_path(self.ca_path)
        key, chain = self.directory / "server.key", self.directory / "server.crt"
        certificate.private_key_pem.write_to_path(key)
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(chain, append=True)
        self.settings |= {"SSL_KEY_PATH": str(key), "SSL_CERT_PATH": str(chain)}

