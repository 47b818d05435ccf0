"""The command as a process of its own, in a pipe or at a terminal, to be watched and signalled.

What ends before the reactor runs needs no process: ``invoked``.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, Final
from unittest.mock import patch

from click.testing import CliRunner, Result
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.support.case import TestCase
from tests.support.daemon import ROOT
from voiceingest.cli.tree import root

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
_POLL_S: Final = 0.02
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def coroutine(test: Callable[[Any], Any]) -> Callable[[Any], Deferred[None]]:
    """A test written as a coroutine of Twisted."""

    @wraps(test)
    def run(self: Any) -> Deferred[None]:
        return ensureDeferred(test(self))

    return run


def invoked(*arguments: Any) -> Result:
    """Run the command in this process, with nothing of what it reads in the environment.

    Raises: ``AssertionError`` when it wants the reactor, which is the tests'.
    """
    nothing = dict.fromkeys(("JWT_TOKEN", "WS_URL", "PUBLISH_URL", "REDIS_URL", "ADMIN_TOKEN"))
    with patch("voiceingest.cli.running.run", side_effect=AssertionError("it runs the reactor")):
        result = CliRunner(env=nothing).invoke(root, [*map(str, arguments)])
    if isinstance(result.exception, AssertionError):
        raise result.exception
    return result


def _whole_characters(written: bytearray) -> str:
    """Text so far: of its last character there may be a half."""
    return codecs.getincrementaldecoder("utf-8")().decode(bytes(written))


class Program(ProcessProtocol):
    """One run of ``voiceingest``."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._out = bytearray()
        self._err = bytearray()
        self.code: int | None = None
        self.ended: Deferred[int] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self._out += data

    def errReceived(self, data: bytes) -> None:
        self._err += data

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        self.code = -value.signal if value.signal else (value.exitCode or 0)
        self.ended.callback(self.code)

    @property
    def out(self) -> str:
        """Standard output so far."""
        return _whole_characters(self._out)

    @property
    def err(self) -> str:
        """Standard error so far."""
        return _whole_characters(self._err)

    @property
    def seen(self) -> str:
        """What a terminal was sent, without its escapes."""
        return _ESCAPE.sub("", self.out)

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    def signal(self, name: str) -> None:
        """Send a signal."""
        self.transport.signalProcess(name)

    def kill(self) -> Deferred[int] | None:
        """End it, if it has not ended."""
        if self.code is not None:
            return None
        try:
            self.signal("KILL")
        except ProcessExitedAlready:
            return None
        return self.ended

    async def until(self, condition: Callable[[], Any], deadline_s: float = 45.0) -> None:
        """Wait for something about it. Raises: ``AssertionError`` when it does not happen."""
        end = self._reactor.seconds() + deadline_s
        while not condition():
            if self.code is not None or self._reactor.seconds() > end:
                raise AssertionError(f"it did not happen (exit code {self.code}):\n{self.out}\n{self.err}")
            await deferLater(self._reactor, _POLL_S)


class ProgramCase(TestCase):
    """Tests that start the command."""

    def start(self, *arguments: Any, terminal: bool = False, **environ: str) -> Program:
        """Start it. With ``terminal`` its standard streams are a pseudo-terminal of 110 columns."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        program = Program(reactor)
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "110", "LINES": "30", **environ}
        command = [sys.executable, "-m", "voiceingest.cli", *map(str, arguments)]
        self.reactor.spawnProcess(program, sys.executable, command, env=environment, usePTY=terminal)
        self.addCleanup(program.kill)
        return program

    async def run_it(self, *arguments: Any, **environ: str) -> Program:
        """Run it in a pipe to its end."""
        program = self.start(*arguments, **environ)
        await program.ended
        self.assertNotIn("Traceback", program.out + program.err)
        self.assertNotIn("\x1b", program.out + program.err)
        return program
