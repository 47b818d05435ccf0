"""Three real sentinels and the Redis they watch: killed, frozen, handed over, and who may look."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import SecretStr
from twisted.trial.unittest import SkipTest

from tests.publishers.contract import EVENTS, FRAMES, PublisherContract, pause, until
from tests.publishers.fakes import NotingSink, make_settings
from tests.support.case import TestCase
from tests.support.sentinels import Sentinels
from tests.support.servers import RedisServer, TlsFiles, tls_supported
from voiceingest.config.settings import Settings
from voiceingest.metrics import Metrics
from voiceingest.publishers.delivery import Delivery
from voiceingest.publishers.lane import Lane
from voiceingest.publishers.redis_pubsub import RedisPubSub
from voiceingest.publishers.redis_streams import RedisStreams

from .redis_case import FRAME, SECRET, RedisTestCase, Subscriber, read_stream

LANES = 4
# From the moment the sentinels name the new primary until frames get through there; how long they take to
# name it (three seconds, or fifteen when their votes were split) is their affair.
FAILOVER_MAX_S = 12.0
FAILOVER_LIMIT_S = 60.0


class CountingStreams(RedisStreams):
    """Notes which messages were in flight whenever a connection ended, as ``(interaction, seq)``."""

    def start(self, listener: Any) -> None:
        self.flying: deque[tuple[Any, int]] = deque()
        self.cut_off: set[tuple[Any, int]] = set()
        self._told = listener
        super().start(self)  # type: ignore[arg-type]

    def prepare(self, facts: Any) -> Any:
        return facts.interaction_id, super().prepare(facts)

    def encode(self, batch: Sequence[tuple[Any, int, int, bytes]]) -> bytes:
        self.flying += [(prepared[0], seq) for prepared, seq, _, _ in batch]
        return super().encode([(prepared[1], *rest) for prepared, *rest in batch])  # type: ignore[misc]

    def bus_up(self) -> None:
        self._told.bus_up()

    def bus_writable(self) -> None:
        self._told.bus_writable()

    def bus_confirmed(self, count: int) -> None:
        for _ in range(count):
            self.flying.popleft()
        self._told.bus_confirmed(count)

    def bus_refused(self, reason: str) -> None:
        self.flying.popleft()
        self._told.bus_refused(reason)

    def bus_down(self, reason: str) -> None:
        self.cut_off.update(self.flying)
        self.flying.clear()
        self._told.bus_down(reason)


def in_step(told: dict[str, Any], replicas: int) -> bool:
    """Whether every replica has all that the primary has; ``told`` is its ``INFO replication``."""
    offsets = [told[f"slave{n}"]["offset"] for n in range(told["connected_slaves"])]
    return offsets == [told["master_repl_offset"]] * replicas


class SentinelTestCase(RedisTestCase):
    """A primary, its replicas, three sentinels, and a delivery with a few lanes."""

    def serve(self, replicas: int = 2, **servers: Any) -> None:
        self.primary = RedisServer(self, **servers)
        self.replicas = [RedisServer(self, replica_of=self.primary, **servers) for _ in range(replicas)]
        self.sentinels = Sentinels(
            self, self.primary, self.replicas, password=servers.get("password", ""), tls=servers.get("tls")
        )

    def open_lanes(self, delivery: Delivery) -> list[tuple[str, Lane, NotingSink]]:
        names = [f"call-{number}" for number in range(LANES)]
        return [(name, *self.open(delivery, interaction_id=name)) for name in names]

    async def speak_until(
        self, lanes: list[tuple[str, Lane, NotingSink]], seq: int, there: Callable[[], object], limit_s: float
    ) -> int:
        """Hand over a frame on each lane every 20 ms until ``there()``; answers the next seq."""
        deadline = time.monotonic() + limit_s
        while not there():
            self.assertLess(time.monotonic(), deadline, "it took too long")
            for _, lane, _ in lanes:
                lane.publish(seq, seq, FRAME)
            seq += 1
            await pause(0.02)
        return seq

    async def survive(
        self, lanes: list[tuple[str, Lane, NotingSink]], harm: Callable[[], object]
    ) -> tuple[int, float]:
        """Speak, do ``harm``, speak until frames get through again and all are confirmed.

        Answers the next seq and how long nothing got through to the primary that was named then.
        """
        sinks = [sink for _, _, sink in lanes]
        limit_s = FAILOVER_LIMIT_S
        seq = await self.speak_until(lanes, 1, lambda: all(len(sink.heard) > 30 for sink in sinks), limit_s)
        harm()
        old = self.primary.port
        before = max(len(sink.heard) for sink in sinks)
        seq = await self.speak_until(lanes, seq, lambda: self.sentinels.primary_port() != old, limit_s)
        named_at = time.monotonic()
        seq = await self.speak_until(
            lanes, seq, lambda: min(len(sink.heard) for sink in sinks) > before + 60, limit_s
        )
        took_s = time.monotonic() - named_at
        await until(lambda: not any(lane.pending for _, lane, _ in lanes), "confirmation of everything")
        for sink in sinks:
            self.assertEqual(sink.heard, [*range(1, seq)])
        return seq, took_s


class StreamsFailoverTests(SentinelTestCase):
    kind = CountingStreams

    def begin_streams(self, **settings: Any) -> Delivery:
        quick = {"redis_wait_replicas": 1, "publish_reply_timeout_s": 3.0, "publish_connect_timeout_s": 1.0}
        return self.begin(self.sentinels.url("redis-streams"), **{**quick, **settings})

    def assert_kept(self, lanes: list[tuple[str, Lane, NotingSink]], next_seq: int) -> None:
        """Everything confirmed is on the stream of the new primary; only what was in flight twice."""
        new = self.sentinels.primary()
        self.assertNotEqual(new.port, self.primary.port)
        frames = read_stream(new)
        for name, _, _ in lanes:
            seqs = [frame.seq for frame in frames if frame.interaction_id == name]
            # Order: what a consumer keeps that drops what it has had.
            self.assertEqual(list(dict.fromkeys(seqs)), [*range(1, next_seq)])
            repeated = {(name, seq) for seq in set(seqs) if seqs.count(seq) > 1}
            self.assertLessEqual(repeated, self.bus.cut_off)

    async def test_a_primary_that_is_killed(self) -> None:
        self.serve()
        lanes = self.open_lanes(self.begin_streams())
        seq, took_s = await self.survive(lanes, self.primary.kill)
        self.assert_kept(lanes, seq)
        self.assertLess(took_s, FAILOVER_MAX_S)

    async def test_a_primary_that_freezes_is_left_for_the_new_one(self) -> None:
        self.serve()
        # Nothing but the sentinels could tell so soon.
        lanes = self.open_lanes(self.begin_streams(publish_reply_timeout_s=60.0))
        seq, took_s = await self.survive(lanes, self.primary.freeze)
        self.assertEqual(self.metrics.bus_disconnects["switched"], 1)
        self.assert_kept(lanes, seq)
        self.assertLess(took_s, FAILOVER_MAX_S)
        self.primary.thaw()

    async def test_a_primary_that_hands_over_with_its_writes_paused(self) -> None:
        # Without the pause the replica that is not promoted goes on confirming for a second.
        self.serve()
        lanes = self.open_lanes(self.begin_streams(publish_reply_timeout_s=10.0))

        def hand_over() -> None:
            # What the page says: pause, see that the replicas have it all, hand over. A sentinel may promote
            # one that has not.
            with self.primary.control() as control:
                control.execute_command("CLIENT", "PAUSE", 30_000, "WRITE")
                deadline = time.monotonic() + FAILOVER_LIMIT_S
                while not in_step(control.info("replication"), len(self.replicas)):
                    self.assertLess(time.monotonic(), deadline, "the replicas are behind")
            self.sentinels.failover()

        seq, took_s = await self.survive(lanes, hand_over)
        self.assert_kept(lanes, seq)
        self.assertLess(took_s, FAILOVER_MAX_S)

    async def test_a_primary_that_hands_over_with_all_replicas_counted(self) -> None:
        # Where all replicas count nothing is lost even here, where the old primary lives on for a while:
        # it has no replica any more. Nothing gets through either until it has become one itself.
        self.serve(replicas=1)
        lanes = self.open_lanes(self.begin_streams())
        seq, _ = await self.survive(lanes, self.sentinels.failover)
        self.assert_kept(lanes, seq)


class PubSubFailoverTests(SentinelTestCase):
    kind = RedisPubSub

    async def follow(self, harm: str) -> Delivery:
        self.serve()
        delivery = self.begin(self.sentinels.url(), publish_reply_timeout_s=60.0)
        lanes = self.open_lanes(delivery)
        call = self.sentinels.failover if harm == "failover" else getattr(self.primary, harm)
        seq, took_s = await self.survive(lanes, call)
        self.assertLess(took_s, FAILOVER_MAX_S)
        # Those who listen at the new primary hear all that comes, in order.
        subscriber = Subscriber(self, self.sentinels.primary())
        first = seq
        seq = await self.speak_until(
            lanes, seq, lambda: len(subscriber.seqs()) >= 20 * LANES, FAILOVER_LIMIT_S
        )
        await until(lambda: len(subscriber.seqs()) == (seq - first) * LANES, "arrival of the rest")
        for name, _, _ in lanes:
            heard = [frame.seq for frame in subscriber.frames() if frame.interaction_id == name]
            self.assertEqual(heard, [*range(first, seq)])
        return delivery

    async def test_a_primary_that_is_killed(self) -> None:
        await self.follow("kill")

    async def test_a_primary_that_freezes(self) -> None:
        await self.follow("freeze")
        self.assertEqual(self.metrics.bus_disconnects["switched"], 1)

    async def test_a_primary_that_hands_over(self) -> None:
        await self.follow("failover")

    async def test_sentinels_may_come_and_go_while_the_primary_is_there(self) -> None:
        self.serve(replicas=1)
        lines = self.logged()
        delivery = self.begin(self.sentinels.url())
        lane, sink = self.open(delivery)
        await until(lambda: delivery.ready is None, "readiness")
        for sentinel in self.sentinels.servers:
            sentinel.kill()
        await until(lambda: any("sentinels_lost" in line for line in lines), "the notice")
        seq = await self.speak(lane, 1, 100)
        self.assertEqual(self.metrics.bus_connects, 1)
        self.assertEqual(len([line for line in lines if "sentinels_lost" in line]), 1)
        # Without them nobody is believed: the connection that is lost now stays lost.
        self.bus.drop_connection("timeout")
        seq = await self.speak(lane, seq, 20)
        await until(lambda: delivery.ready == "sentinel_refused", "an attempt to come back")
        self.sentinels.servers[1].restart()
        seq = await self.speak(lane, seq, 10)
        await until(lambda: not lane.pending, "confirmation of everything")
        self.assertEqual(sink.heard, [*range(1, seq)])

    async def test_a_replica_that_is_named_is_not_published_to(self) -> None:
        primary = RedisServer(self)
        replica = RedisServer(self, replica_of=primary)
        wrong = Sentinels(self, replica, [], down_after_ms=60_000)
        delivery = self.begin(wrong.url())
        # The sentinels find out too, and then name the one it follows.
        await until(lambda: self.metrics.bus_disconnects["replica"] >= 1, "refusal")
        self.assertEqual(self.metrics.bus_connects, 0)
        self.assertEqual(delivery.ready, "replica")

    async def test_a_service_nobody_knows(self) -> None:
        self.serve(replicas=0)
        delivery = self.begin(self.sentinels.url().replace(Sentinels.SERVICE, "nobody"))
        await until(lambda: delivery.ready == "sentinel_service", "refusal")


class SentinelContractTests(PublisherContract, TestCase):
    def make_settings(self) -> Settings:
        self.server = RedisServer(self)
        sentinels = Sentinels(self, self.server, [])
        return make_settings(publish_url=SecretStr(sentinels.url()))

    def make_bus(self, settings: Settings, metrics: Metrics) -> RedisPubSub:
        from twisted.internet import reactor

        return RedisPubSub(settings, reactor, metrics)

    def listen(self, bus: RedisPubSub) -> None:
        self.subscriber = Subscriber(self, self.server)

    def arrived(self) -> list[tuple[str, bytes]]:
        return list(self.subscriber.messages)


class AccessTests(SentinelTestCase):
    kind = RedisStreams

    async def test_passwords_of_their_own_and_of_the_servers(self) -> None:
        lines = self.logged()
        primary = RedisServer(self, password=SECRET)
        own = f"own-{SECRET}"
        sentinels = Sentinels(self, primary, [], password=SECRET, own_password=own)
        right = {"redis_sentinel_password": SecretStr(own)}
        url = sentinels.url("redis-streams", login=f":{SECRET}", db=1)
        for settings, login, reason in (
            ({}, url, "sentinel_auth"),
            ({"redis_sentinel_password": SecretStr(f"not-{SECRET}")}, url, "sentinel_auth"),
            (right, url.replace(SECRET, f"not-{SECRET}"), "auth"),
            (right, sentinels.url("redis-streams"), "auth"),
        ):
            delivery = self.begin(login, **settings)
            await until(lambda reason=reason: self.metrics.bus_disconnects[reason] >= 2, reason)
            self.assertEqual(delivery.ready, reason)
            await delivery.stop(0)
        delivery = self.begin(url, **right)
        lane, sink = self.open(delivery)
        lane.publish(1, 1, FRAME)
        await until(lambda: sink.heard == [1], "confirmation")
        with primary.control() as control:
            control.select(1)
            self.assertEqual(control.xlen(FRAMES), 1)
        self.assertNotIn(SECRET, "\n".join(lines))

    async def test_users_with_least_privilege(self) -> None:
        users = [
            "user default on nopass ~* &* +@all",
            f"user bridge on >{SECRET} resetkeys ~{FRAMES} ~{EVENTS} -@all +xadd +wait +role",
        ]
        primary = RedisServer(self, acl=users)
        replica = RedisServer(self, replica_of=primary)
        sentinels = Sentinels(self, primary, [replica])
        for server in sentinels.servers:
            with server.control() as control:
                rules = ["+sentinel|get-master-addr-by-name", "+sentinel|master"]
                control.execute_command("ACL", "SETUSER", "watch", "reset", "on", f">own-{SECRET}", *rules)
        delivery = self.begin(
            sentinels.url("redis-streams", login=f"bridge:{SECRET}"),
            redis_sentinel_username="watch",
            redis_sentinel_password=SecretStr(f"own-{SECRET}"),
            redis_wait_replicas=1,
        )
        lane, sink = self.open(delivery)
        lane.publish(1, 1, FRAME)
        await until(lambda: sink.heard == [1], "confirmation")
        self.assertEqual(self.metrics.bus_disconnects.total(), 0)

    async def test_tls_to_both_and_a_certificate_of_each(self) -> None:
        if not tls_supported():
            raise SkipTest("the server there cannot speak TLS: apt-get install redis-server")
        lines = self.logged()
        files, foreign = TlsFiles(self.mktemp_path()), TlsFiles(self.mktemp_path(), "redis.example")
        # One authority, and a certificate for another name.
        self.serve(replicas=1, tls=files, password=SECRET)
        url = self.sentinels.url("redis-streams", login=f":{SECRET}")
        delivery = self.begin(url, redis_ca_path=foreign.ca_path)
        await until(lambda: self.metrics.bus_disconnects["sentinel_tls"] >= 2, "refusals")
        await delivery.stop(0)
        delivery = self.begin(url, redis_ca_path=files.ca_path, redis_wait_replicas=1)
        lane, sink = self.open(delivery)
        lane.publish(1, 1, FRAME)
        await until(lambda: sink.heard == [1], "confirmation")
        await delivery.stop(0)
        other = RedisServer(self, tls=foreign, password=SECRET)
        mixed = Sentinels(self, other, [], password=SECRET, tls=files)
        both = self.mktemp_path()
        both.write_bytes(files.ca_path.read_bytes() + foreign.ca_path.read_bytes())
        delivery = self.begin(mixed.url("redis", login=f":{SECRET}"), redis_ca_path=both)
        await until(lambda: self.metrics.bus_disconnects["tls"] >= 2, "refusals of the redis")
        self.assertNotIn(SECRET, "\n".join(lines))
