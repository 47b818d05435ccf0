"""The standard streams of a command: always there, never in the way of what is to be written.

A supervisor may start a command with a descriptor closed, and Python then has ``None`` in its place:
the first file or socket that is opened would take its number, too. A locale may know fewer letters
than the audio's callers use.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Final, TextIO

# What writing to a full device or a closed terminal ends in; a closed pipe is another matter.
UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF})

_NAMES: Final = ("stdin", "stdout", "stderr")


def prepare() -> None:
    """Put the null device where a stream is closed; write escapes for letters it cannot show."""
    for name in _NAMES:
        if getattr(sys, name) is None:
            # The lowest number that is free: that of the stream, unless somebody has it already.
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon(stream: TextIO) -> None:
    """Let what is still written to a standard stream go nowhere.

    The interpreter flushes the streams once more at exit and would complain.
    """
    if stream in (sys.stdout, sys.stderr):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
