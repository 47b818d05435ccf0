"""Last words are kept for a while, and not without end."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from voiceingest.stream.farewells import FAREWELLS_MAX_COUNT, Farewells


class FarewellsTests(SynchronousTestCase):
    def test_for_a_while(self) -> None:
        farewells = Farewells()
        farewells.remember(("acme", "call", 1), {"seq": 3}, 30.0, 0.0)
        self.assertEqual(farewells.recall(("acme", "call", 1), 29.9), {"seq": 3})
        for other in (("acme", "call", 2), ("acme", "other", 1), ("umbrella", "call", 1)):
            self.assertIsNone(farewells.recall(other, 1.0))
        self.assertIsNone(farewells.recall(("acme", "call", 1), 30.0))
        self.assertEqual(len(farewells), 0)

    def test_not_without_end(self) -> None:
        farewells = Farewells()
        for epoch in range(FAREWELLS_MAX_COUNT + 3):
            farewells.remember(("acme", "call", epoch), {"seq": epoch}, 30.0, 0.0)
        self.assertEqual(len(farewells), FAREWELLS_MAX_COUNT)
        self.assertIsNone(farewells.recall(("acme", "call", 2), 1.0))
        self.assertEqual(farewells.recall(("acme", "call", 3), 1.0), {"seq": 3})
