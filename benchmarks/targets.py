"""The programs that are measured: how each is made ready, started and ended."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.daemon import HOST, free_port

from .stage import EXOTEL_TOKEN, Stage

ROOT: Final = Path(__file__).resolve().parents[1]
PEERS: Final = ROOT / "benchmarks/peers"
CACHE: Final = ROOT / ".cache/benchmarks"
_START_DEADLINE_S: Final = 30.0
_GO_PATH: Final = "/usr/share/gocode"


class Missing(Exception):
    """The machine lacks something of a target; the text says what, and how to get it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A program. ``prepare`` returns how it is called. Raises: ``Missing``."""

    key: str
    title: str
    dialects: tuple[str, ...]
    prepare: Callable[[], list[str]]


def _ours() -> list[str]:
    return [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "voiceingest"]


def _needs(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise Missing(f"pip install {' '.join(missing)}")


def _websockets() -> list[str]:
    _needs("websockets", "redis", "uvloop")
    return [sys.executable, str(PEERS / "websockets_peer.py")]


def _autobahn() -> list[str]:
    return [sys.executable, str(PEERS / "autobahn_peer.py")]


def _node() -> list[str]:
    node, folder = shutil.which("node"), PEERS / "node"
    if node is None or shutil.which("npm") is None:
        raise Missing("apt-get install nodejs npm")
    if not (folder / "node_modules/.package-lock.json").is_file():
        _make("npm", ["npm", "ci", "--no-progress", "--loglevel=error"], folder)
    return [node, str(folder / "server.js")]


def _go() -> list[str]:
    packages = {
        "golang-go": shutil.which("go") is not None,
        **{
            f"golang-github-{name}-dev": Path(_GO_PATH, "src/github.com", path).is_dir()
            for name, path in {
                "gorilla-websocket": "gorilla/websocket",
                "gomodule-redigo": "gomodule/redigo",
                "golang-jwt-jwt": "golang-jwt/jwt",
            }.items()
        },
    }
    missing = [name for name, is_there in packages.items() if not is_there]
    if missing:
        raise Missing(f"apt-get install {' '.join(missing)}")
    program = CACHE / "go-peer"
    CACHE.mkdir(parents=True, exist_ok=True)
    environment = {"GO111MODULE": "off", "GOPATH": _GO_PATH, "GOCACHE": str(CACHE / "go-build")}
    _make("go", ["go", "build", "-o", str(program), "main.go"], PEERS / "go", environment)
    return [str(program)]


def _make(name: str, command: list[str], folder: Path, more: dict[str, str] | None = None) -> None:
    made = subprocess.run(
        command, cwd=folder, env=os.environ | (more or {}), capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise Missing(f"{name} failed: {(made.stderr or made.stdout).strip().splitlines()[-1:]}")


BOTH: Final = ("ingest", "exotel")
TARGETS: Final = (
    Target("ours", "voiceingest", BOTH, _ours),
    Target("go", "Go: gorilla/websocket, redigo", BOTH, _go),
    Target("node", "Node: ws, ioredis", BOTH, _node),
    Target("websockets", "Python: websockets, redis-py, uvloop", ("ingest",), _websockets),
    Target("autobahn", "Autobahn, txredisapi", ("ingest",), _autobahn),
)


class Running:
    """One process of a target, on the core that is for it."""

    def __init__(self, stage: Stage, command: list[str], settings: dict[str, str] | None = None) -> None:
        self.plain_port, self.tls_port, self.admin_port = free_port(), free_port(), free_port()
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment |= {
            "PLAIN_PORT": str(self.plain_port),
            "TLS_PORT": str(self.tls_port),
            "REDIS_PORT": str(stage.redis.port),
            "REDIS_URL": stage.redis.url(),
            "JWT_PUBLIC_KEY_FILE": str(stage.key_path),
            "SSL_CERT_PATH": str(stage.tls.cert_path),
            "SSL_KEY_PATH": str(stage.tls.key_path),
            "EXOTEL_WS_TOKEN": EXOTEL_TOKEN,
            "PYTHONPATH": str(ROOT),
            "NODE_ENV": "production",
            **self._of_the_daemon(stage),
            **(settings or {}),
        }
        self._log_path = stage.folder / f"{Path(command[0]).name}-{self.plain_port}.log"
        with self._log_path.open("wb") as log:
            # It has its core from its first instruction on: Go counts its cores only then.
            os.sched_setaffinity(0, {stage.core})
            self._process = subprocess.Popen(
                command, env=environment, cwd=stage.folder, stdout=log, stderr=log
            )
            os.sched_setaffinity(0, stage.others)
        self.pid = self._process.pid
        for port in (self.plain_port, self.tls_port):
            self._wait(port)

    def _of_the_daemon(self, stage: Stage) -> dict[str, str]:
        """The two bounds that are for one client address are lifted: here everything comes from one."""
        tls = f"ssl:{self.tls_port}:interface={HOST}:privateKey={stage.tls.key_path}"
        return {
            "LISTEN": f"tcp:{self.plain_port}:interface={HOST},{tls}:certKey={stage.tls.cert_path}",
            "ADMIN": f"tcp:{self.admin_port}:interface={HOST}",
            "VOICEBOT_AGENT": "silence",
            "MAX_CONNECTIONS_PER_IP": "0",
        }

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + _START_DEADLINE_S
        while True:
            try:
                socket.create_connection((HOST, port), timeout=1.0).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise Missing(f"it did not start: {self.last_words()}") from None
                time.sleep(0.05)
            else:
                return

    def last_words(self) -> str:
        """The last line of what it wrote."""
        return "".join(self._log_path.read_text(errors="replace").strip().splitlines()[-1:])

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
