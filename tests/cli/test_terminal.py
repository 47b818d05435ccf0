"""Lines and the area below them, as a terminal shows them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.terminal import Line, Terminal, cells, cut, grid, is_terminal, styled

_PIECE = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[[0-9;]*m|([^\x1b])")


class Glass(io.StringIO):
    """What somebody sees: the codes that are used, understood by the book; anything else fails."""

    def isatty(self) -> bool:
        return True

    def seen(self) -> list[str]:
        rows, row, column = [""], 0, 0
        written = self.getvalue()
        self_checked = "".join(found[0] for found in _PIECE.finditer(written))
        assert self_checked == written, written
        for count, code, letter in _PIECE.findall(written):
            if code == "A":
                row -= int(count or 1)
                assert row >= 0, "above the screen"
            elif code == "K":
                rows[row] = rows[row][:column]
            elif code == "J":
                rows[row] = rows[row][:column]
                del rows[row + 1 :]
            elif letter == "\r":
                column = 0
            elif letter == "\n":
                row, column = row + 1, 0
                rows += [""] * (row + 1 - len(rows))
            elif letter:
                rows[row] = rows[row][:column] + letter + rows[row][column + 1 :]
                column += 1
        return rows


def plain(*lines: str) -> list[Line]:
    return [[(line, "")] for line in lines]


class TerminalCase(SynchronousTestCase):
    def terminal(self, environ: Mapping[str, str] | None = None) -> Terminal:
        self.glass = Glass()
        return Terminal(self.glass, {"COLUMNS": "41"} if environ is None else environ)


class AreaTests(TerminalCase):
    def test_it_is_drawn_in_its_place(self) -> None:
        terminal = self.terminal()
        terminal.print(*plain("said"))
        terminal.draw(plain("one longer", "two"))
        self.assertEqual(self.glass.seen(), ["said", "one longer", "two"])
        terminal.draw(plain("1", "2", "3"))
        self.assertEqual(self.glass.seen(), ["said", "1", "2", "3"])
        terminal.draw(plain("less"))
        self.assertEqual(self.glass.seen(), ["said", "less"])

    def test_what_is_said_comes_above_it(self) -> None:
        terminal = self.terminal()
        terminal.draw(plain("meter", "meter 2"))
        terminal.print(*plain("a line that is longer", "another"))
        self.assertEqual(self.glass.seen(), ["a line that is longer", "another", "meter", "meter 2"])

    def test_it_is_taken_off(self) -> None:
        terminal = self.terminal()
        terminal.print(*plain("said"))
        terminal.draw(plain("one", "two"))
        terminal.clear()
        terminal.clear()
        self.assertEqual(self.glass.seen(), ["said", ""])
        terminal.print(*plain("more"))
        self.assertEqual(self.glass.seen(), ["said", "more", ""])

    def test_it_is_never_wider_nor_higher_than_the_terminal(self) -> None:
        terminal = self.terminal()
        terminal.draw([[("x" * 30, "bold"), ("y" * 30, "red")]] * 40)
        seen = self.glass.seen()
        self.assertEqual(seen[0], "x" * 30 + "y" * 9 + "…")
        self.assertEqual(len(seen), 23)

    def test_how_wide(self) -> None:
        # Not a terminal that can be asked: what is usual.
        for environ, width in (({}, 79), ({"COLUMNS": "120"}, 119), ({"COLUMNS": "wide"}, 79)):
            self.assertEqual(self.terminal(environ).width, width)


class StyleTests(TerminalCase):
    def test_codes(self) -> None:
        self.assertEqual(styled("x", "bold red"), "\x1b[1;31mx\x1b[0m")
        self.assertEqual((styled("x", ""), styled("", "red")), ("x", ""))

    def test_where_there_is_none(self) -> None:
        for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            self.terminal(environ).print([("x", "red"), ("y", "")])
            self.assertEqual(self.glass.getvalue(), "xy\n")

    def test_is_terminal(self) -> None:
        self.assertTrue(is_terminal(Glass(), {}))
        self.assertFalse(is_terminal(io.StringIO(), {}))
        self.assertFalse(is_terminal(Glass(), {"TERM": "dumb"}))


class WidthTests(SynchronousTestCase):
    def test_cells(self) -> None:
        for text, count in (("", 0), ("abc", 3), ("通話", 4), ("e\u0301", 1), ("━╌", 2)):
            self.assertEqual(cells(text), count)

    def test_cut(self) -> None:
        for text, width, shown in (
            ("call-7", 6, "call-7"),
            ("call-7", 5, "call…"),
            ("call-7", 1, "…"),
            ("call-7", 0, ""),
            ("通話通話", 6, "通話…"),
            ("通話通話", 5, "通話…"),
        ):
            self.assertEqual(cut(text, width), shown)

    @given(st.text(st.characters(exclude_categories=["C"])), st.integers(0, 20))
    def test_what_is_cut_fits(self, text: str, width: int) -> None:
        self.assertLessEqual(cells(cut(text, width)), width)


class GridTests(SynchronousTestCase):
    def shown(self, rows: list[Line], width: int) -> list[str]:
        return ["".join(text for text, _ in line) for line in grid(rows, width)]

    def test_columns_are_under_one_another(self) -> None:
        rows: list[Line] = [[("通話", "bold"), ("1", ""), ("x", "")], [("call", ""), ("200", ""), ("", "")]]
        self.assertEqual(self.shown(rows, 80), ["通話  1    x", "call  200  "])
        self.assertEqual(grid(rows, 80)[0][0], ("通話", "bold"))

    def test_the_first_gives_way(self) -> None:
        rows: list[Line] = [[("a" * 40, ""), ("1234567890", "")]]
        self.assertEqual(self.shown(rows, 40), ["a" * 27 + "…  1234567890"])
        self.assertEqual(self.shown(rows, 10), ["a" * 11 + "…  1234567890"])

    def test_nothing(self) -> None:
        self.assertEqual(grid([], 80), [])
