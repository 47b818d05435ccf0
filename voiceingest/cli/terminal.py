"""A stream that people look at: lines, and below them an area that is drawn again and again.

Of the codes of ECMA-48 only those that whatever calls itself a terminal knows: SGR (colour), CUU (up), EL
and ED (erase). The cursor is never hidden and nothing is switched on: a command that is killed leaves
nothing behind.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Final, TextIO

# Text, and how it looks: words of ``_CODES``.
Span = tuple[str, str]
Line = Sequence[Span]

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_USUAL: Final = os.terminal_size((80, 24))
_GAP: Final = 2
# A first column that is too wide gives way, down to this.
_FIRST_MIN_CELLS: Final = 12


def is_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a person sees ``stream`` on something that can redraw a line."""
    return stream.isatty() and environ.get("TERM", "") != "dumb"


def styled(text: str, style: str) -> str:
    """``text`` between the codes of ``style``."""
    codes = ";".join(_CODES[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m" if codes and text else text


def cells(text: str) -> int:
    """How wide a terminal shows ``text``, which has no control characters."""
    return sum(_cells_of(letter) for letter in text)


def _cells_of(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def cut(text: str, width: int) -> str:
    """As much of ``text`` as fits; where that is not all, it ends with an ellipsis."""
    if cells(text) <= width:
        return text
    kept = ""
    for letter in text:
        if cells(kept) + _cells_of(letter) >= width:
            break
        kept += letter
    return kept + "…" if width > 0 else ""


def grid(rows: Sequence[Line], width: int) -> list[Line]:
    """Rows as lines of ``width`` at most, their columns under one another."""
    widths = [max(cells(text) for text, _ in column) for column in zip_longest(*rows, fillvalue=("", ""))]
    over = sum(widths) + _GAP * (len(widths) - 1) - width
    if over > 0:
        widths[0] = max(min(widths[0], _FIRST_MIN_CELLS), widths[0] - over)
    lines: list[Line] = []
    for row in rows:
        line: list[Span] = []
        for (text, style), room in zip(row, widths, strict=False):
            shown = cut(text, room)
            line += [(shown, style), (" " * (room - cells(shown) + _GAP), "")]
        lines.append(line[:-1])
    return lines


class Terminal:
    """One stream. ``moves``: whether anything on it can be drawn again."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self._stream, self._environ = stream, environ
        self.moves = is_terminal(stream, environ)
        # https://no-color.org
        self._has_style = self.moves and not environ.get("NO_COLOR")
        self._area: list[str] = []

    @property
    def width(self) -> int:
        """Cells of a line of the area; in the last column some terminals are on the next line."""
        return self._size().columns - 1

    def _size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            size = _USUAL
        told = self._environ.get("COLUMNS", "")
        columns = int(told) if told.isdecimal() else size.columns
        return os.terminal_size((columns or _USUAL.columns, size.lines or _USUAL.lines))

    def print(self, *lines: Line) -> None:
        """Lines that stay, above the area."""
        said = "".join(self._shown(line) + "\n" for line in lines)
        self._put(self._up() + ("\x1b[J" if self._area else "") + said + self._below())

    def draw(self, lines: Sequence[Line]) -> None:
        """The area, as it is from now on; no more of it than there is room for."""
        width, height = self.width, self._size().lines
        up = self._up()
        self._area = [self._shown(_fitted(line, width)) for line in lines[: height - 1]]
        self._put(up + self._below() + "\x1b[J")

    def clear(self) -> None:
        """Take the area off."""
        if self._area:
            self.draw([])

    def _shown(self, line: Line) -> str:
        return "".join(styled(text, style) if self._has_style else text for text, style in line)

    def _up(self) -> str:
        """To the first line of the area; it was left on its last."""
        above = len(self._area) - 1
        return f"\r\x1b[{above}A" if above > 0 else "\r" if above == 0 else ""

    def _below(self) -> str:
        return "\n".join(line + "\x1b[K" for line in self._area)

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _fitted(line: Line, width: int) -> Line:
    fitted, room = [], width
    for text, style in line:
        shown = cut(text, room)
        fitted.append((shown, style))
        room -= cells(shown)
    return fitted
