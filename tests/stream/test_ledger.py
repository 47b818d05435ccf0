"""The ledger adds up."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from voiceingest.stream.ledger import Ledger


class Sums(SynchronousTestCase):
    """received = published + dropped + pending, in frames and in samples."""

    def test_a_new_one_is_empty(self) -> None:
        summary = Ledger().summary()
        self.assertEqual(summary.pop("drops"), {})
        self.assertEqual(set(summary.values()), {0})

    def test_what_is_neither_published_nor_dropped_is_pending(self) -> None:
        ledger = Ledger()
        ledger.received, ledger.published = 10, 4
        ledger.samples, ledger.samples_published = 1000, 400
        ledger.drop(3, 250, "overflow")
        self.assertEqual((ledger.dropped, ledger.pending), (3, 3))
        self.assertEqual((ledger.samples_dropped, ledger.samples_pending), (250, 350))

    def test_drops_of_every_reason_are_counted(self) -> None:
        ledger = Ledger()
        ledger.received = 7
        for count, reason in ((1, "overflow"), (2, "refused"), (4, "overflow")):
            ledger.drop(count, count, reason)
        self.assertEqual((ledger.dropped, ledger.pending), (7, 0))
        self.assertEqual(ledger.summary()["drops"], {"overflow": 5, "refused": 2})

    def test_nothing_that_was_dropped_is_no_reason(self) -> None:
        ledger = Ledger()
        ledger.drop(0, 0, "returned")
        self.assertEqual(ledger.summary()["drops"], {})

    def test_settled_is_up_to_the_first_frame_that_is_not(self) -> None:
        ledger = Ledger()
        ranges = ((1, 2), (6, 7), (8, 9), (20, 20), (12, 12), (3, 3), (4, 5), (10, 11), (13, 19))
        seen = []
        for first, last in ranges:
            ledger.settle(first, last)
            seen.append(ledger.settled_seq)
        self.assertEqual(seen, [2, 2, 2, 2, 2, 3, 9, 12, 20])

    def test_an_outage_of_an_hour_is_one_range(self) -> None:
        ledger = Ledger()
        for seq in range(2, 10_000):
            ledger.settle(seq, seq)
        self.assertEqual((ledger.settled_seq, len(ledger._ahead)), (0, 1))

    def test_the_summary_is_in_a_fixed_order(self) -> None:
        """It goes on the wire as it is; readers see the same order every time."""
        frames = ["received", "published", "dropped", "pending"]
        samples = ["samples", "samples_published", "samples_dropped", "samples_pending"]
        self.assertEqual(list(Ledger().summary()), [*frames, *samples, "drops"])

    def test_the_summary_is_a_copy(self) -> None:
        ledger = Ledger()
        before = ledger.summary()
        ledger.received = 5
        ledger.drop(1, 1, "overflow")
        self.assertEqual((before["received"], before["drops"]), (0, {}))
