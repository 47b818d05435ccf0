"""How a command ends: exit codes, and the one line an error is told in."""

from __future__ import annotations

import enum
from typing import IO, Any

import click


class Exit(enum.IntEnum):
    """The exit codes of every command; ``--help`` and the reference page are written from here."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NO_CONNECTION = 3
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """What it tells a script."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "everything asked for was done",
    Exit.REFUSED: "refused, lost, invalid or different: it ran, and the answer is no",
    Exit.USAGE: "the command line, a file or a setting is not usable",
    Exit.NO_CONNECTION: "no connection could be made",
    Exit.INTERRUPTED: "interrupted before it began, or a second time: left at once",
}


class CommandFailed(click.ClickException):
    """Ends a command with one line, an optional hint and an exit code; never a traceback."""

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = Exit.REFUSED) -> None:
        super().__init__(message)
        self.hint = hint
        # Click reads it off the instance and types it on the class.
        self.exit_code = int(exit_code)  # type: ignore[misc]

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line and the hint on standard error."""
        click.echo(f"error: {self.message}", err=True, file=file)
        if self.hint:
            click.echo(f"hint: {self.hint}", err=True, file=file)


class UsageFailed(CommandFailed):
    """The command line, a file or a setting is not usable."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, exit_code=Exit.USAGE)


class ConnectionFailed(CommandFailed):
    """No connection could be made; ``reason`` is a short stable word for programs."""

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, exit_code=Exit.NO_CONNECTION)
        self.reason = reason
