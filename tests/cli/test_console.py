from __future__ import annotations

import io
import json
import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from tests.support.daemon import ROOT
from voiceingest.cli.console import Console, SpeechBar, printable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ConsoleCase(SynchronousTestCase):
    def setUp(self) -> None:
        for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS"):
            self.patch_environment(name, None)
        self.patch_environment("TERM", "xterm")

    def patch_environment(self, name: str, value: str | None) -> None:
        before = os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value

        def restore() -> None:
            os.environ.pop(name, None)
            if before is not None:
                os.environ[name] = before

        self.addCleanup(restore)

    def console(self, kind: type[io.StringIO], *, json_output: bool = False) -> Console:
        self.out, self.err = kind(), kind()
        return Console(json_output=json_output, out=self.out, err=self.err)


class PipeTests(ConsoleCase):
    def test_plain_lines_without_an_escape_or_a_wrap(self) -> None:
        console = self.console(io.StringIO)
        console.say("x" * 300, style="bold red")
        console.pairs({"one": "1", "three": "[red]3[/red] :smile:"})
        console.note("careful")
        self.assertEqual(self.out.getvalue(), "x" * 300 + "\none:   1\nthree: [red]3[/red] :smile:\n")
        self.assertEqual(self.err.getvalue(), "careful\n")

    def test_nothing_moves(self) -> None:
        console = self.console(io.StringIO)
        console.draw([[("anything", "")]])
        bar = SpeechBar(console, "speaking", 6.0)
        bar.update(1.0, "", "")
        bar.close()
        self.assertFalse(bar.visible)
        self.assertEqual(self.out.getvalue() + self.err.getvalue(), "")

    def test_no_json_unless_asked(self) -> None:
        console = self.console(io.StringIO)
        console.document({"a": 1})
        console.data("the result")
        console.pairs({})
        self.assertEqual(self.out.getvalue(), "the result\n")


class JsonTests(ConsoleCase):
    def test_documents_alone_on_standard_output(self) -> None:
        console = self.console(io.StringIO, json_output=True)
        console.say("for people")
        console.pairs({"a": "b"})
        console.document({"ok": True, "text": "\x1b[2J"})
        console.document({"ok": False})
        documents = [json.loads(line) for line in self.out.getvalue().splitlines()]
        self.assertEqual(documents, [{"ok": True, "text": "\x1b[2J"}, {"ok": False}])
        self.assertNotIn("\x1b", self.out.getvalue())
        self.assertEqual(self.err.getvalue(), "for people\na: b\n")


class TerminalTests(ConsoleCase):
    def test_colour(self) -> None:
        console = self.console(Terminal)
        console.say("good", style="bold green")
        console.pairs({"a": "b"})
        self.assertEqual(self.out.getvalue(), "\x1b[1;32mgood\x1b[0m\n\x1b[1;36ma: \x1b[0mb\n")

    def test_no_color_is_honoured(self) -> None:
        self.patch_environment("NO_COLOR", "1")
        console = self.console(Terminal)
        console.say("good", style="green")
        console.pairs({"a": "b"})
        self.assertEqual(self.out.getvalue(), "good\na: b\n")

    def test_a_dumb_terminal_is_as_good_as_a_pipe(self) -> None:
        self.patch_environment("TERM", "dumb")
        console = self.console(Terminal)
        console.say("good", style="green")
        self.assertFalse(console.is_terminal)
        self.assertEqual(self.out.getvalue(), "good\n")

    def test_a_bar_moves_and_goes_away(self) -> None:
        console = self.console(Terminal)
        now_s = 100.0
        bar = SpeechBar(console, "speaking", 180.0, clock=lambda: now_s)
        bar.update(0.0, "level", "")
        self.assertIn("speaking " + "\x1b[2m" + "╌" * 28, self.out.getvalue())
        self.assertIn("-:--", self.out.getvalue())
        # At half the pace of speech.
        now_s = 220.0
        bar.update(60.0, "level", "10/12 confirmed")
        self.assertIn("\x1b[36m" + "━" * 9 + "\x1b[0m\x1b[2m" + "╌" * 19, self.out.getvalue())
        self.assertIn(" 60.0/180.0 s ", self.out.getvalue())
        self.assertIn(" 10/12 confirmed \x1b[36m4:00", self.out.getvalue())
        bar.close()
        bar.update(4.0, "late", "late")
        self.assertTrue(self.out.getvalue().endswith("\r\x1b[J"))

    def test_a_bar_of_nothing(self) -> None:
        bar = SpeechBar(self.console(Terminal), "speaking", 0.0)
        bar.update(0.0, "level", "")
        bar.close()
        self.assertIn("━" * 28, self.out.getvalue())

    def test_a_note_is_not_written_into_what_is_drawn(self) -> None:
        console = self.console(Terminal)
        console.draw([[("meter", "")]])
        console.note("careful")
        self.assertTrue(self.out.getvalue().endswith("\r\x1b[J"))
        self.assertIn("careful", self.err.getvalue())

    def test_with_json_the_bar_is_on_standard_error(self) -> None:
        console = self.console(Terminal, json_output=True)
        bar = SpeechBar(console, "speaking", 6.0)
        bar.update(3.0, "level", "note")
        bar.close()
        self.assertEqual(self.out.getvalue(), "")
        self.assertIn("3.0/6.0 s", self.err.getvalue())

    def test_whether_it_is_one(self) -> None:
        self.assertTrue(self.console(Terminal).is_terminal)
        self.assertFalse(self.console(io.StringIO).is_terminal)


class ClosedPipeTests(ConsoleCase):
    def test_nobody_reads_any_more(self) -> None:
        class Closed(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

        told: list[str] = []
        console = Console(out=Closed(), err=io.StringIO())
        console.when_closed = lambda: told.append("closed")
        console.say("one")
        console.data("two")
        self.assertEqual(told, ["closed"])
        self.assertTrue(console.closed)

    def test_the_interpreter_does_not_complain_at_its_end(self) -> None:
        program = (
            "from voiceingest.cli.console import Console\n"
            "import sys\n"
            "console = Console()\n"
            "sys.stdin.readline()\n"
            "console.data('x' * 100000)\n"
            "sys.exit(7 if console.closed else 0)\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None and process.stdin is not None and process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        complaint = process.stderr.read()
        process.stderr.close()
        self.assertEqual((process.wait(20), complaint), (7, b""))


class PrintableTests(SynchronousTestCase):
    def test_table(self) -> None:
        for text, shown in (
            ("call-7 Grüße 通話", "call-7 Grüße 通話"),
            ("\x1b[2Jgone", "\\x1b[2Jgone"),
            ("a\r\nb", "a\\x0d\\x0ab"),
            ("\u202eabc", "\\x202eabc"),
        ):
            self.assertEqual(printable(text), shown)

    @given(st.text())
    def test_what_comes_out_moves_no_cursor(self, text: str) -> None:
        self.assertTrue(
            printable(text).replace("\u2028", "").replace("\u2029", "").replace("\xa0", "").isprintable()
            or any(c.isspace() for c in text)
        )
        self.assertNotRegex(printable(text), r"[\x00-\x1f\x7f-\x9f]")
