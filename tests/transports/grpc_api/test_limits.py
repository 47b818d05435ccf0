"""Calls are counted as the requests they stand for."""

from __future__ import annotations

from typing import Any

from tests.support.case import SynchronousTestCase, TestCase
from voiceingest.aio import as_deferred
from voiceingest.errors import TooManyRequests
from voiceingest.http.api.rates import RATES, RateLimits
from voiceingest.metrics import Metrics
from voiceingest.transports.grpc_api.generated import session_pb2
from voiceingest.transports.grpc_api.limits import ROUTES, CallLimits


class RouteTests(SynchronousTestCase):
    def test_every_call_has_a_route_with_a_limit(self) -> None:
        calls = session_pb2.DESCRIPTOR.services_by_name["SessionService"].methods_by_name
        self.assertEqual(set(ROUTES), set(calls))
        self.assertEqual({f"{verb} {route}" for verb, route in ROUTES.values()} - set(RATES), set())


class CheckTests(TestCase):
    async def test_over_both_apis_together(self) -> None:
        rates = RateLimits(0.01, Metrics(), lambda: 0.0, lambda: 0.0)
        limits: Any = CallLimits(rates)

        async def scenario() -> None:
            for _ in range(2):
                await limits.check("ListSessions", "192.0.2.1", "usr_1")
            with self.assertRaises(TooManyRequests):
                await rates.take("GET", "/api/session", "usr_1", "user")
            await limits.check("ListSessions", "192.0.2.1", "usr_2")
            for _ in range(3):
                await limits.check("ListSessions", "192.0.2.1", None)
            with self.assertRaises(TooManyRequests):
                await limits.check("ListSessions", "192.0.2.1", None)

        await as_deferred(scenario())
