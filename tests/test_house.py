"""What every stream shares."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.test_driver import World


class Authorities(SynchronousTestCase):
    """Claims are dated by the wall clock, streams live by the monotonic one."""

    def test_expiry_becomes_a_time_from_now(self) -> None:
        world = World()
        world.clock.advance(100)
        authority = world.house.authority(world.claims(expires_in=60.0))
        self.assertAlmostEqual(authority.expires_in_s, 60.0)
        self.assertEqual((authority.subject, authority.tenant_id), ("s", "acme"))

    def test_a_token_that_has_lapsed_has_less_than_no_time(self) -> None:
        """Accepted within the leeway: what is left of that is the stream's to count."""
        world = World()
        self.assertLess(world.house.authority(world.claims(expires_in=-10.0)).expires_in_s, 0)
