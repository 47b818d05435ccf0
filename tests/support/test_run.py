"""The runner counts what happened, each test once, and its exit code agrees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.case import SynchronousTestCase

ROOT: Final = Path(__file__).resolve().parents[2]

SAMPLE: Final = '''
import asyncio

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest

from tests.support.case import TestCase

async def sleep():
    await asyncio.sleep(60)

class Good(TestCase):
    def test_good(self):
        pass

    def test_ends_its_task(self):
        self.addCleanup(reactor._asyncioEventloop.create_task(sleep()).cancel)

class Bad(TestCase):
    def test_failure(self):
        self.fail("on purpose")

    def test_two_errors(self):
        self.addCleanup(lambda: 1 / 0)
        raise ValueError("on purpose")

    def test_error_in_cleanup(self):
        self.addCleanup(lambda: 1 / 0)

    def test_leaked_task(self):
        reactor._asyncioEventloop.create_task(sleep())

class Skipped(TestCase):
    def test_skipped(self):
        raise SkipTest("on purpose")

    def test_expected_failure(self):
        self.fail("on purpose")
    test_expected_failure.todo = "later"
'''

# When so many tests have passed it is, for the runner, as if much time had gone by; for its workers not.
STUCK: Final = """
import sys
import time

from tests.support.case import SynchronousTestCase

runner = sys.modules["__main__"]
if hasattr(runner, "CountingReporter"):
    class Late(runner.CountingReporter):
        def stopTest(self, test):
            super().stopTest(test)
            if len(self.passed) == {passed}:
                self.ended_at -= 1000

    runner.CountingReporter = Late

class Stuck(SynchronousTestCase):
    def test_a(self): pass
    def test_b(self): time.sleep(50)
    def test_c(self): pass
"""


class RunnerTests(SynchronousTestCase):
    """Runs of a small package of tests, as a process."""

    def setUp(self) -> None:
        self.directory = self.mktemp_path()
        package = self.directory / "sample"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "test_sample.py").write_text(SAMPLE)
        (package / "test_broken.py").write_text("import there_is_no_such_module\n")

    def run_tests(self, *arguments: str, **environment: str) -> tuple[str, int]:
        """The last line of the output, and the exit code."""
        paths = os.pathsep.join([str(ROOT), str(self.directory)])
        kept = {name: value for name, value in os.environ.items() if name != "CI"}
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.run", *arguments],
            cwd=self.directory,
            env={**kept, "PYTHONPATH": paths, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        self.assertEqual(done.stdout.count(" passed, "), 1, done.stdout + done.stderr)
        return done.stdout.splitlines()[-1], done.returncode

    def test_everything(self) -> None:
        self.assertEqual(self.run_tests("sample"), ("2 passed, 5 failed, 2 skipped", 1))

    def test_in_two_processes(self) -> None:
        self.assertEqual(self.run_tests("--jobs", "2", "sample"), ("2 passed, 5 failed, 2 skipped", 1))

    def test_good_ones(self) -> None:
        outcome = self.run_tests("sample.test_sample.Good", CI="true")
        self.assertEqual(outcome, ("2 passed, 0 failed, 0 skipped", 0))

    def test_skipping_is_a_failure_in_ci_only(self) -> None:
        names = ("sample.test_sample.Good", "sample.test_sample.Skipped")
        self.assertEqual(self.run_tests(*names), ("2 passed, 0 failed, 2 skipped", 0))
        self.assertEqual(self.run_tests(*names, CI="true"), ("2 passed, 0 failed, 2 skipped", 1))

    def test_nothing_but_skipped_is_no_success(self) -> None:
        self.assertEqual(self.run_tests("sample.test_sample.Skipped"), ("0 passed, 0 failed, 2 skipped", 1))

    def test_a_test_without_end(self) -> None:
        (self.directory / "sample" / "test_stuck.py").write_text(STUCK.format(passed=1))
        outcome = self.run_tests("sample.test_stuck")
        self.assertEqual(outcome, ("1 passed, 2 failed, 0 skipped", 1))

    def test_a_worker_without_end(self) -> None:
        (self.directory / "sample" / "test_stuck.py").write_text(STUCK.format(passed=2))
        outcome = self.run_tests("--jobs", "2", "sample.test_stuck")
        self.assertEqual(outcome, ("2 passed, 1 failed, 0 skipped", 1))

    def test_a_run_that_does_not_begin(self) -> None:
        """Another one has the directory; trial's runner of workers would wait for ever."""
        cache = self.directory / ".cache"
        cache.mkdir()
        (cache / "trial.lock").symlink_to(str(os.getpid()))
        (cache / "trial").mkdir()
        outcome = self.run_tests("--jobs", "2", "sample.test_sample.Good", TEST_STUCK_S="1")
        self.assertEqual(outcome, ("0 passed, 2 failed, 0 skipped", 1))

    def test_another_reactor_is_refused(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "twisted.trial", "--reactor=epoll", "sample.test_sample"],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.directory)])},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        self.assertIn("make test", done.stderr)
        self.assertNotEqual(done.returncode, 0)
