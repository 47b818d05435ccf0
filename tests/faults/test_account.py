"""The account sees what it is for: each kind of loss is made here, and has to be found."""

from __future__ import annotations

from typing import Any

from tests.support.case import SynchronousTestCase

from .account import Account, calm_after_s, percentile, take_account
from .audio import Mark, frame_of, numbers, ranges, read_mark

SECOND_NS = 1_000_000_000


def caller(**changes: Any) -> dict[str, Any]:
    """A caller that spoke ten frames, all acknowledged, and stopped in good order."""
    usual = {
        "index": 0, "name": "load-0", "sent": 10, "said": 10, "acked": [[1, 10]], "gaps": [], "stopped": {},
        "closes": [], "errors": [], "restarted": 0, "resumed": 0, "resets": 0, "unavailable": 0, "refused": 0,
        "ack_gap_s": 0.2, "back_s": [],
    }  # fmt: skip
    return {**usual, **changes}


def account(
    runs: list[list[int]],
    repeats: list[list[int]] | None = None,
    broken_at: list[float] | None = None,
    **changes: Any,
) -> Account:
    """The account of that caller when these runs of frames came."""
    consumer = {"runs": [[0, 0, runs]], "repeats": repeats or [], "counts": {"foreign": 0}}
    return take_account({"callers": [caller(**changes)]}, consumer, broken_at=broken_at)


class AccountTests(SynchronousTestCase):
    def test_all_is_well(self) -> None:
        found = account([[1, 10]])
        wrong = (
            found.ended,
            found.missing,
            found.undeclared,
            found.repeated,
            found.out_of_order,
            found.declared,
        )
        self.assertEqual(wrong, (0, 0, 0, 0, 0, 0))
        self.assertEqual((found.spoken, found.acked, found.came, found.samples), (10, 10, 10, []))

    def test_acknowledged_and_not_there(self) -> None:
        found = account([[1, 4], [6, 10]])
        self.assertEqual((found.missing, found.undeclared), (1, 1))
        self.assertIn("5..5", found.samples[0])

    def test_not_acknowledged_and_neither_there_nor_declared(self) -> None:
        found = account([[1, 8]], acked=[[1, 8]])
        self.assertEqual((found.missing, found.undeclared), (0, 2))

    def test_declared(self) -> None:
        found = account([[1, 4], [8, 10]], gaps=[[5, 7, "overflow"]])
        self.assertEqual((found.missing, found.undeclared, found.declared), (0, 0, 3))
        self.assertEqual(found.reasons, {"overflow"})

    def test_declared_and_there_all_the_same(self) -> None:
        self.assertEqual(account([[1, 10]], gaps=[[5, 7, "overflow"]]).declared_and_came, 3)

    def test_out_of_order(self) -> None:
        self.assertEqual(account([[1, 4], [8, 10], [5, 7]]).out_of_order, 1)

    def test_a_run_that_is_sent_again_is_in_order(self) -> None:
        self.assertEqual(account([[1, 6], [4, 10]]).out_of_order, 0)

    def test_twice(self) -> None:
        repeats = [[0, 0, 5, 7 * SECOND_NS]]
        self.assertEqual(account([[1, 10], [5, 5]], repeats).repeated, 1)
        early = account([[1, 10], [5, 5]], repeats, broken_at=[6.0])
        self.assertEqual((early.repeated, early.repeated_in_flight), (1, 0))
        in_flight = account([[1, 10], [5, 5]], repeats, broken_at=[6.0, 7.5])
        self.assertEqual((in_flight.repeated, in_flight.repeated_in_flight), (0, 1))

    def test_of_the_neighbour_only_its_own(self) -> None:
        consumer = {"runs": [[0, 0, [[1, 5]]], [1, 0, [[1, 10]]]], "repeats": [], "counts": {}}
        found = take_account({"callers": [caller()]}, consumer, source=1)
        self.assertEqual((found.missing, found.came), (0, 10))

    def test_a_stream_that_ended(self) -> None:
        self.assertEqual(account([[1, 10]], stopped=None, closes=[[1.0, 1011]]).ended, 1)

    def test_foreign_frames(self) -> None:
        consumer = {"runs": [[0, 0, [[1, 10]]]], "repeats": [], "counts": {"foreign": 2}}
        self.assertEqual(take_account({"callers": [caller()]}, consumer).foreign, 2)


class LagTests(SynchronousTestCase):
    def late(self, *rows: tuple[float, float]) -> dict[str, Any]:
        return {"late": [[at, 5, worst] for at, worst in rows]}

    def steady(self, since: float, until: float, worst: float) -> list[tuple[float, float]]:
        return [(round(since + 0.1 * step, 1), worst) for step in range(round((until - since) * 10))]

    def test_at_once(self) -> None:
        self.assertEqual(calm_after_s(self.late(*self.steady(10, 15, 8)), 10.0, 15.0), 0.0)

    def test_after_a_while(self) -> None:
        rows = [*self.steady(10, 12, 900), *self.steady(12, 16, 8)]
        found = calm_after_s(self.late(*rows), 10.0, 16.0)
        assert found is not None
        self.assertApproximates(found, 2.0, 0.11)

    def test_late_again(self) -> None:
        rows = [
            *self.steady(10, 10.5, 900),
            *self.steady(10.5, 11, 8),
            (11.0, 300),
            *self.steady(11.1, 14, 8),
        ]
        found = calm_after_s(self.late(*rows), 10.0, 14.0)
        assert found is not None
        self.assertApproximates(found, 1.1, 0.11)

    def test_never(self) -> None:
        self.assertIsNone(calm_after_s(self.late(*self.steady(10, 15, 150)), 10.0, 15.0))

    def test_silence_is_not_calm(self) -> None:
        self.assertIsNone(calm_after_s(self.late(*self.steady(5, 9, 8)), 10.0, 15.0))

    def test_percentile(self) -> None:
        pairs = [[float(at), float(at)] for at in range(100)]
        self.assertEqual(percentile(pairs, 0.99), 99.0)
        self.assertEqual(percentile(pairs, 0.5, 10, 20), 15.0)
        self.assertIsNone(percentile(pairs, 0.5, 200, 300))


class AudioTests(SynchronousTestCase):
    def test_a_frame_says_whose_it_is(self) -> None:
        mark = Mark(1, 7, 12345, 987654321)
        self.assertEqual(read_mark(frame_of(mark)), mark)

    def test_any_change_is_seen(self) -> None:
        audio = frame_of(Mark(0, 1, 2, 3))
        for place in range(0, len(audio), 37):
            changed = bytearray(audio)
            changed[place] ^= 1
            self.assertIsNone(read_mark(bytes(changed)), place)
        self.assertIsNone(read_mark(audio[:-2]))
        self.assertIsNone(read_mark(bytes(len(audio))))

    def test_ranges(self) -> None:
        found = ranges([1, 2, 3, 7, 8, 2])
        self.assertEqual(found, [[1, 3], [7, 8], [2, 2]])
        self.assertEqual(numbers(found), [1, 2, 3, 7, 8, 2])
