"""Scenario 3, and 2 and 6 on Redis Streams: a bus that keeps what it is given."""

from __future__ import annotations

import asyncio
import re
import time
from typing import ClassVar, Final

from tests.support.daemon import HOST
from tests.support.sentinels import Sentinels
from tests.support.servers import RedisServer

from ..account import Account
from ..bench import off_loop, ways_of
from ..consumer import Resp
from ..scenario import Scenario

# How far the primary is, and each replica.
_OFFSET: Final = re.compile(rb"^(?:master_repl_offset:|slave[0-9]+:.*,offset=)([0-9]+)", re.MULTILINE)


def _in_step(offsets: list[bytes]) -> bool:
    """Whether the primary and both replicas are there, and as far as one another."""
    return len(offsets) == 3 and len(set(offsets)) == 1


class OnSentinel(Scenario):
    """Redis Streams: a primary, two replicas, three sentinels; confirmed is what a replica has too."""

    number: ClassVar[str] = "3"

    async def set_up(self) -> None:
        """All of them."""
        bench = self.bench
        self.primary = await off_loop(bench.redis)
        self.replicas = [
            await off_loop(lambda: RedisServer(bench, replica_of=self.primary)) for _ in range(2)
        ]
        self.sentinels = await off_loop(lambda: Sentinels(bench, self.primary, self.replicas))
        self.daemon = await bench.start_daemon(
            {
                "PUBLISH_URL": self.sentinels.url("redis-streams"),
                "REDIS_WAIT_REPLICAS": "1",
                "REDIS_STREAM_MAX_ENTRIES": "1000000",
            }
        )
        ways = [(HOST, server.port) for server in self.sentinels.servers]
        await bench.consume("streams", ways, service=Sentinels.SERVICE)
        await bench.call(self.daemon)

    async def until_new_primary(self) -> None:
        """Until the sentinels name another one, and the daemon publishes to it."""
        before, began = self.primary.port, time.monotonic()
        while time.monotonic() - began < 30 and await off_loop(self.sentinels.primary_port) == before:
            await asyncio.sleep(0.1)
        self.named_s = time.monotonic() - began
        # What is confirmed is on a replica too: there has to be one that follows the new primary.
        while time.monotonic() - began < 60 and not await off_loop(self._is_followed):
            await asyncio.sleep(0.1)
        self.followed_s = time.monotonic() - began
        self.fault.end()
        while time.monotonic() - began < 60 and not self.daemon.logged("primary_named"):
            await asyncio.sleep(0.1)
        await self.daemon.until_ready(30)
        self.outage_s = time.monotonic() - began

    def _is_followed(self) -> bool:
        """Whether a replica is in step with the primary that is named."""
        with self.sentinels.primary().control() as client:
            told = client.info("replication")
        return told.get("role") == "master" and any(
            told.get(f"slave{number}", {}).get("state") == "online" for number in range(3)
        )

    def judge(self, account: Account) -> None:
        """How long it took."""
        super().judge(account)
        self.row.note(
            f"another primary is named after {self.named_s:.1f} s, a replica follows it after "
            f"{self.followed_s:.1f} s, published to after {self.outage_s:.1f} s"
        )
        late = self.outage_s - self.followed_s
        self.row.hold("the new primary is found within 10 s", late <= 10, f"{late:.1f} s")


class PrimaryKilled(OnSentinel):
    """kill -9 of the primary."""

    name = "sentinel-primary-killed"
    breaks = "the Redis primary is killed (SIGKILL); three sentinels name another (REDIS_WAIT_REPLICAS 1)"
    right = "the new primary is found, sessions stay, what was acknowledged is on it"

    async def inject(self) -> None:
        """Kill, wait."""
        await off_loop(self.primary.kill)
        await self.until_new_primary()


class PlannedFailover(OnSentinel):
    """CLIENT PAUSE, then SENTINEL FAILOVER.

    Without the pause the old primary takes writes for a second more, which a replica that still follows it
    confirms, and which are thrown away with its role: no client can know better.
    """

    name = "sentinel-failover"
    breaks = "an operator pauses writes at the Redis primary and asks the sentinels for a planned fail-over"
    right = "the new primary is found, nothing acknowledged is missing"

    async def inject(self) -> None:
        """Pause, see that the replicas have it all, ask, wait."""
        resp = await Resp.dial(HOST, self.primary.port, ())
        await resp.ask("CLIENT", "PAUSE", "30000", "WRITE")
        while not _in_step(_OFFSET.findall(await resp.ask("INFO", "replication"))):
            await asyncio.sleep(0.05)
        await off_loop(self.sentinels.failover)
        await self.until_new_primary()
        resp.writer.close()


class OnStreams(Scenario):
    """Redis Streams with every write on disk."""

    async def set_up(self) -> None:
        """An append-only file, synced at each write."""
        bench = self.bench
        options = ["--appendonly", "yes", "--appendfsync", "always"]
        self.redis = await off_loop(lambda: bench.redis(options=options))
        url = self.redis.url().replace("redis://", "redis-streams://")
        self.daemon = await bench.start_daemon({"PUBLISH_URL": url, "REDIS_STREAM_MAX_ENTRIES": "1000000"})
        await bench.consume("streams", ways_of(self.redis))
        await bench.call(self.daemon)

    async def admin(self, *words: str) -> None:
        """One command of the operator."""
        resp = await Resp.dial(HOST, self.redis.port, ())
        await resp.ask(*words)
        resp.writer.close()


class StreamsKilled(OnStreams):
    """kill -9 of a Redis that keeps what it has confirmed."""

    number, name = "2", "redis-streams-killed"
    breaks = (
        "Redis with streams and appendfsync always is killed (SIGKILL) and started again after 10 s "
        "(quick: 2 s)"
    )
    right = "what was acknowledged is still there, what did not fit is declared, order is kept"

    async def inject(self) -> None:
        """Kill, wait, start."""
        await off_loop(self.redis.kill)
        await asyncio.sleep(self.bench.scale.pick(10.0, 2.0))
        await off_loop(self.redis.restart)
        self.fault.end()
        await self.daemon.until_ready(10)


class OutOfMemory(OnStreams):
    """Redis is full."""

    number, name = "6", "redis-out-of-memory"
    breaks = "Redis with streams answers OOM to every write for 5 s (quick: 2 s)"
    right = "an outage like any other: not ready, frames kept and sent again, no crash, a few lines of log"

    async def inject(self) -> None:
        """Full, and not any more."""
        await self.admin("CONFIG", "SET", "maxmemory", "1")
        await asyncio.sleep(self.bench.scale.pick(5.0, 2.0))
        await self.admin("CONFIG", "SET", "maxmemory", "0")
        self.fault.end()
        await self.daemon.until_ready(10)

    def judge(self, account: Account) -> None:
        """Refused for now is not refused for good."""
        super().judge(account)
        self.row.hold("nothing is declared refused", "refused" not in account.reasons, account.reasons)
        lines = len(
            [line for line in self.daemon.log if line.get("event") in ("bus_down", "bus_up", "bus_refused")]
        )
        self.row.hold("an outage is a few lines", lines <= 20, lines)
