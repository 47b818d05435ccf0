"""The ledger adds up."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from voiceingest.stream.ledger import Ledger


class Sums(SynchronousTestCase):
    """received = published + dropped + pending."""

    def test_a_new_one_is_empty(self) -> None:
        zeros = {"received": 0, "published": 0, "dropped": 0, "pending": 0, "samples": 0}
        self.assertEqual(Ledger().summary(), zeros)

    def test_what_is_neither_published_nor_dropped_is_pending(self) -> None:
        ledger = Ledger()
        ledger.received, ledger.published = 10, 4
        ledger.drop(3, "overflow")
        self.assertEqual((ledger.dropped, ledger.pending), (3, 3))

    def test_drops_of_every_reason_are_counted(self) -> None:
        ledger = Ledger()
        ledger.received = 7
        for count, reason in ((1, "overflow"), (2, "refused"), (4, "overflow")):
            ledger.drop(count, reason)
        self.assertEqual((ledger.dropped, ledger.pending), (7, 0))

    def test_the_summary_is_in_a_fixed_order(self) -> None:
        """It goes on the wire as it is; readers see the same order every time."""
        self.assertEqual(list(Ledger().summary()), ["received", "published", "dropped", "pending", "samples"])

    def test_the_summary_is_a_copy(self) -> None:
        ledger = Ledger()
        before = ledger.summary()
        ledger.received = 5
        self.assertEqual(before["received"], 0)
