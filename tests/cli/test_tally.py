from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli import tally as tally_module
from voiceingest.cli.tally import Ending, Tally


def after(frames: int, **stopped: int) -> Tally:
    tally = Tally(started={})
    for number in range(frames):
        tally.sent(960, float(number))
    if stopped:
        tally.finish({"event": "stopped", **stopped})
    return tally


class AckTests(SynchronousTestCase):
    def test_the_latency_is_that_of_the_frame_that_was_acknowledged(self) -> None:
        tally = after(10)
        tally.ack(5, 4.25)
        tally.ack(10, 10.0)
        self.assertEqual(
            tally.latencies.summary_ms(), {"p50": 250.0, "p95": 1000.0, "p99": 1000.0, "max": 1000.0}
        )
        self.assertEqual((tally.acked, tally.acks), (10, 2))

    def test_an_old_acknowledgement_takes_nothing_back(self) -> None:
        tally = after(10)
        tally.ack(10, 10.0)
        tally.ack(5, 11.0)
        self.assertEqual((tally.acked, tally.latencies.count), (10, 1))

    def test_what_was_never_sent(self) -> None:
        tally = after(3)
        tally.ack(4, 4.0)
        self.assertEqual((tally.acked, tally.errors[0][0]), (0, "ack_unsent"))

    def test_a_server_that_never_acknowledges_costs_a_bounded_memory(self) -> None:
        tally = Tally()
        for number in range(tally_module.UNACKED_MAX_COUNT + 10):
            tally.sent(2, float(number))
        self.assertEqual(len(tally._sent_at), tally_module.UNACKED_MAX_COUNT)
        tally.ack(5, 1e6)
        self.assertEqual((tally.acked, tally.latencies.count), (5, 0))
        tally.ack(tally.sent_frames, 1e6)
        self.assertEqual(tally.latencies.count, 1)

    @given(st.lists(st.tuples(st.booleans(), st.integers(-3, 60)), max_size=80))
    def test_whatever_is_acknowledged_the_count_only_grows_and_never_past_what_was_sent(
        self, steps: list[tuple[bool, int]]
    ) -> None:
        tally, before = Tally(), 0
        for now, (is_frame, seq) in enumerate(steps):
            if is_frame:
                tally.sent(2, float(now))
            else:
                tally.ack(seq, float(now))
            self.assertTrue(before <= tally.acked <= tally.sent_frames)
            before = tally.acked


class ResumeTests(SynchronousTestCase):
    def test_the_counts_of_another_process_begin_there(self) -> None:
        tally = Tally(started={}, resumes=1)
        for number in range(10):
            tally.sent(960, float(number))
        tally.finish({"seq": 10, "received": 4, "published": 4, "dropped": 0, "pending": 0})
        self.assertEqual((tally.acked, tally.complete), (10, True))

    def test_what_was_declared_is_not_confirmed(self) -> None:
        tally = Tally(started={}, resumes=1)
        for number in range(10):
            tally.sent(960, float(number))
        tally.gap(3, 5)
        tally.ack(10, 10.0)
        tally.finish({"seq": 10, "received": 4, "published": 4, "dropped": 0, "pending": 0})
        self.assertEqual((tally.gaps, tally.gap_frames, tally.acked, tally.complete), (1, 3, 7, False))

    def test_a_stream_that_begins_anew_is_numbered_from_1_and_counted_on(self) -> None:
        tally = after(10)
        tally.ack(8, 8.0)
        tally.gap(2, 3)
        tally.began_anew(8)
        self.assertEqual((tally.acked, tally.acked_seq, tally.restarts), (6, 0, 1))
        self.assertTrue(tally.ack(2, 10.0))
        self.assertFalse(tally.ack(3, 10.0))
        self.assertEqual((tally.acked, tally.acked_seq), (8, 2))
        tally.finish({"seq": 2, "published": 2})
        self.assertEqual((tally.acked, tally.sent_frames), (8, 10))

    def test_an_error_of_the_last_connection_does_not_explain_this_one(self) -> None:
        tally = after(1)
        tally.error("idle_timeout", "x")
        tally.connected()
        problem = tally.problem(Ending(close_code=4429))
        assert problem is not None
        self.assertIn("Too much", problem.text)


class VerdictTests(SynchronousTestCase):
    def test_complete(self) -> None:
        self.assertTrue(after(3, seq=3, published=3, dropped=0, pending=0).complete)
        self.assertTrue(after(3, seq=3).complete)
        self.assertTrue(after(0, seq=0).complete)

    def test_incomplete(self) -> None:
        for tally in (
            after(3),
            after(3, seq=3, published=2, dropped=1),
            after(3, seq=3, published=3, pending=1),
            after(3, seq=2),
        ):
            self.assertFalse(tally.complete)
            self.assertIsNotNone(tally.problem(Ending(close_code=1000)))

    def test_problems_in_words(self) -> None:
        refused = after(1)
        refused.error("forbidden", "x")
        misspelt = Tally()
        misspelt.error("bad_field", "interaction_id holds a character that is not allowed")
        for tally, ending, words in (
            (misspelt, None, "interaction_id holds a character that is not allowed (bad_field)"),
            (after(3, seq=3, published=1), Ending(close_code=1000), "2 of 3 frames were not confirmed"),
            (after(3), None, "did not say stopped"),
            (Tally(), None, "did not say started"),
            (after(3), Ending(close_code=1000), "before it said stopped"),
            (after(3), Ending(close_code=1006), "broke"),
            (after(3), Ending(close_code=4429), "Too much came"),
            (refused, Ending(close_code=4403), "does not allow this tenant"),
            (refused, Ending(close_code=1006), "broke"),
            (Tally(), Ending(http_status=502), "HTTP 502"),
        ):
            problem = tally.problem(ending)
            assert problem is not None
            self.assertIn(words, problem.text)

    def test_errors_are_counted_and_only_the_newest_kept(self) -> None:
        tally = Tally()
        for number in range(tally_module.ERRORS_MAX_COUNT + 5):
            tally.error(f"code_{number}", "x")
        self.assertEqual(tally.error_count, tally_module.ERRORS_MAX_COUNT + 5)
        self.assertEqual(len(tally.errors), tally_module.ERRORS_MAX_COUNT)
