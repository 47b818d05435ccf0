"""The cache of sessions and the channel between processes, at a Redis that freezes, dies and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import redis
from twisted.internet.defer import Deferred

from tests.support.case import TestCase
from tests.support.servers import RedisServer
from voiceingest.aio import as_deferred
from voiceingest.metrics import Metrics
from voiceingest.session_interfaces import Session
from voiceingest.sessions import bus as bus_module
from voiceingest.sessions import cache as cache_module
from voiceingest.sessions.bus import CHANNEL, RedisControlBus
from voiceingest.sessions.cache import PREFIX, TTL_S, RedisSessionCache
from voiceingest.stream import SessionState

SESSION = Session("ses_1", "u", SessionState.ACTIVE, "rest", 0.0, 0.0, 1.0, context={"é": [1]}, version=2)

# On a busy machine an answer may take longer than any daemon waits for it.
PATIENCE_S = 20.0


async def until(holds: Callable[[], object]) -> None:
    """Wait until it does; trial ends what never does."""
    while not holds():
        await asyncio.sleep(0.02)


class CacheTests(TestCase):
    def setUp(self) -> None:
        self.patch(cache_module, "TIMEOUT_S", PATIENCE_S)
        self.server = RedisServer(self)
        self.metrics = Metrics()
        self.now = 0.0
        self.cache = self.make()

    def make(self, url: str | None = None) -> RedisSessionCache:
        cache = RedisSessionCache(url or self.server.url(), self.metrics, lambda: self.now)
        self.addCleanup(lambda: as_deferred(cache.stop()))
        return cache

    def get(self, cache: RedisSessionCache | None = None) -> Deferred[Session | None]:
        return as_deferred((cache or self.cache).get("ses_1"))

    def put(self, version: int) -> Deferred[None]:
        return as_deferred(self.cache.put(replace(SESSION, version=version)))

    async def test_one_process_reads_what_another_has_written(self) -> None:
        self.assertIsNone(await self.get())
        await self.put(2)
        self.assertEqual(await self.get(self.make()), SESSION)
        with self.server.control() as control:
            self.assertTrue(0 < control.pttl(PREFIX + "ses_1") <= TTL_S * 1000)
        await as_deferred(self.make().drop("ses_1"))
        self.assertIsNone(await self.get())
        self.assertEqual(dict(self.metrics.session_cache), {"miss": 2, "hit": 1})

    async def test_an_older_one_never_takes_the_place_of_a_newer(self) -> None:
        for version, kept in ((9, 9), (10, 10), (9, 10), (2, 10), (10, 10), (11, 11)):
            await self.put(version)
            found = await self.get()
            assert found is not None
            self.assertEqual(found.version, kept)

    async def test_what_others_have_left_at_the_key_is_replaced(self) -> None:
        with self.server.control() as control:
            for junk in ("", "junk", "x\n{}", "99999"):
                control.set(PREFIX + "ses_1", junk)
                self.assertIsNone(await self.get())
                await self.put(2)
                self.assertEqual(await self.get(), SESSION)
                control.delete(PREFIX + "ses_1")
            control.lpush(PREFIX + "ses_1", "a list")
        self.assertIsNone(await self.get())

    async def test_frozen_it_is_left_alone_and_thawed_it_is_used(self) -> None:
        await self.put(2)
        self.patch(cache_module, "TIMEOUT_S", 0.2)
        self.server.freeze()
        for _ in range(20):
            self.assertIsNone(await self.get())
        # One of them has waited for it, and nobody else.
        self.assertEqual(dict(self.metrics.session_cache), {"error": 1, "skipped": 19})
        self.patch(cache_module, "TIMEOUT_S", PATIENCE_S)
        self.server.thaw()
        self.now += 1.0
        await as_deferred(self.until_hit())

    async def test_killed_and_restarted(self) -> None:
        await self.put(2)
        self.server.kill()
        self.assertIsNone(await self.get())
        self.now += 1.0
        await self.put(3)
        self.assertEqual(self.metrics.session_cache["error"], 2)
        self.server.restart()
        self.now += 1.0
        self.assertIsNone(await self.get())
        await self.put(4)
        await as_deferred(self.until_hit())

    async def until_hit(self) -> None:
        """A connection that was cut may cost one more error."""
        while await self.cache.get("ses_1") is None:
            self.now += 1.0
            await self.cache.put(SESSION)
            await asyncio.sleep(0.02)

    async def test_the_wrong_password(self) -> None:
        server = RedisServer(self, password="right")
        cache = self.make(server.url(password="wrong"))
        self.assertIsNone(await self.get(cache))
        self.assertEqual(self.metrics.session_cache["error"], 1)


class BusTests(TestCase):
    def setUp(self) -> None:
        self.patch(cache_module, "TIMEOUT_S", PATIENCE_S)
        self.patch(bus_module, "TIMEOUT_S", PATIENCE_S)
        self.patch(bus_module, "PING_S", 0.2)
        self.server = RedisServer(self)
        self.heard: list[tuple[str, str]] = []
        self.one, self.other = self.make("one"), self.make("other")

    def make(self, node: str) -> RedisControlBus:
        bus = RedisControlBus(self.server.url(), node, Metrics())
        bus.listen("session_ended", lambda subject: self.heard.append((node, subject)))
        bus.start()
        self.addCleanup(lambda: as_deferred(bus.stop()))
        return bus

    def until(self, holds: Callable[[], object]) -> Deferred[None]:
        return as_deferred(until(holds))

    async def up(self) -> None:
        """Until both hear."""
        await self.until(lambda: self.one.is_listening and self.other.is_listening)

    async def test_the_others_hear_it(self) -> None:
        await self.up()
        self.one.tell("session_ended", "ses_1")
        await self.until(lambda: self.heard)
        self.other.tell("session_ended", "ses_2")
        await self.until(lambda: len(self.heard) == 2)
        self.assertEqual(self.heard, [("other", "ses_1"), ("one", "ses_2")])

    async def test_what_others_say_on_the_channel(self) -> None:
        await self.up()
        with self.server.control() as control:
            control.publish(CHANNEL, b"\xff\x00 nonsense")
        await self.until(lambda: self.one._metrics.control_messages["foreign"])
        self.one.tell("session_ended", "ses_1")
        await self.until(lambda: self.heard)

    async def test_silence_is_no_reason_to_connect_again(self) -> None:
        """It is asked whether it is there, and is."""
        await self.up()
        with self.server.control() as control:
            await self.until(lambda: _pings(control) >= 6)
        self.assertEqual(self.one._metrics.control_messages["error"], 0)
        self.assertTrue(self.one.is_listening)

    async def test_killed_and_restarted(self) -> None:
        await self.up()
        self.server.kill()
        await self.until(lambda: not self.one.is_listening and not self.other.is_listening)
        self.one.tell("session_ended", "ses_1")
        self.server.restart()
        await self.up()
        # What waited may have been said before the other heard again.
        self.one.tell("session_ended", "ses_2")
        await self.until(lambda: ("other", "ses_2") in self.heard)

    async def test_frozen_and_thawed(self) -> None:
        await self.up()
        self.patch(bus_module, "TIMEOUT_S", 0.3)
        self.server.freeze()
        await self.until(lambda: not self.one.is_listening and not self.other.is_listening)
        self.patch(bus_module, "TIMEOUT_S", PATIENCE_S)
        self.server.thaw()
        await self.up()
        self.one.tell("session_ended", "ses_1")
        await self.until(lambda: ("other", "ses_1") in self.heard)

    async def test_it_starts_and_stops_without_a_redis(self) -> None:
        self.server.kill()
        bus = self.make("third")
        await self.until(lambda: bus._metrics.control_messages["error"])
        bus.tell("session_ended", "ses_1")


def _pings(control: redis.Redis) -> int:
    found: Any = control.info("commandstats")
    return int(found.get("cmdstat_ping", {}).get("calls", 0))
