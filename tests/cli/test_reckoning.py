from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.reading import BusMessage
from voiceingest.cli.reckoning import Reckoning
from voiceingest.cli.watermark import Mark, marked
from voiceingest.wire.envelope import FrameMessage

RUN, UNIT = b"run1", 20


def frame(place: int, name: str = "a", stream: int = 0, spoken_us: int = 0, run: bytes = RUN) -> BusMessage:
    """The frame that holds the samples from ``place * UNIT`` on; its number does not matter."""
    audio = marked(run, Mark(stream, place * UNIT, spoken_us, UNIT))
    return BusMessage(frame=FrameMessage("acme", name, 99, 0, 8000, "pcm16", audio))


def gap(first: int, last: int, name: str = "a", **fields: int) -> BusMessage:
    return BusMessage(event={"event": "gap", "interaction_id": name, "from": first, "to": last, **fields})


class ReckoningTests(SynchronousTestCase):
    def reckon(self, *messages: BusMessage, sent: int = 10) -> dict[str, int]:
        self.reckoning = Reckoning(RUN, ["a", "b"], UNIT)
        self.reckoning.began("a", 5, 0)
        for message in messages:
            self.reckoning.heard(message, 3000)
        balance = self.reckoning.balance({"a": sent * UNIT})
        self.assertEqual(balance["sent"], balance["received"] + balance["declared"] + balance["lost"])
        return {key: value // UNIT for key, value in balance.items() if value and key != "sent"}

    def test_all_there(self) -> None:
        self.assertEqual(self.reckon(*map(frame, range(10))), {"received": 10})
        self.assertTrue(self.reckoning.is_complete({"a": 10 * UNIT}))
        self.assertFalse(self.reckoning.is_complete({"a": 10 * UNIT, "b": UNIT}))

    def test_lost_in_the_middle_and_at_the_end(self) -> None:
        self.assertEqual(self.reckon(frame(0), frame(3), frame(4)), {"received": 3, "lost": 7})

    def test_declared_is_not_lost(self) -> None:
        found = self.reckon(frame(0), gap(2, 3), frame(3), gap(5, 9, epoch=5))
        self.assertEqual(found, {"received": 2, "declared": 7, "lost": 1})

    def test_declared_twice_counts_once(self) -> None:
        self.assertEqual(self.reckon(gap(1, 6), gap(4, 10)), {"declared": 10})

    def test_declared_and_there_all_the_same(self) -> None:
        found = self.reckon(*map(frame, range(10)), gap(2, 4))
        self.assertEqual(found, {"received": 10, "misdeclared": 3})

    def test_twice(self) -> None:
        found = self.reckon(*map(frame, range(10)), frame(4), frame(9))
        self.assertEqual(found, {"received": 10, "repeated": 2})

    def test_out_of_order(self) -> None:
        order = [0, 1, 3, 2, 5, 6, 4, 7, 8, 9]
        self.assertEqual(self.reckon(*map(frame, order)), {"received": 10, "misordered": 2})

    def test_the_numbers_of_a_stream_that_began_anew(self) -> None:
        reckoning = Reckoning(RUN, ["a"], UNIT)
        reckoning.began("a", 5, 0)
        for place in range(4):
            reckoning.heard(frame(place), 0)
        reckoning.began("a", 6, 3)
        for message in (frame(3), gap(2, 2, epoch=6), frame(5)):
            reckoning.heard(message, 0)
        balance = reckoning.balance({"a": 6 * UNIT})
        found = {key: value // UNIT for key, value in balance.items() if value}
        self.assertEqual(found, {"sent": 6, "received": 5, "declared": 1, "repeated": 1})

    def test_damaged_crossed_and_foreign(self) -> None:
        others = (frame(1, name="other"), gap(1, 2, "x"))
        self.reckon(frame(0), frame(1, run=b"run2"), frame(1, stream=1), *others)
        self.assertEqual((self.reckoning.damaged, self.reckoning.messages), (2, 3))

    def test_what_was_never_sent(self) -> None:
        self.assertEqual(self.reckoning_of_one()["unsent"], UNIT)

    def reckoning_of_one(self) -> dict[str, int]:
        reckoning = Reckoning(RUN, ["a"], UNIT)
        reckoning.heard(frame(0), 0)
        return reckoning.balance({"a": 0})

    def test_latency_is_measured_once_for_each_sample(self) -> None:
        self.reckon(frame(0, spoken_us=1000), frame(0, spoken_us=0), frame(1, spoken_us=2000))
        self.assertEqual(self.reckoning.latencies.count, 2)
        summary = self.reckoning.latencies.summary_ms((50, 99.9))
        self.assertEqual(summary, {"p50": 1.0, "p99.9": 2.0, "max": 2.0})

    @given(
        st.lists(st.integers(0, 9), max_size=30),
        st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10))),
    )
    def test_the_sum_is_right_whatever_comes(self, places: list[int], gaps: list[tuple[int, int]]) -> None:
        found = self.reckon(*map(frame, places), *(gap(*ends) for ends in gaps))
        self.assertEqual(found.get("received", 0), len(set(places)))
        self.assertEqual(found.get("repeated", 0), len(places) - len(set(places)))
