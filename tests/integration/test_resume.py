"""Clients that come back, connections that take over, a daemon that is killed: real sockets, a real Redis."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.support.daemon import Daemon
from voiceingest.aio import as_future

from .callers import Caller, audio_of
from .case import IngestCase, asynchronous
from .consumer import Consumer


class ResumingCaller:
    """A client as the how-to has it: it keeps frames until they are acked, and goes on from next_seq."""

    def __init__(self, case: IngestCase, daemon: Daemon, interaction_id: str) -> None:
        self.case, self.daemon, self.interaction_id = case, daemon, interaction_id
        self.token: str | None = None
        self.kept: dict[int, bytes] = {}
        self.sent = self.acked = self.resumes = 0
        self.caller: Caller

    async def connect(self) -> dict[str, Any]:
        """Start, or go on; what was not taken is sent again."""
        self.caller = await self.case.call(self.daemon)
        wish = {"resume_token": self.token, "acked": self.acked} if self.token else {}
        started = await self.caller.start(self.interaction_id, **wish)
        self.resumes += started["resumed"]
        self.token = started["resume_token"]
        for seq in range(started["next_seq"], self.sent + 1):
            self.caller.audio(self.kept[seq])
        return started

    def send(self, audio: bytes) -> None:
        """Send the next frame, and keep it."""
        self.sent += 1
        self.kept[self.sent] = audio
        if not self.caller.lost:
            self.caller.audio(audio)

    def note_acks(self) -> None:
        """Forget what is on the bus."""
        acks = [message["seq"] for message in self.caller.events("ack")]
        self.acked = max([self.acked, *acks])
        self.kept = {seq: audio for seq, audio in self.kept.items() if seq > self.acked}


class ResumeTests(IngestCase):
    """A connection that is lost costs nothing."""

    @asynchronous
    async def test_connections_that_are_cut_at_random(self) -> None:
        """Published + declared = sent, once each, in order."""
        chance = random.Random(7)
        daemon = await self.start_daemon()
        consumer = await self.consume()
        clients = [ResumingCaller(self, daemon, f"cut-{number}") for number in range(6)]
        for client in clients:
            await client.connect()
        for number in range(150):
            for client in clients:
                client.send(audio_of(number))
                if chance.random() < 0.02:
                    client.caller.transport.abort()
                    client.note_acks()
                    await client.connect()
            await asyncio.sleep(0.01)
        for client in clients:
            stopped = await client.caller.stop()
            self.assertEqual((stopped["seq"], stopped["published"]), (150, 150))
            await consumer.event(client.interaction_id, "stopped")
            self.assert_published(consumer, client.interaction_id, [audio_of(seq) for seq in range(150)])
            epochs = {event["epoch"] for event in consumer.events(client.interaction_id)}
            self.assertEqual(len(epochs), 1)
        self.assertGreater(sum(client.resumes for client in clients), 5)

    @asynchronous
    async def test_an_old_connection_that_still_stands_is_fenced(self) -> None:
        daemon = await self.start_daemon()
        consumer = await self.consume()
        old = await self.call(daemon)
        started = await old.start("fence-1")
        old.audio(audio_of(0))
        new = await self.call(daemon)
        again = await new.start("fence-1", resume_token=started["resume_token"])
        self.assertEqual((again["resumed"], again["next_seq"]), (True, 2))
        self.assertEqual(await old.closed(), 4409)
        new.audio(audio_of(1))
        self.assertEqual((await new.stop())["published"], 2)
        await consumer.event("fence-1", "stopped")
        self.assert_published(consumer, "fence-1", [audio_of(0), audio_of(1)])
        events = [event["event"] for event in consumer.events("fence-1")]
        self.assertEqual(events, ["started", "resumed", "stopped"])

    @asynchronous
    async def test_a_daemon_that_was_killed(self) -> None:
        """With the secret of the one before it, the next one goes on from the client's last ack."""
        settings = {"RESUME_SECRET": "k" * 32, "ACK_INTERVAL": "1"}
        first = await self.start_daemon(**settings)
        consumer = await self.consume()
        client = ResumingCaller(self, first, "killed-1")
        await client.connect()
        for number in range(20):
            client.send(audio_of(number))
        await client.caller.until(lambda: client.caller.events("ack")[-1:], "an ack")
        first.signal("KILL")
        await as_future(first.wait_for_exit())
        client.note_acks()
        client.daemon = await self.second_daemon(settings)
        started = await client.connect()
        self.assertEqual((started["resumed"], started["next_seq"]), (True, client.acked + 1))
        for number in range(20, 25):
            client.send(audio_of(number))
        self.assertEqual((await client.caller.stop())["seq"], 25)
        await consumer.event("killed-1", "stopped")
        # What was sent and not acked may be there twice, under the same epoch and seq, and the same audio.
        found = dict(consumer.frames("killed-1"))
        self.assertEqual([*found], [*range(1, 26)])
        self.assertTrue(all(found[seq] == audio_of(seq - 1) for seq in found))
        self.assertEqual(len({event["epoch"] for event in consumer.events("killed-1")}), 1)

    async def second_daemon(self, settings: dict[str, str]) -> Daemon:
        base = {"JWT_PUBLIC_KEY": self.issuer.public_pem, "REDIS_URL": self.redis.url()}
        daemon = Daemon(self, {**base, **settings})
        await as_future(daemon.start())
        return daemon

    @asynchronous
    async def test_without_the_secret_it_is_told_plainly(self) -> None:
        first = await self.start_daemon()
        client = ResumingCaller(self, first, "plain-1")
        await client.connect()
        client.send(audio_of(0))
        first.signal("KILL")
        await as_future(first.wait_for_exit())
        second = await self.second_daemon({})
        caller = await self.call(second)
        caller.say("start", interaction_id="plain-1", tenant_id="t1", resume_token=client.token)
        self.assertEqual(await caller.error(), "resume_refused")
        self.assertEqual((await caller.start("plain-1"))["resumed"], False)
        self.assertEqual((await caller.stop())["seq"], 0)


