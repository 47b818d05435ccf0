"""Three JetStream nodes, three copies of each frame, and what happens when one of them goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import nats
import nats.errors
from twisted.internet.defer import Deferred, succeed

from tests.integration.test_nats import STREAM, NatsTestCase, read_stream
from tests.publishers.contract import until
from tests.publishers.fakes import NotingSink
from tests.support.nats_servers import NatsCluster, NatsServer
from voiceingest.aio import as_deferred
from voiceingest.publishers.lane import Lane

LANES_COUNT = 20


async def _stream_leader(url: str) -> str:
    client = await nats.connect(url.split(","))
    try:
        info = await client.jetstream(timeout=5).stream_info(STREAM)
        return str(info.cluster.leader) if info.cluster else ""
    finally:
        await client.close()


async def _step_down(url: str, times: int, pause_s: float) -> None:
    """The stream's leader hands over to another, again and again."""
    client = await nats.connect(url)
    try:
        for _ in range(times):
            await asyncio.sleep(pause_s)
            with contextlib.suppress(nats.errors.TimeoutError, nats.errors.NoRespondersError):
                await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}", timeout=2)
    finally:
        await client.close()


class ClusterTests(NatsTestCase):
    """Real raft: an election takes 4 to 9 seconds."""

    async def start(self, *, apart: bool) -> None:
        """A cluster and a delivery; ``apart``: connected to a node that does not lead the stream."""
        self.cluster = NatsCluster(self)
        self.delivery = self.begin(self.cluster.url(), nats_replicas=3, publish_connect_timeout_s=2.0)
        await until(lambda: self.delivery.ready is None, "readiness")
        self.leader = self.cluster.named(await as_deferred(_stream_leader(self.cluster.url())))
        for _ in range(6):
            if (self.connected is not self.leader) == apart:
                break
            self.bus.drop_connection("timeout")
            await until(lambda: self.delivery.is_up, "the next server")
        self.assertEqual(self.connected is not self.leader, apart)
        self.metrics.bus_disconnects.clear()
        self.settled: Deferred[None] = succeed(None)
        opened = [self.open(self.delivery, f"call-{number}") for number in range(LANES_COUNT)]
        self.lanes: list[Lane] = [lane for lane, _ in opened]
        self.sinks: list[NotingSink] = [sink for _, sink in opened]

    @property
    def connected(self) -> NatsServer:
        link: Any = self.bus._link
        return next(server for server in self.cluster.servers if server.port == link._port)

    async def fault(self, inject: Callable[[], None], before: int, after: int) -> None:
        """Speak, inject, speak on; then every frame is confirmed and is on the stream once, in order."""
        seq = await self.speak(self.lanes, 1, before)
        inject()
        seq = await self.speak(self.lanes, seq, after)
        await until(lambda: all(len(sink.heard) == seq - 1 for sink in self.sinks), "all confirmations")
        await self.settled
        await until(lambda: self.delivery.is_up, "the end of the last election")
        stored = await read_stream(self.connected.url())
        for number, sink in enumerate(self.sinks):
            self.assertEqual(sink.heard, [*range(1, seq)])
            self.assert_once_in_order(stored, f"call-{number}", seq - 1)
        self.assertEqual(len(stored), LANES_COUNT * (seq - 1))

    async def test_the_node_we_are_connected_to_is_killed(self) -> None:
        await self.start(apart=True)
        await self.fault(self.connected.kill, 50, 50)
        # The next one at once: no pause in between, nothing but the loss counted.
        self.assertEqual(self.metrics.bus_disconnects, {"lost": 1})

    async def test_the_leader_of_the_stream_is_killed(self) -> None:
        await self.start(apart=True)
        await self.fault(self.leader.kill, 50, 50)

    async def test_the_leader_is_killed_and_is_the_node_we_are_connected_to(self) -> None:
        await self.start(apart=False)
        await self.fault(self.leader.kill, 50, 50)

    async def test_the_leader_we_are_connected_to_becomes_a_lame_duck(self) -> None:
        await self.start(apart=False)
        await self.fault(self.leader.lame_duck, 50, 150)

    async def test_the_node_we_are_connected_to_becomes_a_lame_duck(self) -> None:
        await self.start(apart=True)
        await self.fault(self.connected.lame_duck, 50, 150)
        self.assertEqual(self.metrics.bus_disconnects, {"ldm": 1})

    async def test_the_leader_hands_over_again_and_again(self) -> None:
        await self.start(apart=True)
        self.settled = as_deferred(_step_down(self.connected.url(), 5, 0.7))
        await self.fault(lambda: None, 1, 200)

    async def test_a_leader_elsewhere_freezes(self) -> None:
        await self.start(apart=True)
        self.addCleanup(self.leader.thaw)
        await self.fault(self.leader.freeze, 50, 100)
