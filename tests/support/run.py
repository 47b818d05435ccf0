"""Run tests under trial on the daemon's reactor; the last line printed counts them.

    python -m tests.support.run [trial options] [tests.some.module ...]

``N passed, N failed, N skipped`` counts tests, each once, from the results of this run. Failed is
whatever is not one of the others: failures, errors (in tests, fixtures, imports), unexpected
successes and tests that should have run and did not. An expected failure counts as skipped. With
``CI=true`` in the environment a skipped test fails the run: there everything has to be there.
When no test has ended for ``TEST_STUCK_S`` (300) seconds the run is ended, counted as far as it came.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import TestSuite

from twisted.python import usage
from twisted.scripts import trial
from twisted.trial.reporter import VerboseTextReporter

_DEFAULTS = ("--reactor=voiceingest", "--temp-directory=.cache/trial")


class CountingReporter(VerboseTextReporter):
    """Trial's verbose reporter, which also remembers which tests passed and when one last ended."""

    def __init__(self, run: Run, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.passed: set[str] = set()
        self.ended_at = time.monotonic()
        run.reporter = self

    def addSuccess(self, test: Any) -> None:
        """Remember one test that passed."""
        super().addSuccess(test)  # type: ignore[no-untyped-call]
        self.passed.add(test.id())

    def stopTest(self, test: Any) -> None:
        """Remember when a test ended."""
        super().stopTest(test)  # type: ignore[no-untyped-call]
        self.ended_at = time.monotonic()


class Outcome:
    """What became of every test that was ``expected`` to run."""

    def __init__(self, reporter: Any, expected: set[str]) -> None:
        bad = (reporter.failures, reporter.errors, reporter.unexpectedSuccesses)
        failed = {test.id() for results in bad for test, *_ in results}
        left_out = (reporter.skips, reporter.expectedFailures)
        self.reasons = {test.id(): str(why[-1]) for results in left_out for test, *why in results}
        skipped = set(self.reasons) - failed
        passed = reporter.passed - failed - skipped
        self.not_run = sorted(expected - failed - skipped - passed)
        self.passed = len(passed)
        self.failed = len(failed) + len(self.not_run)
        self.skipped = len(skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def exit_code(self, may_skip: bool) -> int:
        """0 when something passed, nothing failed, and nothing was skipped that may not be."""
        return 0 if self.passed and not self.failed and (may_skip or not self.skipped) else 1


class Run:
    """One run of a suite, which has to come to an end."""

    def __init__(self, expected: set[str], stuck_s: float, may_skip: bool) -> None:
        self._expected = expected
        self._stuck_s = stuck_s
        self._may_skip = may_skip
        self._over = threading.Event()
        self._began_at = time.monotonic()
        self.reporter: CountingReporter | None = None

    def watch(self) -> None:
        """End the process when no test does, from a thread of its own: the main one may be stuck."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            reporter = self.reporter
            # Without one it has not begun: another run has the directory, say, and trial waits for nothing.
            since = self._began_at if reporter is None else reporter.ended_at
            if time.monotonic() - since < self._stuck_s:
                continue
            print(f"no test has ended for {self._stuck_s:.0f} s; what the runner is doing:", flush=True)
            faulthandler.dump_traceback()
            end_children()
            if reporter is None:
                print(f"0 passed, {len(self._expected)} failed, 0 skipped", flush=True)
            else:
                self.report(reporter)
            os._exit(1)

    def report(self, reporter: Any) -> int:
        """Print what became of the tests, the count last; the exit code."""
        self._over.set()
        outcome = Outcome(reporter, self._expected)
        for name in outcome.not_run:
            print(f"did not run: {name}")
        if not self._may_skip:
            for name, reason in sorted(outcome.reasons.items()):
                print(f"skipped, which is a failure here: {name}: {reason}")
        sys.stdout.flush()
        sys.stderr.flush()
        print(outcome, flush=True)
        return outcome.exit_code(self._may_skip)


def end_children() -> None:
    """Kill the worker processes: a stuck one would outlive us."""
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def test_ids(suite: Any) -> Iterator[str]:
    """The id of every test in ``suite``."""
    if isinstance(suite, TestSuite):
        for below in suite:
            yield from test_ids(below)
    else:
        yield suite.id()


def main(arguments: list[str]) -> int:
    """Run what ``arguments`` name (by default everything) and return the exit code."""
    config = trial.Options()
    try:
        config.parseOptions([*_DEFAULTS, *arguments])
    except usage.UsageError as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from None
    if not config["tests"]:
        config["tests"].append("tests")
    Path(config["temp-directory"]).parent.mkdir(parents=True, exist_ok=True)
    suite = trial._getSuite(config)
    may_skip = os.environ.get("CI", "").lower() not in ("1", "true")
    run = Run(set(test_ids(suite)), float(os.environ.get("TEST_STUCK_S", "300")), may_skip)
    config["reporter"] = partial(CountingReporter, run)
    runner = trial._makeRunner(config)
    run.watch()
    return run.report(runner.run(suite))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
