"""Scenarios 1, 2, 5 and 6: Redis freezes, dies, has a reader that does not read, refuses."""

from __future__ import annotations

import asyncio
import shutil
import socket
from typing import Any, ClassVar

from tests.support.daemon import HOST
from tests.support.servers import TlsFiles, tls_supported

from ..account import Account
from ..bench import off_loop, ways_of
from ..consumer import Resp
from .base import OnPubSub

_ACL = ("user default on nopass ~* &* +@all", "user ingest off >s3cr3t-of-the-bus ~* &* +@all")
_SECRET = "s3cr3t-of-the-bus"


class Frozen(OnPubSub):
    """SIGSTOP for a while."""

    frozen_s: ClassVar[float]

    async def inject(self) -> None:
        """Stop it, wait, let it go on."""
        self.redis.freeze()
        await asyncio.sleep(self.frozen_s)
        self.redis.thaw()

    def judge(self, account: Account) -> None:
        """No ack can have come while nothing was confirmed."""
        super().judge(account)
        gap = account.ack_gap_s
        self.row.hold("acks stop while nothing is confirmed", gap >= self.frozen_s * 0.9, f"{gap:.1f} s")


class FrozenShort(Frozen):
    """Shorter than the buffer: nothing may be lost at all."""

    number, name, frozen_s = "1", "redis-frozen-2s", 2.0
    breaks = "Redis is stopped (SIGSTOP) for 2 s"
    right = "sessions stay, acks pause, nothing is lost, order is kept"

    def judge(self, account: Account) -> None:
        """The buffer lasts for 3 s."""
        super().judge(account)
        self.row.hold("nothing is declared lost", not account.declared, account.declared)
        self.row.hold("nothing comes twice", not account.repeated_in_flight, account.repeated_in_flight)


class FrozenLong(Frozen):
    """Longer than any buffer and every timeout."""

    number, name, frozen_s, long = "1", "redis-frozen-60s", 60.0, True
    breaks = "Redis is stopped (SIGSTOP) for 60 s"
    right = "sessions stay, readyz says why, the newest 3 s are kept, the rest is declared in gaps"

    def judge(self, account: Account) -> None:
        """What does not fit is declared, and readiness tells."""
        super().judge(account)
        self.row.hold("the lost is declared as overflow", account.reasons == {"overflow"}, account.reasons)
        self.row.hold("readyz says 503 during the outage", self.row.not_ready_s is not None)
        self.row.hold(
            "readyz is well again", self.row.ready_s is not None and self.row.ready_s <= 10, self.row.ready_s
        )


class Gated(OnPubSub):
    """The daemon is let in by a user that is off after a restart, until the consumer is back.

    Pub/sub keeps nothing: what is published before the consumer has subscribed is nobody's fault.
    """

    ca = ""

    async def set_up(self) -> None:
        """As ever, and the door is opened."""
        bench = self.bench
        self.redis = await off_loop(lambda: bench.redis(**self.server()))
        await self.admin("ACL", "SETUSER", "ingest", "on")
        self.daemon = await bench.start_daemon(self.settings())
        await bench.consume("pubsub", ways_of(self.redis), ca=self.ca)
        await bench.call(self.daemon)

    def server(self) -> dict[str, Any]:
        """Of the Redis server."""
        return {"acl": _ACL}

    def settings(self) -> dict[str, str]:
        """The daemon is the user that can be shut out."""
        return {"REDIS_URL": self.redis.url("ingest", _SECRET)}

    async def admin(self, *words: str) -> None:
        """One command of the operator."""
        resp = await Resp.dial(HOST, self.redis.port, (), self.ca)
        await resp.ask(*words)
        resp.writer.close()

    def judge(self, account: Account) -> None:
        """Also: the password is nowhere in the log, and an outage is a few lines."""
        super().judge(account)
        self.row.hold("no secret in the log", _SECRET not in self.daemon.log_text)
        lines = len([line for line in self.daemon.log if line.get("event") in ("bus_down", "bus_up")])
        self.row.hold("an outage is a few lines, not one for each attempt", lines <= 12, lines)
        self.row.hold(
            "readyz is well again", self.row.ready_s is not None and self.row.ready_s <= 10, self.row.ready_s
        )


class Killed(Gated):
    """kill -9, and a new one on the same port."""

    number, name = "2", "redis-killed"
    breaks = "Redis is killed (SIGKILL), and started again, empty, after 10 s (quick: 2 s)"
    right = (
        "reconnects with backoff, sessions stay, what did not fit is declared, nothing twice but what "
        "was in flight"
    )

    async def inject(self) -> None:
        """Kill, wait, start; the consumer first, then the daemon."""
        assert self.bench.consumer is not None
        await off_loop(self.redis.kill)
        await asyncio.sleep(self.bench.scale.pick(10.0, 2.0))
        await off_loop(self.redis.restart)
        await self.bench.consumer.hear("subscribed")
        await self.admin("ACL", "SETUSER", "ingest", "on")
        self.fault.end()
        await self.daemon.until_ready(10)

    def judge(self, account: Account) -> None:
        """Also: no storm of attempts."""
        super().judge(account)
        self.row.hold("readyz says 503 during the outage", self.row.not_ready_s is not None)


