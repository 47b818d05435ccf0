"""What end-to-end tests stand on: a daemon, a Redis behind it, and everybody who talks to them."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tests.support.case import TestCase
from tests.support.daemon import HOST, Daemon
from tests.support.servers import RedisServer
from tests.support.sockets import handshake
from tests.support.tokens import Issuer
from voiceingest.aio import as_deferred, as_future

from .callers import Caller
from .consumer import Consumer


@functools.cache
def one_issuer() -> Issuer:
    """One key for all tests: making it takes its time."""
    return Issuer()


def asynchronous(method: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], Deferred[None]]:
    """Let a test method be asyncio code."""

    @functools.wraps(method)
    def run(self: Any) -> Deferred[None]:
        return as_deferred(method(self))

    return run


class IngestCase(TestCase):
    """A daemon, where wanted a Redis behind it, and everybody who talks to them."""

    def setUp(self) -> None:
        """Make the issuer."""
        self.issuer = one_issuer()
        self.redis: RedisServer

    async def start_daemon(self, *, tls: bool = False, **settings: Any) -> Daemon:
        """A daemon that is ready; it publishes to ``redis`` unless told otherwise."""
        base = {"JWT_PUBLIC_KEY": self.issuer.public_pem, "DRAIN_DEADLINE_S": "1"}
        if "PUBLISH_URL" not in settings:
            self.redis = RedisServer(self)
            base["REDIS_URL"] = self.redis.url()
        daemon = Daemon(self, {**base, **settings}, tls=tls)
        await as_future(daemon.start())
        return daemon

    async def consume(self) -> Consumer:
        """A consumer of both channels that has been subscribed."""
        consumer = Consumer()
        await asyncio.get_running_loop().create_connection(lambda: consumer, HOST, self.redis.port)
        self.addCleanup(consumer.abort)
        consumer.command("SUBSCRIBE", "audio:frames", "audio:events")
        await consumer.until(lambda: consumer.subscribed == 2, "the subscription")
        return consumer

    async def connect(
        self, daemon: Daemon, path: str = "/v1/ingest", *, tls: bool = False, **headers: Any
    ) -> Caller:
        """Ask for an upgrade; whether it was had is in ``status``."""
        caller = Caller()
        trust, port = None, daemon.port
        if tls:
            trust, port = trust_in(daemon.ca_path), daemon.tls_port
        await asyncio.get_running_loop().create_connection(
            lambda: caller, HOST, port, ssl=trust, server_hostname="localhost" if tls else None
        )
        self.addCleanup(caller.abort)
        caller.send(handshake(path, **headers))
        await caller.until(lambda: caller.head or caller.lost, "an answer to the handshake")
        return caller

    async def call(self, daemon: Daemon, token: str | None = None, *, tls: bool = False) -> Caller:
        """A WebSocket that was let in."""
        token = token or self.issuer.token()
        caller = await self.connect(daemon, tls=tls, Authorization=f"Bearer {token}")
        self.assertEqual(caller.status, 101, caller.head + caller.body)
        return caller

    async def get(
        self, port: int, path: str, method: str = "GET", body: bytes = b"", **headers: Any
    ) -> Caller:
        """One HTTP request on a connection of its own; the whole answer."""
        caller = Caller()
        await asyncio.get_running_loop().create_connection(lambda: caller, HOST, port)
        self.addCleanup(caller.abort)
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *lines]
        length = [f"Content-Length: {len(body)}"] if body or method == "POST" else []
        caller.send("\r\n".join([*head, *length, "", ""]).encode() + body)
        await caller.closed()
        return caller

    async def metrics(self, daemon: Daemon) -> str:
        """The exposition of the admin site."""
        return (await self.get(daemon.admin_port, "/metrics")).body.decode()

    async def published(self, consumer: Consumer, interaction_id: str, count: int) -> None:
        """Wait for so many frames of a stream: what the bus has confirmed may be on its way to others."""
        await consumer.until(
            lambda: len(consumer.frames(interaction_id)) >= count, f"{count} frames of {interaction_id}"
        )

    def assert_published(self, consumer: Consumer, interaction_id: str, audio: list[bytes]) -> None:
        """Exactly these frames are on the bus, numbered from 1."""
        found = consumer.frames(interaction_id)
        self.assertEqual([seq for seq, _ in found], list(range(1, len(audio) + 1)))
        self.assertTrue([payload for _, payload in found] == audio, "the audio differs")


def trust_in(ca_path: Path) -> ssl.SSLContext:
    """A client's side of TLS."""
    return ssl.create_default_context(cafile=str(ca_path))


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def metric(exposition: str, name: str) -> float:
    """One sample, labels included in the name; 0 when it is not there."""
    found = [line.rpartition(" ")[2] for line in exposition.splitlines() if line.startswith(name + " ")]
    return float(found[0]) if found else 0.0


def cpu_s(pid: int) -> float:
    """CPU time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
