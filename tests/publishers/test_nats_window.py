"""What is in flight: confirmed from the oldest, one of a lane on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.publishers.nats_window import Window


class WindowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.window = Window()

    def test_only_the_contiguous_prefix_is_let_go(self) -> None:
        for lane in "abcd":
            self.window.add(lane, 0.0)
        self.window.answered(2, "", 0.0)
        self.window.answered(1, "", 0.0)
        self.assertEqual((self.window.settle(), len(self.window)), ([], 4))
        self.window.answered(0, "", 0.0)
        self.assertEqual((self.window.settle(), len(self.window)), ([3], 1))
        self.window.answered(3, "", 0.0)
        self.assertEqual((self.window.settle(), len(self.window)), ([1], 0))
        self.assertEqual(self.window.settle(), [])

    def test_a_refusal_keeps_its_place(self) -> None:
        for lane in "abcd":
            self.window.add(lane, 0.0)
        self.window.add_refused("e", "too_big")
        for number, verdict in ((3, ""), (0, ""), (1, "too_big"), (2, "")):
            self.window.answered(number, verdict, 0.0)
        self.assertEqual(self.window.settle(), [1, "too_big", 2, "too_big"])

    def test_of_a_lane_one_is_on_the_way(self) -> None:
        self.assertFalse(self.window.is_busy("a"))
        self.window.add("a", 0.0)
        self.assertTrue(self.window.is_busy("a"))
        self.window.hold("a", b"second")
        self.window.add("b", 0.0)
        self.window.hold("a", b"third")
        self.assertEqual(self.window.answered(2, "", 1.0), None)
        self.assertEqual(self.window.answered(0, "", 1.0), b"second")
        self.assertEqual(self.window.answered(1, "too_big", 1.0), b"third")
        self.assertTrue(self.window.is_busy("a"))
        self.assertEqual(self.window.answered(3, "", 1.0), None)
        self.assertFalse(self.window.is_busy("a"))
        self.assertEqual(self.window.settle(), [1, "too_big", 2])

    def test_an_answer_to_nothing_or_a_second_one_changes_nothing(self) -> None:
        self.window.add("a", 0.0)
        self.window.hold("a", b"second")
        self.assertEqual(self.window.answered(7, "", 0.0), None)
        self.assertEqual(self.window.answered(0, "", 0.0), b"second")
        self.assertEqual(self.window.answered(0, "too_big", 0.0), None)
        self.assertEqual(self.window.settle(), [1])
        self.assertEqual(self.window.answered(0, "", 0.0), None)

    def test_one_that_is_passed_over(self) -> None:
        self.window.add("a", 1.0)
        self.window.add("b", 1.5)
        self.assertFalse(self.window.passed_over(2.0))  # nothing is answered: slow, not lost
        self.window.answered(1, "", 1.6)
        self.assertFalse(self.window.passed_over(0.9))  # not yet
        self.assertTrue(self.window.passed_over(1.0))
        self.window.answered(0, "", 2.0)
        self.assertFalse(self.window.passed_over(9.0))
        self.window.settle()
        self.assertFalse(self.window.passed_over(9.0))

    def test_a_held_one_is_as_old_as_its_writing(self) -> None:
        self.window.add("a", 1.0)
        self.window.hold("a", b"second")
        self.window.add("b", 1.0)
        self.window.answered(2, "", 5.0)
        self.window.answered(0, "", 5.0)
        self.window.settle()
        self.assertFalse(self.window.passed_over(4.0))
        self.assertTrue(self.window.passed_over(5.0))

    @given(st.data())
    def test_whatever_the_order_of_answers(self, data: st.DataObject) -> None:
        window = Window()
        lanes = data.draw(st.lists(st.sampled_from("abc"), max_size=30))
        on_the_way: dict[int, str] = {}
        for number, lane in enumerate(lanes):
            if window.is_busy(lane):
                window.hold(lane, b"%d" % number)
            else:
                window.add(lane, 0.0)
                on_the_way[number] = lane
        written, let_go = sorted(on_the_way), 0
        while on_the_way:
            self.assertEqual(len(set(on_the_way.values())), len(on_the_way))
            number = data.draw(st.sampled_from(sorted(on_the_way)))
            del on_the_way[number]
            following = window.answered(number, "", 0.0)
            if following is not None:
                on_the_way[int(following)] = lanes[int(following)]
                written.append(int(following))
            let_go += sum(run for run in window.settle() if isinstance(run, int))
            self.assertLessEqual(let_go, min(on_the_way, default=len(lanes)))
        self.assertEqual((let_go, len(window)), (len(lanes), 0))
        for lane in "abc":
            numbers = [number for number in written if lanes[number] == lane]
            self.assertEqual(numbers, sorted(numbers))