class ShutOut(Gated):
    """The password is no longer good."""

    number, name = "6", "redis-auth"
    breaks = "the daemon's Redis user is switched off and its connection cut, for 5 s (quick: 2 s)"
    right = "counted, not ready, no crash, no secret in the log; goes on by itself"

    async def inject(self) -> None:
        """Off, cut, wait, on."""
        await self.admin("ACL", "SETUSER", "ingest", "off")
        await self.admin("CLIENT", "KILL", "USER", "ingest")
        await asyncio.sleep(self.bench.scale.pick(5.0, 2.0))
        await self.admin("ACL", "SETUSER", "ingest", "on")
        self.fault.end()
        await self.daemon.until_ready(10)

    def judge(self, account: Account) -> None:
        """Also: it says why."""
        super().judge(account)
        reasons = [line.get("reason") for line in self.daemon.logged("bus_down")]
        self.row.hold("the log says auth", "auth" in reasons, reasons)


class WrongCertificate(Gated):
    """Redis comes back with a certificate of somebody else."""

    number, name = "6", "redis-certificate"
    breaks = "Redis over TLS is started again with a certificate of an unknown authority, then with its own"
    right = "not ready with the reason tls, nothing is sent to it, goes on with the right one"

    def missing(self) -> str:
        """Needs a Redis that speaks TLS."""
        return "" if tls_supported() else "the Redis server there cannot speak TLS"

    async def set_up(self) -> None:
        """The files the server reads are changed under it; the daemon and the consumer keep copies."""
        folder = self.bench.folder
        self.served, self.good, self.bad = folder / "served", folder / "good", folder / "bad"
        for each in (self.served, self.good, self.bad):
            each.mkdir()
        self.files, _, _ = (
            TlsFiles(self.served),
            TlsFiles(self.bad),
            shutil.copytree(self.served, self.good, dirs_exist_ok=True),
        )
        self.ca = str(self.good / "ca.pem")
        await super().set_up()

    def server(self) -> dict[str, Any]:
        """With TLS."""
        return {**super().server(), "tls": self.files}

    def settings(self) -> dict[str, str]:
        """It trusts the authority of the first certificate."""
        return {**super().settings(), "REDIS_CA_PATH": self.ca, "PUBLISH_RETRY_MAX_S": "1"}

    async def inject(self) -> None:
        """The wrong one, a while, the right one; the consumer first, then the daemon."""
        assert self.bench.consumer is not None
        for files, pause_s in ((self.bad, self.bench.scale.pick(5.0, 1.5)), (self.good, 0.0)):
            await off_loop(self.redis.kill)
            shutil.copytree(files, self.served, dirs_exist_ok=True)
            await off_loop(self.redis.restart)
            await asyncio.sleep(pause_s)
        await self.bench.consumer.hear("subscribed")
        await self.admin("ACL", "SETUSER", "ingest", "on")
        self.fault.end()
        await self.daemon.until_ready(10)

    def judge(self, account: Account) -> None:
        """Also: it says why."""
        super().judge(account)
        reasons = [line.get("reason") for line in self.daemon.logged("bus_down")]
        self.row.hold("the log says tls", "tls" in reasons, reasons)


class OneBrokenConnection(OnPubSub):
    """The connection to the bus is cut again and again while frames are in flight."""

    number, name = "2", "bus-connection-cut"
    breaks = "the daemon's connection to Redis is cut ten times (quick: 3), 0.4 s apart, Redis itself is well"
    right = "frames in flight are sent again, nothing is lost, only those come twice"

    async def inject(self) -> None:
        """CLIENT KILL of everything that is not a subscriber."""
        resp = await Resp.dial(HOST, self.redis.port, ())
        for _ in range(int(self.bench.scale.pick(10, 3))):
            await resp.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.4)
        resp.writer.close()

    def judge(self, account: Account) -> None:
        """Away for moments only: nothing overflows."""
        super().judge(account)
        self.row.hold("nothing is declared lost", not account.declared, account.declared)


class DeafSubscriber(OnPubSub):
    """Somebody subscribes and never reads."""

    number, name = "5", "slow-subscriber"
    breaks = "another subscriber stops reading; Redis cuts it at its output limit"
    right = "Redis cuts it; daemon, callers and the other consumers are unaffected"

    async def inject(self) -> None:
        """Subscribe with a small window, read nothing, wait until Redis has had enough."""
        admin = await Resp.dial(HOST, self.redis.port, ())
        # Redis' own limits (32 MiB, or 8 MiB for a minute) and a load of 3.5 MB/s would take a minute.
        await admin.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 2mb 1mb 5")
        deaf = socket.socket()
        self.bench.addCleanup(deaf.close)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((HOST, self.redis.port))
        deaf.sendall(b"SUBSCRIBE audio:frames\r\n")
        self.cut = False
        for _ in range(200):
            await asyncio.sleep(0.1)
            info = (await admin.ask("INFO", "stats")).decode()
            if "client_output_buffer_limit_disconnections:0" not in info:
                self.cut = True
                break
        admin.writer.close()

    def judge(self, account: Account) -> None:
        """Nobody else notices."""
        super().judge(account)
        self.row.hold("Redis cuts the subscriber", self.cut)
        self.row.hold("nothing is declared lost", not account.declared, account.declared)
        self.row.hold("nothing comes twice", not account.repeated_in_flight, account.repeated_in_flight)
        p99 = self.row.neighbour_bus_p99_ms
        self.row.hold("the neighbour is on the bus in 250 ms", p99 is not None and p99 <= 250, p99)
