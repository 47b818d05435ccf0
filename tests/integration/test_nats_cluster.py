"""Three JetStream nodes, three copies of each frame, and what happens when one of them goes.

Real raft: an election takes 4 to 9 seconds. Clusters wait for theirs at the same time, side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import nats
import nats.errors
from twisted.internet.defer import Deferred, gatherResults

from tests.integration.test_nats import STREAM, NatsTestCase, read_stream
from tests.publishers.contract import until
from tests.publishers.fakes import NotingSink
from tests.support.nats_servers import NatsCluster, NatsServer
from voiceingest.aio import as_deferred
from voiceingest.publishers.lane import Lane

LANES_COUNT = 10


async def _stream_leader(url: str) -> str:
    client = await nats.connect(url.split(","), connect_timeout=10)
    try:
        info = await client.jetstream(timeout=20).stream_info(STREAM)
        return str(info.cluster.leader) if info.cluster else ""
    finally:
        await client.close()


async def _step_down(url: str, times: int, pause_s: float) -> None:
    """The stream's leader hands over to another, again and again."""
    client = await nats.connect(url, connect_timeout=10)
    try:
        for _ in range(times):
            await asyncio.sleep(pause_s)
            with contextlib.suppress(nats.errors.TimeoutError, nats.errors.NoRespondersError):
                await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}", timeout=2)
    finally:
        await client.close()


class Run:
    """One cluster, a delivery to it and some streams; several run side by side."""

    def __init__(self, test: ClusterTests) -> None:
        self.test = test
        self.cluster = NatsCluster(test, wait=False)

    async def start(self, *, apart: bool) -> None:
        """Be up; ``apart``: connected to a node that does not lead the stream."""
        test = self.test
        # A busy machine must not look like a server that is lost.
        self.delivery = test.begin(self.cluster.url(), nats_replicas=3, publish_connect_timeout_s=6.0)
        self.bus, self.metrics = test.bus, test.metrics
        await until(lambda: self.delivery.ready is None, "readiness")
        self.leader = self.cluster.named(await as_deferred(_stream_leader(self.cluster.url())))
        for _ in range(6):
            if (self.connected is not self.leader) == apart:
                break
            self.bus.drop_connection("timeout")
            await until(lambda: self.delivery.is_up, "the next server")
        test.assertEqual(self.connected is not self.leader, apart)
        self.metrics.bus_disconnects.clear()
        opened = [test.open(self.delivery, f"call-{number}") for number in range(LANES_COUNT)]
        self.lanes: list[Lane] = [lane for lane, _ in opened]
        self.sinks: list[NotingSink] = [sink for _, sink in opened]
        self.next_seq = 1

    @property
    def connected(self) -> NatsServer:
        link: Any = self.bus._link
        return next(server for server in self.cluster.servers if server.port == link._port)

    async def fault(self, inject: Callable[[], Any], before: int, after: int) -> None:
        """Speak, inject, speak on; then every frame is confirmed and is on the stream once, in order."""
        test, sinks = self.test, self.sinks
        seq = await test.speak(self.lanes, self.next_seq, before)
        injected = inject()
        self.next_seq = seq = await test.speak(self.lanes, seq, after)
        if injected is not None:
            await injected
        await until(lambda: all(len(sink.heard) == seq - 1 for sink in sinks), "all confirmations")
        await until(lambda: self.delivery.is_up, "the end of the last election")
        stored = await read_stream(self.connected.url())
        for number, sink in enumerate(sinks):
            test.assertEqual(sink.heard, [*range(1, seq)])
            test.assert_once_in_order(stored, f"call-{number}", seq - 1)
        test.assertEqual(len(stored), LANES_COUNT * (seq - 1))


class ClusterTests(NatsTestCase):
    async def side_by_side(self, *scenes: Callable[[Run], Coroutine[Any, Any, None]]) -> None:
        """A cluster for each, all at once."""
        runs = [Run(self) for _ in scenes]
        for run in runs:
            run.cluster.wait_until_led()
        pairs = zip(scenes, runs, strict=True)
        await gatherResults([Deferred.fromCoroutine(scene(run)) for scene, run in pairs], consumeErrors=True)

    async def test_the_leader_of_the_stream_is_lost(self) -> None:
        await self.side_by_side(self.killed, self.killed_and_connected, self.frozen)

    async def killed(self, run: Run) -> None:
        """It is another node than the one we are connected to."""
        await run.start(apart=True)
        await run.fault(run.leader.kill, 30, 50)

    async def killed_and_connected(self, run: Run) -> None:
        """It is the node we are connected to: one loss, and what stands waits for the election."""
        await run.start(apart=False)
        await run.fault(run.leader.kill, 30, 50)

    async def frozen(self, run: Run) -> None:
        """It is another node, which takes connections and says nothing."""
        await run.start(apart=True)
        self.addCleanup(run.leader.thaw)
        await run.fault(run.leader.freeze, 30, 50)

    async def test_a_node_goes_and_the_stream_has_a_leader(self) -> None:
        await self.side_by_side(self.handed_over_then_killed, self.lame_leader, self.lame_other)

    async def handed_over_then_killed(self, run: Run) -> None:
        """The leader hands over again and again; then the node we are connected to is killed."""
        await run.start(apart=True)
        await run.fault(lambda: as_deferred(_step_down(run.connected.url(), 4, 0.5)), 1, 120)
        leader = run.cluster.named(await as_deferred(_stream_leader(run.cluster.url())))
        if run.connected is leader:
            run.bus.drop_connection("timeout")
            await until(lambda: run.delivery.is_up, "the next server")
        run.metrics.bus_disconnects.clear()
        await run.fault(run.connected.kill, 30, 50)
        # The next one at once: no pause in between, nothing but the loss counted.
        self.assertEqual(run.metrics.bus_disconnects, {"lost": 1})

    async def lame_leader(self, run: Run) -> None:
        """The leader we are connected to becomes a lame duck."""
        await run.start(apart=False)
        await run.fault(run.leader.lame_duck, 30, 100)

    async def lame_other(self, run: Run) -> None:
        """The node we are connected to becomes a lame duck and leads nothing."""
        await run.start(apart=True)
        await run.fault(run.connected.lame_duck, 30, 100)
        self.assertEqual(run.metrics.bus_disconnects, {"ldm": 1})
