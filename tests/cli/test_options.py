from __future__ import annotations

import click
from click.testing import CliRunner

from tests.support.case import SynchronousTestCase
from voiceingest.cli.failures import Exit
from voiceingest.cli.options import duration, epilog, parse_duration


class DurationTests(SynchronousTestCase):
    def test_table(self) -> None:
        for text, seconds in (
            ("90", 90.0),
            ("90s", 90.0),
            ("250ms", 0.25),
            ("15m", 900.0),
            ("1h", 3600.0),
            ("7d", 604800.0),
            ("1h30m", 5400.0),
            (" 1.5H ", 5400.0),
        ):
            self.assertEqual(parse_duration(text), seconds)

    def test_what_is_no_length_of_time(self) -> None:
        for text in ("", "h", "-5", "5 minutes", "1h!", "0", "0s", "1,5h", "nan"):
            with self.assertRaises(ValueError, msg=text):
                parse_duration(text)

    def test_as_an_option(self) -> None:
        @click.command()
        @click.option("--for", "for_s", callback=duration)
        def command(for_s: float | None) -> None:
            click.echo(repr(for_s))

        self.assertEqual(CliRunner().invoke(command, []).output, "None\n")
        self.assertEqual(CliRunner().invoke(command, ["--for", "2m"]).output, "120.0\n")
        refused = CliRunner().invoke(command, ["--for", "soon"])
        self.assertEqual(refused.exit_code, 2)
        self.assertIn("not a length of time", refused.output)


class EpilogTests(SynchronousTestCase):
    def test_examples_and_codes_are_not_rewrapped(self) -> None:
        text = epilog("one\ntwo", Exit.OK, Exit.NO_CONNECTION)
        self.assertEqual(text.count("\b\n"), 2)
        self.assertIn("  one\n  two\n", text)
        self.assertIn(f"  3  {Exit.NO_CONNECTION.meaning}", text)
