"""The cache without a Redis: what it counts, and that it never raises. With one: tests/integration."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import ConnectionError as RedisGone
from twisted.internet.task import Clock

from tests.support.case import TestCase
from voiceingest.aio import as_deferred
from voiceingest.errors import SettingsError
from voiceingest.metrics import Metrics
from voiceingest.session_interfaces import ISessionCache, Session
from voiceingest.sessions.cache import PAUSE_S, PREFIX, TIMEOUT_S, TTL_S, NoCache, RedisSessionCache
from voiceingest.sessions.encoding import encode_session
from voiceingest.stream import SessionState

SESSION = Session("ses_1", "u", SessionState.ACTIVE, "rest", 0.0, 0.0, 1.0, version=3)


class FakeRedis:
    """Answers what it is told to; ``error`` instead, where there is one."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.hangs = False

    async def _ask(self, *what: Any) -> None:
        self.asked.append(what)
        if self.hangs:
            await asyncio.sleep(3600)
        if self.error is not None:
            raise self.error

    async def get(self, key: str) -> bytes | None:
        await self._ask("get", key)
        return self.kept.get(key)

    async def delete(self, key: str) -> None:
        await self._ask("delete", key)

    async def eval(self, script: str, count: int, *arguments: Any) -> None:
        await self._ask("eval", *arguments)


class CacheTests(TestCase):
    def setUp(self) -> None:
        self.clock, self.metrics, self.redis = Clock(), Metrics(), FakeRedis()
        self.cache = RedisSessionCache("redis://localhost:1", self.metrics, self.clock.seconds)
        self.cache._redis = self.redis

    def counted(self) -> dict[str, int]:
        return dict(self.metrics.session_cache)

    async def test_hits_and_misses(self) -> None:
        self.assertIsNone(await as_deferred(self.cache.get("ses_1")))
        self.redis.kept[PREFIX + "ses_1"] = b"3\n" + encode_session(SESSION).encode()
        self.assertEqual(await as_deferred(self.cache.get("ses_1")), SESSION)
        self.assertEqual(self.counted(), {"miss": 1, "hit": 1})

    async def test_what_cannot_be_read_is_not_there(self) -> None:
        for kept in (b"", b"3\n", b"\xff\n\xff", b"3\n{}", encode_session(SESSION).encode()):
            self.redis.kept[PREFIX + "ses_1"] = kept
            self.assertIsNone(await as_deferred(self.cache.get("ses_1")))
        self.assertEqual(self.counted(), {"foreign": 5})

    async def test_what_is_kept(self) -> None:
        await as_deferred(self.cache.put(SESSION))
        await as_deferred(self.cache.drop("ses_1"))
        self.assertLessEqual(TTL_S, 60)
        kept = ("eval", PREFIX + "ses_1", 3, encode_session(SESSION), int(TTL_S * 1000))
        self.assertEqual(self.redis.asked, [kept, ("delete", PREFIX + "ses_1")])
        self.assertEqual(self.counted(), {})

    async def test_one_that_is_away_is_left_alone_for_a_while(self) -> None:
        for error in (RedisGone("gone"), OSError("no way"), TimeoutError()):
            self.redis.error = error
            self.redis.asked.clear()
            self.metrics.session_cache.clear()
            self.assertIsNone(await as_deferred(self.cache.get("ses_1")))
            await as_deferred(self.cache.put(SESSION))
            await as_deferred(self.cache.drop("ses_1"))
            self.assertEqual(self.counted(), {"error": 1, "skipped": 2})
            self.assertEqual(len(self.redis.asked), 1)
            self.clock.advance(PAUSE_S)
            self.redis.error = None
            self.assertIsNone(await as_deferred(self.cache.get("ses_1")))
            self.assertEqual(self.counted(), {"error": 1, "skipped": 2, "miss": 1})

    async def test_one_that_does_not_answer_is_not_waited_for_long(self) -> None:
        self.redis.hangs = True
        self.assertLess(TIMEOUT_S, 1.0)
        self.assertIsNone(await as_deferred(self.cache.get("ses_1")))
        self.assertEqual(self.counted(), {"error": 1})

    async def test_no_cache(self) -> None:
        cache: ISessionCache = NoCache()
        await as_deferred(cache.put(SESSION))
        await as_deferred(cache.drop("ses_1"))
        self.assertIsNone(await as_deferred(cache.get("ses_1")))
        await as_deferred(cache.stop())

    def test_a_url_that_cannot_be_read_is_not_repeated(self) -> None:
        for url in ("http://secret@host", "redis://:secret@host:port", "redis://host/0?secret=1"):
            with self.assertRaises(SettingsError) as refused:
                RedisSessionCache(url, self.metrics, self.clock.seconds)
            self.assertNotIn("secret", str(refused.exception))
            self.assertIn("session_cache_url", str(refused.exception))
