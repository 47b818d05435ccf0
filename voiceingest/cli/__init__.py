"""The command line people use: ``voiceingest``, one module per command.

``tree`` is the table of commands; what a command module imports at its top is light, because
``--help`` imports them all; Twisted and what stands on it is imported when a command runs.
"""

from __future__ import annotations

from .tree import main

__all__ = ["main"]
