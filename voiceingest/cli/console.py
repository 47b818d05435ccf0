"""Where words go: colour and motion for a person at a terminal, plain lines in a pipe, JSON for
programs. With JSON, standard output carries nothing else and people read standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TextIO

from .failures import CommandFailed
from .standard import abandon
from .terminal import Line, Terminal

_BAR_CELLS: Final = 28


def printable(text: str) -> str:
    """``text`` without control characters: what came over a network must not move the cursor."""
    return "".join(c if unicodedata.category(c)[0] != "C" else f"\\x{ord(c):02x}" for c in text)


class Console:
    """The output of one command."""

    def __init__(
        self, *, json_output: bool = False, out: TextIO | None = None, err: TextIO | None = None
    ) -> None:
        self.json_output = json_output
        self._documents = out or sys.stdout
        self._beside = err or sys.stderr
        self._people = Terminal(self._beside if json_output else self._documents, os.environ)
        self._notes = self._people if json_output else Terminal(self._beside, os.environ)
        self._is_deaf = False
        self.closed = False
        self.when_closed: Callable[[], None] | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at it who can be shown what moves."""
        return self._people.moves

    @property
    def width(self) -> int:
        """Cells of a line of what is drawn."""
        return self._people.width

    def say(self, text: str = "", style: str = "") -> None:
        """One line for people."""
        self._tell(lambda: self._people.print([(text, style)]))

    def note(self, text: str, style: str = "yellow") -> None:
        """One line beside the result: a warning, a hint, what happens now. Standard error."""
        if self._notes.moves:
            # It may be the same terminal, and what is drawn on it in the way.
            self.draw([])
        self._aside(lambda: self._notes.print([(text, style)]))

    def pairs(self, rows: Mapping[str, str]) -> None:
        """A summary, one ``name: value`` line each, the values in one column."""
        if not rows:
            return
        width = max(map(len, rows)) + 2
        lines = [[(f"{name + ':':<{width}}", "bold cyan"), (value, "")] for name, value in rows.items()]
        self._tell(lambda: self._people.print(*lines))

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Lines in columns below their heads."""
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        texts = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (heads, *rows)
        ]
        lines = [[(text, "" if number else "bold cyan")] for number, text in enumerate(texts)]
        self._tell(lambda: self._people.print(*lines))

    def document(self, value: object) -> None:
        """One JSON document on one line of standard output; nothing unless JSON was asked for."""
        if self.json_output:
            self._write(lambda: self._put(json.dumps(value) + "\n"))

    def data(self, text: str) -> None:
        """The result itself, as it is, on standard output."""
        self._write(lambda: self._put(text + "\n"))

    def draw(self, lines: Sequence[Line]) -> None:
        """What is shown at the end of the terminal from now on; no lines: nothing. Only there."""
        if self.is_terminal:
            self._tell(lambda: self._people.draw(lines) if lines else self._people.clear())

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

    def __init__(
        self, console: Console, label: str, total_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._label, self._total_s = console, label, total_s
        self._clock, self._began_s = clock, clock()
        # Whether anybody sees it: where nobody does, no level need be computed.
        self.visible = console.is_terminal

    def update(self, done_s: float, level: str, note: str) -> None:
        """Show how far it has come."""
        if not self.visible:
            return
        whole = round(_BAR_CELLS * min(1.0, done_s / self._total_s)) if self._total_s else _BAR_CELLS
        self._console.draw(
            [[
                (f"{self._label} ", ""),
                ("━" * whole, "cyan"),
                ("╌" * (_BAR_CELLS - whole), "dim"),
                (f" {done_s:5.1f}/{self._total_s:.1f} s ", ""),
                (level, "green"),
                (f" {note} ", ""),
                (self._left(done_s), "cyan"),
            ]]
        )  # fmt: skip

    def _left(self, done_s: float) -> str:
        """How long it will still take, should it go on as it went so far."""
        if done_s <= 0:
            return "-:--"
        left_s = round((self._clock() - self._began_s) / done_s * max(0.0, self._total_s - done_s))
        return f"{left_s // 60}:{left_s % 60:02}"

    def close(self) -> None:
        """Take it off the screen."""
        if self.visible:
            self._console.draw([])
            self.visible = False
