"""Fresh tokens: one at a time, so many in a time. The rest is in test_driver.Authentication."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from tests.support.case import SynchronousTestCase
from tests.support.world import World
from voiceingest.errors import KeysUnavailable, RateLimited, TokenRefused, Unauthenticated
from voiceingest.renewal import AUTH_BURST, Renewal


class RenewalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()
        self.renewed: list[Any] = []
        self.refused: list[Any] = []
        self.is_over = False
        self.renewal = Renewal(
            self.world.house, self.renewed.append, self.refused.append, lambda: self.is_over, 0.0
        )

    def offer(self, verdict: Deferred[Any]) -> None:
        self.world.verdicts["t"] = verdict
        self.renewal.offer("t")

    def test_a_good_one(self) -> None:
        claims = self.world.claims()
        self.offer(succeed(claims))
        self.assertEqual((self.renewed, self.refused), ([claims], []))

    def test_what_is_said_of_a_bad_one(self) -> None:
        for failure, answer in (
            (Unauthenticated(), TokenRefused),
            (KeysUnavailable(), KeysUnavailable),
            (ValueError(), TokenRefused),
        ):
            self.offer(fail(failure))
            self.assertIsInstance(self.refused[-1], answer)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_one_at_a_time(self) -> None:
        self.offer(Deferred())
        self.assertRaises(RateLimited, self.renewal.offer, "t")

    def test_so_many_in_a_time(self) -> None:
        for _ in range(int(AUTH_BURST)):
            self.offer(succeed(self.world.claims()))
        self.assertRaises(RateLimited, self.renewal.offer, "t")
        self.world.clock.advance(5.0)
        self.offer(succeed(self.world.claims()))

    def test_an_answer_nobody_waits_for_is_none(self) -> None:
        self.offer(Deferred())
        self.renewal.cancel()
        self.assertEqual((self.renewed, self.refused), ([], []))
        self.is_over = True
        self.offer(fail(ValueError()))
        self.assertEqual(self.refused, [])
