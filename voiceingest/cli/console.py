"""Where words go: colour and motion for a person at a terminal, plain lines in a pipe, JSON for
programs. With JSON, standard output carries nothing else and people read standard error.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

import rich.console
from rich.console import RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from .failures import CommandFailed
from .standard import abandon


def printable(text: str) -> str:
    """``text`` without control characters: what came over a network must not move the cursor."""
    return "".join(c if unicodedata.category(c)[0] != "C" else f"\\x{ord(c):02x}" for c in text)


def is_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a person sees ``stream`` on something that can redraw a line."""
    return stream.isatty() and environ.get("TERM", "") != "dumb"


class Console:
    """The output of one command."""

    def __init__(
        self, *, json_output: bool = False, out: TextIO | None = None, err: TextIO | None = None
    ) -> None:
        self.json_output = json_output
        self._documents = out or sys.stdout
        self._beside = err or sys.stderr
        people = self._beside if json_output else self._documents
        self.is_terminal = is_terminal(people, os.environ)
        self._people = _rich(people)
        self._notes = _rich(self._beside)
        self._is_deaf = False
        self.closed = False
        self.when_closed: Callable[[], None] | None = None

    def say(self, text: str = "", style: str | None = None) -> None:
        """One line for people."""
        self._tell(lambda: self._people.print(Text(text, style=style or ""), soft_wrap=True))

    def note(self, text: str, style: str = "yellow") -> None:
        """One line beside the result: a warning, a hint, what happens now. Standard error."""
        self._aside(lambda: self._notes.print(Text(text, style=style), soft_wrap=True))

    def pairs(self, rows: Mapping[str, str]) -> None:
        """A summary, one ``name: value`` line each, the values in one column."""
        if not rows:
            return
        width = max(map(len, rows)) + 2
        lines = [
            Text(f"{name + ':':<{width}}", style="bold cyan").append(Text(value, style="default"))
            for name, value in rows.items()
        ]
        self._tell(lambda: self._people.print(*lines, sep="\n", soft_wrap=True))

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Lines in columns below their heads."""
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = [
            Text("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
            for row in (heads, *rows)
        ]
        lines[0].stylize("bold cyan")
        self._tell(lambda: self._people.print(*lines, sep="\n", soft_wrap=True))

    def document(self, value: object) -> None:
        """One JSON document on one line of standard output; nothing unless JSON was asked for."""
        if self.json_output:
            self._write(lambda: self._put(json.dumps(value) + "\n"))

    def data(self, text: str) -> None:
        """The result itself, as it is, on standard output."""
        self._write(lambda: self._put(text + "\n"))

    def live(self) -> Live | None:
        """An area at the end of the terminal that can be redrawn; ``None`` where there is none."""
        if not self.is_terminal:
            return None
        return Live(console=self._people, auto_refresh=False, transient=True)

    def _put(self, text: str) -> None:
        self._documents.write(text)
        self._documents.flush()

    def _tell(self, write: Callable[[], None]) -> None:
        (self._aside if self.json_output else self._write)(write)

    def _aside(self, write: Callable[[], None]) -> None:
        """Write on standard error; the result does not depend on whether that can be read."""
        if self._is_deaf:
            return
        try:
            write()
        except OSError:
            self._is_deaf = True
            abandon(self._beside)

    def _write(self, write: Callable[[], None]) -> None:
        """Write, unless nobody reads any more (``voiceingest tail | head -1``)."""
        if self.closed:
            return
        try:
            write()
        except BrokenPipeError:
            self._give_up()
            if self.when_closed is not None:
                self.when_closed()
        except OSError as problem:
            self._give_up()
            raise CommandFailed(f"the output cannot be written: {problem.strerror}") from problem

    def _give_up(self) -> None:
        self.closed = True
        abandon(self._documents)


class SpeechBar:
    """A progress bar with a level meter beside it; at anything but a terminal it does nothing."""

    def __init__(self, console: Console, label: str, total_s: float) -> None:
        self._live = console.live()
        self._progress: Progress | None = None
        self._task = TaskID(0)
        if self._live is not None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TextColumn("{task.completed:5.1f}/{task.total:.1f} s"),
                TextColumn("[green]{task.fields[level]}"),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(compact=True),
                auto_refresh=False,
            )
            self._task = self._progress.add_task(label, total=total_s, level="", note="")
            self._live.start()

    @property
    def visible(self) -> bool:
        """Whether anybody sees it: where nobody does, no level need be computed."""
        return self._live is not None

    def update(self, done_s: float, level: str, note: str) -> None:
        """Show how far it has come."""
        if self._live is not None and self._progress is not None:
            self._progress.update(self._task, completed=done_s, level=level, note=note)
            self._live.update(self._progress.get_renderable(), refresh=True)

    def close(self) -> None:
        """Take it off the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def show(live: Live | None, renderable: RenderableType) -> None:
    """Redraw a live area, where there is one."""
    if live is not None:
        live.update(renderable, refresh=True)


class _Rich(rich.console.Console):
    """Rich's console, without its own idea of what to do when nobody reads: it would exit at once."""

    def on_broken_pipe(self) -> None:
        """Called while one ``BrokenPipeError`` is being handled: let another through."""
        raise BrokenPipeError


def _rich(stream: TextIO) -> rich.console.Console:
    terminal = is_terminal(stream, os.environ)
    options: dict[str, Any] = {} if terminal else {"color_system": None}
    return _Rich(file=stream, force_terminal=terminal, highlight=False, markup=False, emoji=False, **options)