class TakeOverTests(IngestCase):
    @asynchronous
    async def test_the_newer_wins_and_the_old_is_on_the_bus_before_it(self) -> None:
        daemon = await self.start_daemon()
        consumer = await self.consume()
        old = await self.call(daemon)
        epoch = (await old.start("over-1"))["epoch"]
        self.redis.freeze()
        for number in range(5):
            old.audio(audio_of(number))
        new = await self.call(daemon)
        self.assertGreater((await new.start("over-1"))["epoch"], epoch)
        new.audio(audio_of(50))
        self.assertEqual(await old.closed(), 4409)
        self.assertEqual(old.events("error")[-1]["code"], "replaced")
        await asyncio.sleep(0.1)
        self.redis.thaw()
        self.assertEqual((await new.stop())["published"], 1)
        await consumer.until(lambda: len(self.lasts(consumer)) == 2, "both ends")
        self.assertEqual([seq for seq, _ in consumer.frames("over-1")], [1, 2, 3, 4, 5, 1])
        story = [(event["event"], event["epoch"] == epoch) for event in consumer.events("over-1")]
        self.assertEqual(
            story,
            [
                *(("started", True), ("error", True), ("stopped", True)),
                *(("started", False), ("stopped", False)),
            ],
        )
        self.assertEqual([last["reason"] for last in self.lasts(consumer)], ["replaced", "stopped"])

    def lasts(self, consumer: Consumer) -> list[dict[str, Any]]:
        return [event for event in consumer.events("over-1") if event["event"] == "stopped"]

    @asynchronous
    async def test_another_tenant_gets_nothing(self) -> None:
        daemon = await self.start_daemon()
        consumer = await self.consume()
        owner = await self.call(daemon)
        token = (await owner.start("mine-1"))["resume_token"]
        for tenant_id in ("t1", "t2"):
            thief = await self.call(daemon, self.issuer.token(tenant_id="t2"))
            thief.say("start", interaction_id="mine-1", tenant_id=tenant_id, resume_token=token)
            thief.audio(audio_of(66))
            self.assertEqual(await thief.closed(), 4403)
        owner.audio(audio_of(0))
        self.assertEqual((await owner.stop())["published"], 1)
        await consumer.event("mine-1", "stopped")
        self.assert_published(consumer, "mine-1", [audio_of(0)])
        self.assertEqual({message["tenant_id"] for _, message in consumer.messages}, {"t1"})
