"""The reactor the daemon runs on: asyncio's selector loop, with a clock nobody can step.

Installed by ``voiceingest.tap`` before anything else is imported (txredisapi and others would
install epoll by the import alone), and by name: ``trial --reactor=voiceingest``.
uvloop is not used: Twisted's own transports are no faster on it, and they carry the audio.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.main import installReactor
from twisted.internet.posixbase import PosixReactorBase

from .errors import WrongReactor

_MODULE = "twisted.internet.reactor"


class VoiceReactor(AsyncioSelectorReactor):
    """The asyncio reactor with two corrections and two short cuts."""

    # Twisted's is ``time.time``: a wall clock stepped back by an hour stalls every timer by an hour.
    seconds = staticmethod(time.monotonic)

    def __init__(self, eventloop: asyncio.AbstractEventLoop) -> None:
        # Who has something to write, and will be asked in the next turn; who is being asked now.
        self._willing: dict[Any, None] = {}
        self._asked: dict[Any, None] = {}
        super().__init__(eventloop)

    def crash(self) -> None:
        """Leave the loop, if it runs.

        Stock Twisted stops the loop even when idle, and asyncio remembers that for the next run:
        with ``trial -jN`` every test after the first asynchronous one then ends at once.
        """
        PosixReactorBase.crash(self)
        if self._asyncioEventloop.is_running():
            self._asyncioEventloop.stop()

    def addReader(self, reader: Any) -> None:
        """Watch for input. Twisted's hook.

        Stock Twisted sets the logging context of ``twisted.python.log`` around every read, which
        our log does not use: 3 us of the 20 us that reading one frame from a socket costs.
        """
        if reader in self._readers:
            return
        try:
            self._asyncioEventloop.add_reader(reader.fileno(), self._readOrWrite, reader, True)
        except OSError:
            # What epoll cannot watch (a plain file) is left to Twisted, which polls it.
            super().addReader(reader)
        else:
            self._readers[reader] = reader.fileno()

    def addWriter(self, writer: Any) -> None:
        """Let it write in the next turn. Twisted's hook.

        Stock Twisted has the kernel tell it first that the socket takes bytes, which it nearly always
        does: two calls of ``epoll_ctl`` and 20 us for every ack. Here that is for what was not taken.
        """
        if writer in self._willing or writer in self._asked or writer in self._writers:
            return
        if not self._willing:
            self._asyncioEventloop.call_soon(self._write)
        self._willing[writer] = None

    def removeWriter(self, writer: Any) -> None:
        """It has no more to write. Twisted's hook."""
        self._willing.pop(writer, None)
        self._asked.pop(writer, None)
        super().removeWriter(writer)

    def removeAll(self) -> list[Any]:
        """Let go of everybody. Twisted's hook."""
        self._watch(self._willing)
        return list(super().removeAll())

    def getWriters(self) -> list[Any]:
        """Who has something to write. Twisted's hook."""
        return [*super().getWriters(), *self._willing, *self._asked]

    def _write(self) -> None:
        asked, self._willing = self._willing, {}
        self._asked = asked
        for writer in list(asked):
            # It may be gone by what another one did.
            if writer in asked:
                self._readOrWrite(writer, False)
        self._watch(asked)

    def _watch(self, writers: dict[Any, None]) -> None:
        """Leave those to the kernel that still have something to write."""
        left = list(writers)
        writers.clear()
        for writer in left:
            super().addWriter(writer)


def install() -> None:
    """Install the reactor of the daemon, or keep the asyncio reactor that is there.

    Raises: ``WrongReactor`` when another one was imported or forced before.
    """
    # Without the C code Autobahn unmasks 13 KB in 1267 us instead of 4; with it asked for, its
    # absence is an error at import instead of a slow daemon.
    os.environ.setdefault("AUTOBAHN_USE_NVX", "1")
    current = sys.modules.get(_MODULE)
    if current is None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        installReactor(VoiceReactor(loop))
        return
    if not isinstance(current, AsyncioSelectorReactor):
        raise WrongReactor(
            f"voiceingest needs the asyncio reactor and {type(current).__name__} is installed:"
            " leave --reactor out, or say --reactor=voiceingest"
        )
    if current.getDelayedCalls():
        raise WrongReactor("the asyncio reactor that is installed already has timers on the wall clock")
    current.seconds = time.monotonic


def install_or_exit() -> None:
    """Install the reactor; one line on standard error and exit code 1 when that cannot be."""
    try:
        install()
    except WrongReactor as error:
        raise SystemExit(f"voiceingest: {error.message}") from None
