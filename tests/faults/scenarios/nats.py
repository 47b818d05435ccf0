"""Scenario 4, and 32 on JetStream: a distributed bus that knows what it has had."""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import Any, ClassVar

from tests.support.daemon import HOST
from tests.support.nats_servers import NatsCluster, NatsServer

from ..account import Account
from ..bench import off_loop, ways_of
from ..scenario import Scenario
from .lifecycle import KilledDaemon


def _no_nats() -> str:
    there = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
    return "" if there else "nats-server is not installed"


class OnNats(Scenario):
    """JetStream on three nodes, three copies of each message."""

    number: ClassVar[str] = "4"
    cluster: NatsCluster

    def missing(self) -> str:
        """Needs the server."""
        return _no_nats()

    async def set_up(self) -> None:
        """A cluster, a daemon, a reader of the stream."""
        bench = self.bench
        self.cluster = await off_loop(lambda: NatsCluster(bench))
        self.daemon = await bench.start_daemon({"PUBLISH_URL": self.cluster.url(), "NATS_REPLICAS": "3"})
        ways = [(HOST, server.port) for server in self.cluster.servers]
        await bench.consume("nats", ways)
        await bench.call(self.daemon)

    async def leader(self, besides: NatsServer | None = None) -> NatsServer | None:
        """The node that leads the stream, as the others than ``besides`` know."""
        asked = next(server for server in self.cluster.servers if server is not besides)
        told = await off_loop(asked.monitor, "/jsz?accounts=true&streams=true")
        accounts: list[dict[str, Any]] = told.get("account_details", [])
        streams = [stream for account in accounts for stream in account.get("stream_detail", [])]
        name = str(streams[0].get("cluster", {}).get("leader", "")) if streams else ""
        return next((server for server in self.cluster.servers if server.name == name), None)

    async def until_led(self, victim: NatsServer) -> None:
        """Until another node than ``victim`` leads the stream."""
        began = time.monotonic()
        while time.monotonic() - began < 20:
            if await self.leader(victim) not in (None, victim):
                break
            await asyncio.sleep(0.1)
        self.row.note(f"the stream has a leader again {time.monotonic() - began:.1f} s after")

    async def connected(self) -> NatsServer:
        """The node the daemon is connected to: the one that has a client of its process."""
        for server in self.cluster.servers:
            told = await off_loop(server.monitor, "/connz")
            if any("voiceingest" in str(one.get("name", "")) for one in told.get("connections", [])):
                return server
        return self.cluster.servers[0]

    def judge(self, account: Account) -> None:
        """JetStream knows what it has: nothing at all comes twice."""
        super().judge(account)
        self.row.hold(
            "nothing comes twice, in flight or not",
            not account.repeated_in_flight,
            account.repeated_in_flight,
        )


class NodeKilled(OnNats):
    """kill -9 of the node the daemon talks to."""

    name = "nats-node-killed"
    breaks = "the NATS node the daemon is connected to is killed (SIGKILL), one of three"
    right = "the daemon goes on at another, nothing acknowledged is missing, nothing comes twice"

    async def inject(self) -> None:
        """Kill, wait."""
        victim = await self.connected()
        await off_loop(victim.kill)
        self.bench.leave_out(victim.port)
        await self.until_led(victim)
        self.fault.end()
        await self.daemon.until_ready(20)


class LeaderFrozen(OnNats):
    """The leader of the stream stops and comes back."""

    name = "nats-leader-lost"
    breaks = "the node that leads the stream is stopped (SIGSTOP) for 15 s (quick: 6 s), then goes on"
    right = "another leads, nothing acknowledged is missing, nothing comes twice"

    async def inject(self) -> None:
        """Stop, wait, let it go on."""
        victim = await self.leader() or self.cluster.servers[0]
        began = time.monotonic()
        victim.freeze()
        await self.until_led(victim)
        await asyncio.sleep(max(0.0, began + self.bench.scale.pick(15.0, 6.0) - time.monotonic()))
        victim.thaw()
        self.fault.end()
        await self.daemon.until_ready(20)


class LameDuck(OnNats):
    """A node that says goodbye."""

    name = "nats-lame-duck"
    breaks = "the NATS node the daemon is connected to goes into lame duck mode"
    right = "the daemon moves, nothing is lost at all"

    async def inject(self) -> None:
        """Tell it; the node lets go of its clients after a second at the earliest."""
        victim = await self.connected()
        victim.lame_duck()
        self.bench.leave_out(victim.port)
        # It lets go of its clients one by one, over the time it was told to take.
        await asyncio.sleep(self.bench.scale.pick(12.0, 4.0))
        await self.daemon.until_ready(20)


class KilledDaemonOnNats(KilledDaemon):
    """kill -9 of the daemon, with a bus that knows what it has had."""

    name = "daemon-killed-jetstream"
    breaks = "the daemon is killed (SIGKILL) and started again; the bus is JetStream"
    right = "nothing acknowledged is missing from the stream, and nothing is there twice"

    def missing(self) -> str:
        """Needs the server."""
        return _no_nats()

    async def set_up(self) -> None:
        """One node."""
        bench = self.bench
        self.nats = await off_loop(lambda: NatsServer(bench))
        self.daemon = await bench.start_daemon({"PUBLISH_URL": self.nats.url()})
        await bench.consume("nats", ways_of(self.nats))
        await bench.call(self.daemon, resumes=True)

    def judge(self, account: Account) -> None:
        """Also: not even the unacked come twice."""
        super().judge(account)
        self.row.hold(
            "nothing comes twice, in flight or not",
            not account.repeated_in_flight,
            account.repeated_in_flight,
        )
