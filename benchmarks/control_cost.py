"""What devices and sessions cost: CPU of the daemon per operation, and what its record costs a stream.

    python benchmarks/control_cost.py --count 400 --streams 400 [--only sqlite/HS256] [--json]

Starts ``twistd -n voiceingest`` on free ports for each database and each way to sign, and a PostgreSQL
where one is needed, and asks eight at a time. CPU is user and system time of all threads of the daemon's
process: that of the client is not in it, nor that of PostgreSQL's own processes. ``per_core_s`` is how
many of them one core has time for. Limits a minute are counted as ever, and are too high to be met.

A session is three requests: made, looked at, ended. A stream is opened, told to start, held until its
record is written, stopped, and its record is written again; no audio comes. Beside it stands a daemon
without sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import aiohttp  # noqa: E402
import grpc  # noqa: E402
import websockets  # noqa: E402

from benchmarks.procfs import rss_kib, spent_s  # noqa: E402

AT_ONCE: Final = 8
WARM_COUNT: Final = 40

_CONFIG: Final = {"audioConfig": {"sampleRate": 24000, "encoding": "pcm16"}, "metadata": {"order": "7"}}
_READY_TRIES: Final = 300
_WRITE_TRIES: Final = 240


class Daemon:
    """One daemon as a process of its own."""

    def __init__(self, **settings: str) -> None:
        from tests.support.daemon import free_port
        from tests.support.tokens import Issuer

        self._folder = tempfile.TemporaryDirectory()
        self.port, self.admin_port, self.grpc_port = free_port(), free_port(), free_port()
        issuer = Issuer()
        self.stream_token = issuer.token(tenant_id="bench")
        own = {
            "PUBLISH_URL": "memory://", "JWT_PUBLIC_KEY": issuer.public_pem, "API_RATE_FACTOR": "1000",
            "LISTEN": f"tcp:{self.port}:interface=127.0.0.1", "GRPC_PORT": str(self.grpc_port),
            "ADMIN": f"tcp:{self.admin_port}:interface=127.0.0.1", "PYTHONPATH": str(ROOT),
            "DATABASE_URL": f"sqlite:///{self._folder.name}/sessions.db", "SESSIONS_MAX_PER_USER": "100000",
        }  # fmt: skip
        command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "voiceingest"]
        self._process = subprocess.Popen(
            command, env=os.environ | own | settings, stdout=subprocess.DEVNULL, cwd=self._folder.name
        )
        self.pid = self._process.pid
        self._wait()

    def _wait(self) -> None:
        for _ in range(_READY_TRIES):
            with contextlib.suppress(OSError):
                self.told("/readyz")
                return
            time.sleep(0.1)
        raise RuntimeError("the daemon is not ready")

    def told(self, path: str) -> str:
        """A page of the admin site."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def written(self) -> int:
        """How often the record of a stream has been written."""
        text = self.told("/metrics")
        found = re.search(r'^voiceingest_store_writes_total\{[^}]*"written"[^}]*\} (\S+)$', text, re.M)
        return int(float(found[1])) if found else 0

    async def wait_for_writes(self, count: int) -> None:
        """Until so many have been. Seldom asked: asking costs the daemon time, too."""
        for _ in range(_WRITE_TRIES):
            if self.written() >= count:
                return
            await asyncio.sleep(0.5)
        raise RuntimeError(f"{self.written()} of {count} records are written")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)
        self._folder.cleanup()


