"""From which frame a stream is gone on with."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from voiceingest.errors import Replaced, ResumeExpired
from voiceingest.limits import RESUME_TOKEN_MAX_AGE_S
from voiceingest.stream.resume import NO_WISH, ResumeClaim, Wish, is_same_numbering, seq_to_resume_at

NOW = 1_000_000.0


def claim(node: str = "them", next_seq: int = 1, is_exact: bool = False, age_s: float = 1.0) -> ResumeClaim:
    return ResumeClaim(node, "acme", "call", 7, 24000, "pcm16", next_seq, is_exact, NOW - age_s)


def seq(one: ResumeClaim, wish: Wish = NO_WISH) -> int:
    return seq_to_resume_at(one, wish, node="us", window_s=30.0, now=NOW)


class SeqTests(SynchronousTestCase):
    def test_what_was_said_for_certain_holds(self) -> None:
        self.assertEqual(seq(claim(next_seq=31, is_exact=True), Wish(acked=50)), 31)

    def test_else_what_the_client_knows_does(self) -> None:
        self.assertEqual(seq(claim(), Wish(acked=20)), 21)
        self.assertEqual(seq(claim()), 1)
        self.assertEqual(seq(claim(next_seq=5), Wish(acked=2)), 5)

    def test_our_own_that_is_not_here_is_over(self) -> None:
        self.assertRaises(ResumeExpired, seq, claim(node="us"))

    def test_one_we_moved_may_come_back_to_us(self) -> None:
        self.assertEqual(seq(claim(node="us", next_seq=9, is_exact=True)), 9)

    def test_the_window(self) -> None:
        self.assertEqual(seq(claim(next_seq=2, is_exact=True, age_s=30.0)), 2)
        self.assertRaises(ResumeExpired, seq, claim(next_seq=2, is_exact=True, age_s=30.1))
        self.assertEqual(seq(claim(age_s=RESUME_TOKEN_MAX_AGE_S)), 1)
        self.assertRaises(ResumeExpired, seq, claim(age_s=RESUME_TOKEN_MAX_AGE_S + 1))


class NumberingTests(SynchronousTestCase):
    def test_the_newest_has_the_interaction(self) -> None:
        self.assertTrue(is_same_numbering(claim(), 7))
        self.assertFalse(is_same_numbering(claim(), 6))
        self.assertRaises(Replaced, is_same_numbering, claim(), 8)
