"""What ended here is known for good, as far as there is room; what went on elsewhere since is not touched."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from voiceingest.stream.ended import ENDED_MAX_COUNT, Ended

NAME = ("acme", "call", 1)


class EndedTests(SynchronousTestCase):
    def test_a_token_from_before_it_came_here_and_one_from_afterwards(self) -> None:
        ended = Ended()
        ended.remember(NAME, 10.0)
        for issued_at, is_over in ((-500.0, True), (10.0, True), (10.1, False)):
            self.assertEqual(ended.knows(NAME, issued_at), is_over)
        for other in (("acme", "call", 2), ("acme", "other", 1), ("umbrella", "call", 1)):
            self.assertFalse(ended.knows(other, 0.0))

    def test_the_last_time_counts(self) -> None:
        ended = Ended()
        ended.remember(NAME, 10.0)
        ended.remember(NAME, 20.0)
        self.assertTrue(ended.knows(NAME, 15.0))
        self.assertEqual(len(ended), 1)

    def test_not_without_end(self) -> None:
        ended = Ended()
        for epoch in range(ENDED_MAX_COUNT + 3):
            ended.remember(("acme", "call", epoch), 10.0)
        self.assertEqual(len(ended), ENDED_MAX_COUNT)
        self.assertFalse(ended.knows(("acme", "call", 2), 0.0))
        self.assertTrue(ended.knows(("acme", "call", 3), 0.0))