class Asker:
    """Who asks a daemon."""

    def __init__(self, daemon: Daemon, http: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
        from voiceingest.transports.grpc_api.generated.session_pb2_grpc import SessionServiceStub

        self._base = f"http://127.0.0.1:{daemon.port}"
        self._http = http
        self._stub: Any = SessionServiceStub(channel)
        self._count = 0
        self._refresh_tokens: list[str] = []
        self._headers: dict[str, str] = {}

    async def begin(self) -> None:
        """Have tokens for all who ask at once."""
        for _ in range(AT_ONCE):
            tokens = await self.register()
            self._refresh_tokens.append(tokens["refreshToken"])
            self._headers = {"Authorization": f"Bearer {tokens['accessToken']}"}

    async def register(self) -> Any:
        """A device that is new."""
        self._count += 1
        return await self._ask("POST", "/api/auth/register", {"deviceIdentifier": f"device-{self._count}"})

    async def refresh(self) -> None:
        """New tokens for a device; each refresh token is used once."""
        token = self._refresh_tokens.pop()
        fresh = await self._ask("POST", "/api/auth/refresh", {"refreshToken": token})
        self._refresh_tokens.append(fresh["refreshToken"])

    async def rest_session(self) -> None:
        """Made, looked at, ended."""
        made = await self._ask("POST", "/api/session/create", _CONFIG)
        await self._ask("GET", f"/api/session/{made['sessionId']}")
        await self._ask("DELETE", f"/api/session/{made['sessionId']}")

    async def grpc_session(self) -> None:
        """The same over gRPC."""
        from voiceingest.transports.grpc_api.generated import session_pb2 as pb

        who = [("authorization", self._headers["Authorization"])]
        request = pb.StartSessionRequest()
        request.audio_config.update(_CONFIG["audioConfig"])
        request.metadata.update(_CONFIG["metadata"])
        name = (await self._stub.StartSession(request, metadata=who)).session.session_id
        await self._stub.GetSessionStatus(pb.GetSessionStatusRequest(session_id=name), metadata=who)
        await self._stub.StopSession(pb.StopSessionRequest(session_id=name), metadata=who)

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        url = self._base + path
        async with self._http.request(method, url, json=body, headers=self._headers) as response:
            answer = await response.json()
            if response.status >= 300:
                raise RuntimeError(f"{method} {path}: {response.status} {answer}")
            return answer


async def measured(pid: int, count: int, ask: Callable[[], Awaitable[Any]]) -> dict[str, float]:
    """CPU of one of them, out of ``count``, when the first few are over."""

    async def several(share: int) -> None:
        for _ in range(share):
            await ask()

    async def all_of(number: int) -> None:
        await asyncio.gather(*(several(max(1, number // AT_ONCE)) for _ in range(AT_ONCE)))

    await all_of(WARM_COUNT)
    before = spent_s(pid)
    await all_of(count)
    cost_s = (spent_s(pid) - before) / (max(1, count // AT_ONCE) * AT_ONCE)
    return {"cpu_ms": round(cost_s * 1000, 2), "per_core_s": round(1 / cost_s) if cost_s else 0}


async def operations(daemon: Daemon, count: int) -> dict[str, Any]:
    """What may be asked."""
    async with (
        aiohttp.ClientSession() as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{daemon.grpc_port}") as channel,
    ):
        asker = Asker(daemon, http, channel)
        await asker.begin()
        asked = {
            "registration": asker.register, "refresh": asker.refresh,
            "session, REST": asker.rest_session, "session, gRPC": asker.grpc_session,
        }  # fmt: skip
        return {name: await measured(daemon.pid, count, ask) for name, ask in asked.items()}


async def one_stream(daemon: Daemon, name: str, opened: Callable[[], None], stop: asyncio.Event) -> None:
    """A stream from its start to its end."""
    headers = {"Authorization": f"Bearer {daemon.stream_token}"}
    url = f"ws://127.0.0.1:{daemon.port}/v1/ingest"
    async with websockets.connect(url, additional_headers=headers, compression=None) as socket:
        start = {"event": "start", "interaction_id": name, "tenant_id": "bench", "sample_rate": 24000}
        await socket.send(json.dumps(start))
        await socket.recv()
        opened()
        await stop.wait()
        await socket.send('{"event":"stop"}')
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await socket.recv()


async def streams(daemon: Daemon, count: int, writes: int) -> dict[str, float]:
    """What streams cost from start to end, and while they are there; ``writes`` are due at both."""

    async def run(word: str, number: int) -> tuple[float, float]:
        opened, stop, written = asyncio.Semaphore(0), asyncio.Event(), daemon.written()
        before, idle_kib = spent_s(daemon.pid), rss_kib(daemon.pid)
        async with asyncio.TaskGroup() as group:
            for index in range(number):
                group.create_task(one_stream(daemon, f"{word}{index}", opened.release, stop))
                await opened.acquire()
            await daemon.wait_for_writes(written + writes * number)
            held_kib = rss_kib(daemon.pid)
            stop.set()
        await daemon.wait_for_writes(written + 2 * writes * number)
        return (spent_s(daemon.pid) - before) / number, (held_kib - idle_kib) / number

    await run("warm", WARM_COUNT)
    idle_kib, written = rss_kib(daemon.pid), daemon.written()
    cpu, kib = await run("s", count)
    return {
        "cpu_ms": round(cpu * 1000, 2), "kib": round(kib, 1), "idle_mib": round(idle_kib / 1024, 1),
        "writes": round((daemon.written() - written) / count, 2),
    }  # fmt: skip


def keys() -> dict[str, dict[str, str]]:
    """The ways to sign, as settings."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {"HS256": {"JWT_SECRET": "a-secret-for-the-bench-of-32-bytes"}, "RS256": {"JWT_PRIVATE_KEY": pem}}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All of it, by database and key."""
    from tests.support.postgres import PostgresServer

    figures: dict[str, Any] = {}
    with contextlib.ExitStack() as closing:
        stand = _Stand(closing)
        for database in ("sqlite", "postgresql"):
            for name, key in keys().items():
                if options.only not in f"{database}/{name}":
                    continue
                settings = {**key, "GRPC": "on"}
                if database == "postgresql":
                    if stand.postgres is None:
                        stand.postgres = PostgresServer()
                        closing.callback(stand.postgres.stop)
                    settings["DATABASE_URL"] = stand.postgres.database(stand)
                with contextlib.closing(Daemon(**settings)) as daemon:
                    figures[f"{database}/{name}"] = asyncio.run(operations(daemon, options.count))
                with contextlib.closing(Daemon(**settings)) as daemon:
                    stream = asyncio.run(streams(daemon, options.streams, 1))
                    figures[f"{database}/{name}"]["stream"] = stream
        with contextlib.closing(Daemon(CONTROL="off")) as daemon:
            figures["without"] = {"stream": asyncio.run(streams(daemon, options.streams, 0))}
    return figures


class _Stand:
    """What a database of the tests asks of a test."""

    def __init__(self, closing: contextlib.ExitStack) -> None:
        self.postgres: Any = None
        self._closing = closing

    def addCleanup(self, f: Callable[..., Any], /, *args: Any) -> Any:
        return self._closing.callback(f, *args)


def main() -> int:
    """Run once and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--streams", type=int, default=400)
    parser.add_argument("--only", default="", help="part of database/key: sqlite, RS256, postgresql/HS256")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options)
    if options.json:
        print(json.dumps(figures))
        return 0
    for where, found in figures.items():
        for what, costs in found.items():
            print(f"{where:18} {what:14} " + "  ".join(f"{name} {value}" for name, value in costs.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
