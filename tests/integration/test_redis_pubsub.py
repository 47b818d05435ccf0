"""Frames over a real Redis to a real subscriber, and everything that can happen to the Redis."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import redis
from pydantic import SecretStr
from twisted.trial.unittest import SkipTest

from tests.publishers.contract import EVENTS, FRAMES, PublisherContract, pause, until
from tests.publishers.fakes import make_settings
from tests.support.case import TestCase
from tests.support.daemon import HOST, ROOT
from tests.support.servers import RedisServer, TlsFiles, tls_supported
from voiceingest.config.settings import Settings
from voiceingest.metrics import Metrics
from voiceingest.publishers import redis_bus
from voiceingest.publishers.redis_pubsub import RedisPubSub
from voiceingest.wire.envelope import encode_event, encode_frame, frame_parts
from voiceingest.wire.resp import encode_command

from .redis_case import FRAME, FRAME_S, SECRET, RedisTestCase, Subscriber


class RedisContractTests(PublisherContract, TestCase):
    def make_settings(self) -> Settings:
        self.server = RedisServer(self)
        return make_settings(redis_url=SecretStr(self.server.url()))

    def make_bus(self, settings: Settings, metrics: Metrics) -> RedisPubSub:
        from twisted.internet import reactor

        return RedisPubSub(settings, reactor, metrics)

    def listen(self, bus: RedisPubSub) -> None:
        self.subscriber = Subscriber(self, self.server)

    def arrived(self) -> list[tuple[str, bytes]]:
        return list(self.subscriber.messages)


class AccessTests(RedisTestCase):
    async def test_a_password(self) -> None:
        server = RedisServer(self, password=SECRET)
        lines = self.logged()
        delivery = self.begin(server.url(password=SECRET))
        await until(lambda: delivery.ready is None, "readiness")
        self.assertNotIn(SECRET, "\n".join(lines))

    async def test_a_user_who_may_only_publish_and_a_database(self) -> None:
        acl = [
            "user default on nopass ~* &* +@all",
            f"user bridge on >{SECRET}@/ &audio:* -@all +publish +select",
        ]
        server = RedisServer(self, acl=acl)
        subscriber = Subscriber(self, server)
        delivery = self.begin(server.url("bridge", f"{SECRET}%40%2F", db=3))
        await until(lambda: delivery.ready is None, "readiness")
        lane, sink = self.open(delivery)
        lane.publish(1, 1, FRAME)
        await until(lambda: subscriber.seqs() == [1] and sink.heard == [1], "arrival")
        with redis.Redis(HOST, server.port) as control:
            clients = {client["user"]: client["db"] for client in control.client_list()}
        self.assertEqual(clients["bridge"], "3")

    async def test_a_unix_socket(self) -> None:
        server = RedisServer(self, password=SECRET)
        delivery = self.begin(f"unix://:{SECRET}@{server.socket_path}?db=1")
        await until(lambda: delivery.ready is None, "readiness")
        lane, sink = self.open(delivery)
        lane.publish(1, 1, FRAME)
        await until(lambda: sink.heard == [1], "confirmation")

    async def test_a_wrong_password_is_said_and_never_shown(self) -> None:
        server = RedisServer(self, password="right")
        for url in (server.url(password=SECRET), server.url("bridge", SECRET), server.url()):
            lines = self.logged()
            delivery = self.begin(url)
            await until(lambda: self.metrics.bus_disconnects["auth"] >= 3, "three attempts")
            self.assertEqual(delivery.ready, "auth")
            self.assertEqual(self.metrics.bus_connects, 0)
            self.assertEqual(self.metrics.bus_disconnects.total(), self.metrics.bus_disconnects["auth"])
            told = [line for line in lines if "bus_down" in line]
            self.assertEqual(len(told), 1, told)
            self.assertNotIn(SECRET, "\n".join(lines))
            await delivery.stop(0)

    async def test_a_database_there_is_not(self) -> None:
        delivery = self.begin(RedisServer(self).url(db=999))
        await until(lambda: delivery.ready == "select", "refusal")

    async def test_a_channel_the_user_may_not_use_is_a_gap_and_the_others_go_on(self) -> None:
        acl = [
            "user default on nopass ~* &* +@all",
            f"user bridge on >{SECRET} resetchannels &{FRAMES}:good &{EVENTS} -@all +publish",
        ]
        server = RedisServer(self, acl=acl)
        subscriber = Subscriber(self, server, (f"{FRAMES}:*",))
        delivery = self.begin(server.url("bridge", SECRET), redis_channel=FRAMES + ":{tenant_id}")
        await until(lambda: delivery.ready is None, "readiness")
        good, heard_good = self.open(delivery, "good")
        bad, heard_bad = self.open(delivery, "bad")
        for seq in range(1, 21):
            good.publish(seq, seq, FRAME)
            bad.publish(seq, seq, FRAME)
            await pause(0.001)
        await until(lambda: not good.pending and not bad.pending, "an answer to everything")
        self.assertEqual(heard_good.heard, [*range(1, 21)])
        # In one report, or in several where the frames took their time.
        self.assertEqual((heard_bad.confirmed_seqs, heard_bad.dropped_seqs), ([], [*range(1, 21)]))
        self.assertEqual({reason for *_, reason in heard_bad.heard}, {"refused"})
        await until(lambda: subscriber.seqs() == [*range(1, 21)], "arrival")
        self.assertEqual({channel for channel, _ in subscriber.messages}, {f"{FRAMES}:good"})
        self.assertEqual(self.metrics.bus_refused["noperm"], 20)
        self.assertIsNone(delivery.ready)


class TroubleTests(RedisTestCase):
    async def test_nobody_listens(self) -> None:
        delivery = self.begin(RedisServer(self).url())
        lane, sink = self.open(delivery)
        lane.publish(1, 1, FRAME)
        await until(lambda: sink.heard == [1], "confirmation")

    async def test_a_redis_that_freezes_for_a_moment_costs_and_repeats_nothing(self) -> None:
        server = RedisServer(self)
        subscriber = Subscriber(self, server)
        delivery = self.begin(server.url(), publish_reply_timeout_s=20.0)
        lane, sink = self.open(delivery)
        seq = await self.speak(lane, 1, 10)
        await until(lambda: not lane.pending, "confirmations")
        server.freeze()
        seq = await self.speak(lane, seq, int(1.5 / FRAME_S))
        self.assertEqual(sink.heard, [*range(1, 11)])
        self.assertIsNone(delivery.ready)
        server.thaw()
        seq = await self.speak(lane, seq, 10)
        await until(lambda: not lane.pending and len(subscriber.seqs()) >= seq - 1, "everything")
        self.assertEqual(sink.heard, [*range(1, seq)])
        self.assertEqual(subscriber.seqs(), [*range(1, seq)])
        self.assertEqual(self.metrics.bus_connects, 1)

    async def test_a_redis_that_freezes_for_too_long_is_left_and_nothing_is_lost(self) -> None:
        server = RedisServer(self)
        subscriber = Subscriber(self, server)
        delivery = self.begin(server.url(), publish_reply_timeout_s=1.0, publish_connect_timeout_s=0.3)
        lane, sink = self.open(delivery)
        seq = await self.speak(lane, 1, 10)
        await until(lambda: not lane.pending, "confirmations")
        server.freeze()
        seq = await self.speak(lane, seq, 20)
        # Cut after a second; a new connection is accepted by the kernel and never answered.
        await until(lambda: self.metrics.bus_disconnects["timeout"] >= 3, "two vain attempts")
        self.assertEqual(delivery.ready, "timeout")
        seq = await self.speak(lane, seq, 10)
        server.thaw()
        await until(lambda: delivery.ready is None, "readiness")
        seq = await self.speak(lane, seq, 10)
        await until(lambda: not lane.pending and subscriber.seqs()[-1:] == [seq - 1], "everything")
        self.assertEqual(sink.heard, [*range(1, seq)])
        arrived = subscriber.seqs()
        self.assertEqual(list(dict.fromkeys(arrived)), [*range(1, seq)])
        repeated = {one for one in arrived if arrived.count(one) > 1}
        self.assertLessEqual(repeated, set(range(11, 31)), "only what was in flight may come twice")

    async def test_an_idle_redis_that_freezes_is_noticed(self) -> None:
        self.patch(redis_bus, "PING_IDLE_S", 0.2)
        server = RedisServer(self)
        delivery = self.begin(server.url(), publish_reply_timeout_s=2.0, publish_connect_timeout_s=0.5)
        await until(lambda: delivery.ready is None, "readiness")
        await pause(1.0)
        self.assertEqual(self.metrics.bus_disconnects.total(), 0)
        server.freeze()
        await until(lambda: delivery.ready == "timeout", "the end of readiness")
        server.thaw()
        await until(lambda: delivery.ready is None, "readiness again")

    async def test_a_redis_that_dies_and_comes_back_empty(self) -> None:
        server = RedisServer(self)
        delivery = self.begin(server.url())
        lane, sink = self.open(delivery)
        seq = await self.speak(lane, 1, 10)
        await until(lambda: not lane.pending, "confirmations")
        server.kill()
        seq = await self.speak(lane, seq, 25)
        await until(lambda: delivery.ready == "refused", "an attempt to come back")
        self.assertEqual(self.metrics.bus_disconnects["lost"], 1)
        server.restart()
        subscriber = Subscriber(self, server)
        seq = await self.speak(lane, seq, 10)
        await until(lambda: not lane.pending and subscriber.seqs()[-1:] == [seq - 1], "everything")
        self.assertEqual(sink.heard, [*range(1, seq)])
        # Whoever subscribes late misses the beginning and nothing else.
        arrived = subscriber.seqs()
        self.assertEqual(arrived, [*range(arrived[0], seq)])
        self.assertEqual(self.metrics.bus_connects, 2)

    async def test_a_redis_that_is_not_there_yet(self) -> None:
        server = RedisServer(self)
        server.kill()
        delivery = self.begin(server.url())
        lane, sink = self.open(delivery)
        lane.publish(1, 1, FRAME)
        await until(lambda: delivery.ready == "refused", "a first attempt")
        server.restart()
        await until(lambda: sink.heard == [1], "confirmation")

    async def test_what_speaks_something_else_is_no_redis(self) -> None:
        listener = socket.create_server((HOST, 0))
        self.addCleanup(listener.close)

        def answer() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer, contextlib.suppress(OSError):
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    peer.recv(1000)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10.0)
        self.addCleanup(listener.shutdown, socket.SHUT_RDWR)
        delivery = self.begin(f"redis://{HOST}:{listener.getsockname()[1]}")
        await until(lambda: delivery.ready == "protocol", "a first attempt")

    async def test_a_subscriber_that_does_not_read_hurts_only_itself(self) -> None:
        server = RedisServer(self, options=["--client-output-buffer-limit", "pubsub 1mb 0 0"])
        lazy = socket.socket()
        self.addCleanup(lazy.close)
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((HOST, server.port))
        lazy.sendall(encode_command(b"SUBSCRIBE", FRAMES.encode()))
        subscriber = Subscriber(self, server)
        delivery = self.begin(server.url(), publish_reply_timeout_s=2.0)
        lane, sink = self.open(delivery)
        audio = bytes(9600)
        for seq in range(1, 601):
            lane.publish(seq, seq, audio)
            if seq % 20 == 0:
                await pause(0.002)
        await until(lambda: not lane.pending and len(subscriber.seqs()) == 600, "everything")
        self.assertEqual(sink.heard, [*range(1, 601)])
        self.assertEqual(self.metrics.bus_connects, 1)
        self.assertEqual(delivery.held_bytes, 0)
        with redis.Redis(HOST, server.port) as control:
            # Redis cuts it: of the subscribers, one is left.
            await until(
                lambda: control.pubsub_numsub(FRAMES)[0][1] + control.pubsub_numpat() == 2, "the cut"
            )
            self.assertEqual(len(subscriber.seqs()), 600)


class TlsTests(RedisTestCase):
    def serve(self, *names: str) -> tuple[RedisServer, TlsFiles]:
        if not tls_supported():
            # The server of the wheel; where CI is true, a skipped test is a failed one.
            raise SkipTest("the server there cannot speak TLS: apt-get install redis-server")
        files = TlsFiles(self.mktemp_path(), *names)
        return RedisServer(self, tls=files, password=SECRET), files

    async def test_a_certificate_that_can_be_verified(self) -> None:
        server, files = self.serve()
        subscriber = Subscriber(self, server, password=SECRET, tls=files)
        delivery = self.begin(server.url(password=SECRET), redis_ca_path=files.ca_path)
        lane, sink = self.open(delivery)
        await self.speak(lane, 1, 20)
        lane.publish(21, 21, bytes(60_000))
        await until(lambda: len(sink.heard) == 21 and len(subscriber.seqs()) == 21, "everything")
        self.assertEqual(subscriber.seqs(), [*range(1, 22)])
        self.assertEqual(subscriber.frames()[0].audio, FRAME)
        server.freeze()
        self.bus.drop_connection("timeout")
        server.thaw()
        lane.publish(22, 22, FRAME)
        await until(lambda: sink.heard[-1] == 22, "a second connection")

    async def test_one_that_cannot_is_refused_before_the_password_is_sent(self) -> None:
        lines = self.logged()
        for names, own_authority in (((), False), (("redis.example",), True)):
            server, files = self.serve(*names)
            ca_path = files.ca_path if own_authority else TlsFiles(self.mktemp_path()).ca_path
            delivery = self.begin(server.url(password=SECRET), redis_ca_path=ca_path)
            await until(lambda: self.metrics.bus_disconnects["tls"] >= 2, "two refusals")
            self.assertEqual(delivery.ready, "tls")
            self.assertEqual(self.metrics.bus_connects, 0)
            await delivery.stop(0)
        server, _ = self.serve()
        delivery = self.begin(server.url(password=SECRET))
        await until(lambda: delivery.ready == "tls", "refusal by the platform's authorities")
        self.assertNotIn(SECRET, "\n".join(lines))

    async def test_tls_to_a_plain_server_and_the_other_way_round(self) -> None:
        plain = RedisServer(self)
        delivery = self.begin(plain.url().replace("redis:", "rediss:"), publish_connect_timeout_s=2.0)
        await until(lambda: self.metrics.bus_disconnects.total() >= 2, "two refusals")
        self.assertIn(delivery.ready, ("tls", "timeout", "lost"))
        self.assertEqual(self.metrics.bus_connects, 0)
        encrypted, _ = self.serve()
        delivery = self.begin(encrypted.url().replace("rediss:", "redis:"), publish_connect_timeout_s=2.0)
        await until(lambda: self.metrics.bus_disconnects.total() >= 2, "two refusals")
        self.assertIn(delivery.ready, ("lost", "protocol"))
        self.assertEqual(self.metrics.bus_connects, 0)


class HowToTests(TestCase):
    """The consumer of docs/how-to/redis.md, as it stands there."""

    async def test_it_drops_repeats_and_begins_anew_with_the_epoch(self) -> None:
        page = (ROOT / "docs" / "how-to" / "redis.md").read_text()
        names: dict[str, Any] = {}
        exec(page.partition("```python\n")[2].partition("```")[0], names)
        server = RedisServer(self)
        heard: list[Any] = []

        def run() -> None:
            with contextlib.suppress(redis.ConnectionError):
                names["consume"](
                    server.url(),
                    lambda stream, seq, pcm: heard.append((stream[1], seq, pcm)),
                    lambda stream, *gap: heard.append((stream[1], *gap)),
                )

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10.0)
        self.addCleanup(server.kill)
        shared = frame_parts("acme", "call-1", 24000, "pcm16")
        with server.control() as control:
            await until(lambda: len(control.pubsub_channels()) == 2, "the subscription")

            def event(name: str, epoch: int, **more: Any) -> None:
                fields = {"epoch": epoch, **more}
                control.publish(EVENTS, encode_event(name, "acme", "call-1", 5, fields))

            def frames(*seqs: int) -> None:
                for seq in seqs:
                    control.publish(FRAMES, encode_frame(shared, seq, 5, b"\0" * seq))

            event("started", 100)
            frames(1, 2, 3)
            # A connection broke: what was in flight comes again.
            event("started", 100)
            frames(1, 2, 3, 4)
            event("resumed", 100, next_seq=5)
            frames(5)
            event("gap", 100, **{"from": 6, "to": 7, "reason": "overflow"})
            event("started", 200)
            frames(1, 2)
            await until(lambda: len(heard) == 8, "eight things")
        told = [one[1] for one in heard]
        self.assertEqual(told, [1, 2, 3, 4, 5, 6, 1, 2])
        self.assertEqual(heard[0], ("call-1", 1, b"\0"))
        self.assertEqual(heard[5], ("call-1", 6, 7, "overflow"))


class ServerTests(TestCase):
    def test_a_server_answers_when_it_is_made_and_is_gone_after(self) -> None:
        server = RedisServer(self)
        with redis.Redis(HOST, server.port) as control:
            self.assertTrue(control.ping())
        server.freeze()
        server.kill()
        server.kill()
        with self.assertRaises(OSError):
            socket.create_connection((HOST, server.port), timeout=1.0)
        server.restart()
        with redis.Redis(HOST, server.port) as control:
            self.assertTrue(control.ping())

    def test_one_that_does_not_come_up_says_why(self) -> None:
        with self.assertRaises(AssertionError) as caught:
            RedisServer(self, options=["--no-such-option", "x"])
        self.assertIn("no-such-option", str(caught.exception))
