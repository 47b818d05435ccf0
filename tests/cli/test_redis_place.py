from __future__ import annotations

from typing import Any

import redis as client_library
from twisted.internet.defer import ensureDeferred

from tests.support.daemon import HOST, free_port
from tests.support.sentinels import Sentinels
from tests.support.servers import RedisServer
from voiceingest.cli import reading
from voiceingest.cli.failures import ConnectionFailed
from voiceingest.cli.redis_place import RedisPlace
from voiceingest.cli.running import Interrupt
from voiceingest.cli.subscriber import Subscriber
from voiceingest.cli.target import Trust
from voiceingest.publishers.redis_url import parse_redis_url

from .program import ProgramCase, coroutine


class SentinelTests(ProgramCase):
    @coroutine
    async def test_the_subscriber_follows_the_primary(self: Any) -> None:
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        self.patch(reading, "RETRY_FIRST_S", 0.1)
        first = RedisServer(self)
        sentinels = Sentinels(self, first, [RedisServer(self, replica_of=first)])
        heard: list[bytes] = []
        subscriber = Subscriber(
            reactor,
            parse_redis_url(sentinels.url()),
            [("frames", False)],
            lambda channel, payload: heard.append(payload),
            Trust(),
            lambda text: None,
        )
        self.addCleanup(subscriber.stop)
        following = ensureDeferred(subscriber.follow(Interrupt()))
        await subscriber.ready
        before = sentinels.primary_port()
        self.publish(before, b"one")
        sentinels.failover()
        for _ in range(600):
            port = sentinels.primary_port()
            if port != before and self.publish(port, b"two"):
                break
            await deferLater(reactor, 0.05)
        for _ in range(600):
            if b"two" in heard:
                break
            await deferLater(reactor, 0.05)
        subscriber.stop()
        await following
        self.assertEqual((heard[0], heard[-1]), (b"one", b"two"))
        self.assertGreaterEqual(subscriber.reconnects, 1)

    def publish(self, port: int, payload: bytes) -> int:
        with client_library.Redis(port=port, socket_timeout=5) as client:
            return int(client.publish("frames", payload))

    @coroutine
    async def test_sentinels_that_do_not_answer(self: Any) -> None:
        from twisted.internet import reactor

        url = parse_redis_url(f"redis+sentinel://user:canary@{HOST}:{free_port()}/voice")
        place = RedisPlace(reactor, url, Trust(), lambda: None)
        try:
            await place.endpoint()
        except ConnectionFailed as failed:
            self.assertIn("do not say where voice is", failed.message)
            self.assertNotIn("canary", failed.message + place.label)
        else:
            self.fail("it was found")
        finally:
            await place.close()
            await place.close()
