"""How the start and the end of the process are told to whoever waits for it.

``reactor.stop()`` ends twistd with exit code 0 whatever the reason, and a daemonized twistd reports
success before the reactor has run at all: with a busy port ``Restart=on-failure`` would never fire
and a shell script would believe the daemon is up. Both are put right here.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final

# What the waiting parent reads of the status pipe (twisted.scripts._twistd_unix._waitForStart).
_STATUS_MAX_BYTES: Final = 100


def leave(code: int) -> None:
    """End the process with ``code`` where Python would end it with 0; what was written is flushed."""
    try:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
    finally:
        # Whatever the flush met (nobody reads any more): the exit code is what counts.
        os._exit(code)


class Outcome:
    """Tells the shell, the parent of a daemon or systemd how it went."""

    def __init__(
        self,
        twistd: MutableMapping[str, Any] | None,
        say: Callable[[str], object],
        at_exit: Callable[..., object] = atexit.register,
    ) -> None:
        """``twistd`` holds twistd's own options; ``say`` writes a line for people."""
        self._twistd = twistd
        self._say = say
        self._at_exit = at_exit
        self._pipe: int | None = None
        self._code = 0

    @property
    def code(self) -> int:
        """The exit code so far."""
        return self._code

    def hold(self) -> None:
        """Keep the parent of a daemon waiting: the pipe that twistd would say "0" on is taken over."""
        if self._twistd is not None:
            self._pipe = self._twistd.pop("statusPipe", None)

    def started(self) -> None:
        """Everything is up."""
        self._tell_parent(b"0")

    def failed(self, reason: str) -> None:
        """It did not come up: say why in one line and end with exit code 1."""
        line = " ".join(reason.split())
        self._say(f"voiceingest: {line}\n")
        self._tell_parent(b"1 " + line.encode("ascii", "backslashreplace"))
        self.exit_with(1)

    def exit_with(self, code: int) -> None:
        """End the process with ``code``, once twistd is through (pid file removed, logs closed)."""
        if self._code == 0:
            self._at_exit(leave, code)
        self._code = code

    def _tell_parent(self, status: bytes) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        try:
            os.write(pipe, status[:_STATUS_MAX_BYTES])
        except BrokenPipeError:
            # Whoever started the daemon did not wait; the exit code and the log still tell.
            return
        finally:
            os.close(pipe)
