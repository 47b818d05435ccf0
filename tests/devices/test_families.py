from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.devices.families import HOLDS_S, REVOKED_S, KnownFamilies


class KnownFamiliesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.known = KnownFamilies(max_count=3)

    def test_what_holds_is_believed_for_a_second_at_the_most(self) -> None:
        self.assertLessEqual(HOLDS_S, 1.0)
        self.known.keep("f", "d", 10.0, holds=True)
        self.assertIs(self.known.holds("f", 10.0 + HOLDS_S - 0.001), True)
        self.assertIsNone(self.known.holds("f", 10.0 + HOLDS_S))
        self.assertEqual(len(self.known), 0)

    def test_to_be_asked_for_makes_nothing_young(self) -> None:
        self.known.keep("f", "d", 10.0, holds=True)
        self.known.holds("f", 10.9)
        self.assertIsNone(self.known.holds("f", 11.1))

    def test_what_was_revoked_stays_so_for_longer(self) -> None:
        self.known.keep("f", "d", 10.0, holds=False)
        self.assertIs(self.known.holds("f", 10.0 + REVOKED_S - 0.001), False)
        self.assertIsNone(self.known.holds("f", 10.0 + REVOKED_S))

    def test_bounded_the_one_nobody_asked_for_goes_first(self) -> None:
        for name in "abc":
            self.known.keep(name, "d", 0.0, holds=True)
        self.known.holds("a", 0.5)
        self.known.keep("e", "d", 0.5, holds=True)
        self.assertEqual([self.known.holds(name, 0.5) for name in "abce"], [True, None, True, True])

    def test_forgetting(self) -> None:
        for name, device in (("a", "d1"), ("b", "d2"), ("c", "d1")):
            self.known.keep(name, device, 0.0, holds=True)
        self.known.forget("b")
        self.assertEqual([self.known.holds(name, 0.0) for name in "abc"], [True, None, True])
        self.known.forget_device("d1")
        self.assertEqual(len(self.known), 0)
        # Whoever asked before must ask again, also about what was not kept.
        self.known.forget("unknown")
        self.assertEqual(self.known.forgotten, 3)
