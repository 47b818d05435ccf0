"""Streams that are closed, full, or know too few letters: no traceback, and an exit code that is true."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.case import SynchronousTestCase
from tests.support.daemon import ROOT
from voiceingest.cli.standard import abandon

FULL = "the output cannot be written: No space left on device"


class RedirectionTests(SynchronousTestCase):
    def run_it(self, arguments: str, redirection: str, **environ: str) -> tuple[int, bytes]:
        """The exit code and what is left to be read of both streams."""
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" -m voiceingest.cli {arguments} {redirection}', sys.executable],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
            check=False,
            timeout=30,
        )
        return done.returncode, done.stdout

    def test_closed(self) -> None:
        for arguments, redirection, code in (
            ("default-config", ">&-", 0),
            ("default-config", ">&- 2>&- <&-", 0),
            ("default-config --json", ">&-", 0),
            ("--help", ">&-", 0),
            ("token check -", "<&- >&-", 1),
        ):
            self.assertEqual(self.run_it(arguments, redirection)[0], code, (arguments, redirection))

    def test_nothing_is_said_about_a_stream_that_is_closed(self) -> None:
        self.assertEqual(self.run_it("default-config", ">&-"), (0, b""))
        self.assertEqual(self.run_it("default-config", "2>&- >/dev/null"), (0, b""))

    def test_full(self) -> None:
        for arguments in ("--help", "demo --help", "--version", "default-config", "default-config --json"):
            code, said = self.run_it(arguments, ">/dev/full")
            self.assertEqual((code, said.decode()), (1, f"error: {FULL}\n"), arguments)

    def test_full_and_nobody_to_tell(self) -> None:
        for arguments in ("--help", "default-config", "token mint --key /nowhere --tenant a"):
            code, said = self.run_it(arguments, ">/dev/full 2>&1")
            self.assertNotEqual(code, 0)
            self.assertEqual(said, b"", arguments)

    def test_a_result_does_not_depend_on_who_reads_the_notes(self) -> None:
        folder = self.mktemp_path()
        code, said = self.run_it(f"keygen --bits 2048 --out {folder} --json", "2>/dev/full")
        self.assertEqual((code, said.count(b"\n")), (0, 1))
        self.assertIn(b'"files"', said)

    def test_letters_that_are_not_known(self) -> None:
        said = self.run_it("default-config", "", PYTHONIOENCODING="ascii")
        self.assertEqual(said[0], 0)
        self.assertIn(b"\\u2026", said[1])


class AbandonTests(SynchronousTestCase):
    def test_only_a_standard_stream(self) -> None:
        with self.mktemp_path().open("w+") as file:
            abandon(file)
            file.write("kept")
            file.seek(0)
            self.assertEqual(file.read(), "kept")
