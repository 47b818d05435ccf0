from __future__ import annotations

import io

from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.cli.console import Console
from voiceingest.cli.failures import UsageFailed
from voiceingest.cli.reading import BusMessage
from voiceingest.cli.screen import Screen
from voiceingest.cli.watch import Watch

from .test_screen import Terminal, frame


class WatchTests(SynchronousTestCase):
    def watch(self, kind: type[io.StringIO] = io.StringIO, count: int | None = None) -> Watch:
        self.clock = Clock()
        self.out = kind()
        self.enough: list[str] = []
        self.screen = Screen(Console(out=self.out, err=io.StringIO()))
        return Watch(self.clock, self.screen, lambda: self.enough.append("enough"), count)

    def test_enough_is_enough(self) -> None:
        watch = self.watch(count=2)
        for seq in range(1, 6):
            watch.message(frame(seq))
        self.assertEqual((self.enough, self.screen.follower.frames), (["enough"], 2))
        watch.close()

    def test_without_a_count_it_goes_on(self) -> None:
        watch = self.watch()
        for seq in range(1, 6):
            watch.message(frame(seq))
        self.assertEqual((self.enough, self.screen.follower.frames), ([], 5))
        watch.close()

    def test_a_failure_ends_it_and_is_raised_at_the_end(self) -> None:
        watch = self.watch()

        def full(message: BusMessage, now_s: float) -> None:
            raise UsageFailed("the disk is full")

        self.patch(self.screen, "heard", full)
        watch.message(frame(1))
        watch.message(frame(2))
        self.assertEqual(self.enough, ["enough"])
        with self.assertRaises(UsageFailed):
            watch.close()

    def test_a_terminal_is_redrawn(self) -> None:
        watch = self.watch(Terminal)
        watch.begin()
        watch.message(frame(1))
        self.clock.advance(1.0)
        self.assertIn("seq 1", self.out.getvalue())
        watch.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_pipe_is_not(self) -> None:
        watch = self.watch()
        watch.begin()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        watch.close()

    def test_a_redraw_that_fails_is_not_passed_over(self) -> None:
        watch = self.watch(Terminal)

        def broken(now_s: float) -> None:
            raise ZeroDivisionError

        self.patch(self.screen, "redraw", broken)
        watch.begin()
        self.assertEqual(self.enough, ["enough"])
        with self.assertRaises(ZeroDivisionError):
            watch.close()
