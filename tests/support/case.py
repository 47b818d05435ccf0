"""The base classes of tests: what a test may not leave behind, and the reactor it runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial import unittest

_COMMAND = "make test, or: python -m tests.support.run tests.some.test_module"

# A cancelled task needs a turn of the loop or two to end; a leaked one is still there after these.
_TURNS = 20


class SynchronousTestCase(unittest.SynchronousTestCase):
    """For what needs no reactor; ``async def`` tests do not belong here: they would not run."""

    def mktemp_path(self) -> Path:
        """A path of this test's own, in an existing directory, with nothing there yet."""
        return Path(self.mktemp()).absolute()  # type: ignore[no-untyped-call]


class TestCase(unittest.TestCase):
    """For what needs the reactor: refuses the wrong one, fails on leaked asyncio tasks."""

    # For what hangs: no deadline of anything a test is about.
    timeout = 150

    def run(self, result: Any = None) -> Any:
        """Run the test; the cleanup added first is the last to run."""
        self.addCleanup(self._no_tasks_left, _tasks())
        return super().run(result)  # type: ignore[no-untyped-call]

    def mktemp_path(self) -> Path:
        """A path of this test's own, in an existing directory, with nothing there yet."""
        return Path(self.mktemp()).absolute()  # type: ignore[no-untyped-call]

    @inlineCallbacks
    def _no_tasks_left(self, before: set[asyncio.Task[Any]]) -> Generator[Deferred[Any], Any, None]:
        from twisted.internet import reactor

        for _ in range(_TURNS):
            if not _tasks() - before:
                return
            yield deferLater(reactor, 0)
        leaked = _tasks() - before
        for task in leaked:
            task.cancel()
        names = sorted(repr(task.get_coro()) for task in leaked)
        self.fail(f"{len(leaked)} asyncio tasks outlived the test: {names}")


def require_reactor() -> asyncio.AbstractEventLoop:
    """The loop of the reactor in use. Raises: ``SystemExit`` when that is not ours, with the command."""
    from twisted.internet import reactor

    loop = getattr(reactor, "_asyncioEventloop", None)
    if loop is None:
        raise SystemExit(
            f"these tests need the voiceingest reactor and {type(reactor).__name__} is installed: {_COMMAND}"
        )
    assert isinstance(loop, asyncio.AbstractEventLoop)
    return loop


def _tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks(require_reactor()) if not task.done()}
