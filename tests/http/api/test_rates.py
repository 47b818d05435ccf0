"""Limits a minute: here, in a real Redis, and here again when that is away."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest

from tests.http.live import in_loop
from tests.support.case import TestCase
from tests.support.daemon import free_port
from tests.support.servers import RedisServer, TlsFiles, tls_supported
from voiceingest.errors import TooManyRequests
from voiceingest.http.api.app import methods_of, public_app
from voiceingest.http.api.rates import RATES, REDIS_PAUSE_S, RateLimits, network_of
from voiceingest.metrics import Metrics

ROUTE = ("POST", "/api/session/create")
NOW = 1_764_360_900.0


class RateTests(TestCase):
    def setUp(self) -> None:
        self.clock, self.metrics = Clock(), Metrics()

    def limits(self, factor: float = 0.02, **options: Any) -> RateLimits:
        return RateLimits(factor, self.metrics, self.clock.seconds, lambda: NOW, **options)

    def test_the_table_is_of_routes_and_within_what_is_promised(self) -> None:
        there = {
            f"{method} {path}" for path, methods in methods_of(public_app()).items() for method in methods
        }
        self.assertEqual(set(RATES) - there, set())
        self.assertEqual({route for route in there if "/api/" in route} - set(RATES), set())
        for rate in RATES.values():
            self.assertTrue(100 <= rate.per_user <= rate.per_address <= 500)

    def test_networks(self) -> None:
        for address, network in (
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("unix", "unix"),
        ):
            self.assertEqual(network_of(address), network)

    @in_loop
    async def test_here(self) -> None:
        limits = self.limits()
        first = await limits.take(*ROUTE, "u", "user")
        assert first is not None
        self.assertEqual((first.limit, first.remaining, first.reset_s), (2, 1, 60))
        self.clock.advance(10)
        second = await limits.take(*ROUTE, "u", "user")
        assert second is not None
        self.assertEqual((second.remaining, second.reset_s), (0, 51))
        with self.assertRaises(TooManyRequests) as refused:
            await limits.take(*ROUTE, "u", "user")
        self.assertEqual(refused.exception.retry_after_s, 51)
        self.assertEqual(self.metrics.requests_limited[ROUTE[1]], 1)
        for other in ((*ROUTE, "v", "user"), ("GET", "/api/session", "u", "user"), (*ROUTE, "u", "address")):
            await limits.take(*other)
        self.clock.advance(51)
        await limits.take(*ROUTE, "u", "user")
        await limits.close()

    @in_loop
    async def test_none(self) -> None:
        limits = self.limits(0, redis_url="redis://127.0.0.1:1")
        for _ in range(1000):
            self.assertIsNone(await limits.take(*ROUTE, "u", "user"))
        await limits.close()

    @in_loop
    async def test_two_processes_count_together_in_redis(self) -> None:
        server = RedisServer(self)
        one, two = (self.limits(redis_url=server.url()) for _ in range(2))
        try:
            first = await one.take(*ROUTE, "u", "user")
            second = await two.take(*ROUTE, "u", "user")
            assert first is not None
            assert second is not None
            self.assertEqual((first.remaining, second.remaining), (1, 0))
            with self.assertRaises(TooManyRequests):
                await one.take(*ROUTE, "u", "user")
        finally:
            await one.close()
            await two.close()

    @in_loop
    async def test_a_redis_whose_authority_is_named(self) -> None:
        if not tls_supported():
            raise SkipTest("the Redis there is cannot speak TLS")
        files = TlsFiles(self.mktemp_path())
        server = RedisServer(self, tls=files)
        limits = self.limits(redis_url=server.url(), ca_path=files.ca_path)
        await limits.take(*ROUTE, "u", "user")
        await limits.close()
        with server.control() as control:
            self.assertEqual(len(control.keys("voiceingest*")), 1)

    def test_urls_of_redis_as_the_settings_have_them(self) -> None:
        for url in ("redis://localhost", "rediss://user:p%40ss@redis.example.com/3", "redis://[::1]:7000"):
            self.limits(redis_url=url)

    @in_loop
    async def test_redis_is_away(self) -> None:
        limits = self.limits(redis_url=f"redis://127.0.0.1:{free_port()}")
        for _ in range(2):
            await limits.take(*ROUTE, "u", "user")
        with self.assertRaises(TooManyRequests):
            await limits.take(*ROUTE, "u", "user")
        self.clock.advance(REDIS_PAUSE_S)
        with self.assertRaises(TooManyRequests):
            await limits.take(*ROUTE, "u", "user")
        await limits.close()
