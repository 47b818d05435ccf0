from __future__ import annotations

import click
from click.testing import CliRunner

from tests.support.case import SynchronousTestCase
from voiceingest.cli.failures import CommandFailed, ConnectionFailed, Exit, UsageFailed


class FailureTests(SynchronousTestCase):
    def told(self, failure: CommandFailed) -> tuple[int, str, str]:
        @click.command()
        def command() -> None:
            raise failure

        result = CliRunner().invoke(command, [])
        return result.exit_code, result.stdout, result.stderr

    def test_one_line_a_hint_and_an_exit_code_on_standard_error(self) -> None:
        for failure, code in (
            (CommandFailed("no", hint="try"), Exit.REFUSED),
            (UsageFailed("no", hint="try"), Exit.USAGE),
            (ConnectionFailed("no", reason="refused", hint="try"), Exit.NO_CONNECTION),
        ):
            self.assertEqual(self.told(failure), (code, "", "error: no\nhint: try\n"))

    def test_without_a_hint(self) -> None:
        self.assertEqual(self.told(CommandFailed("no")), (1, "", "error: no\n"))

    def test_every_exit_code_has_a_meaning(self) -> None:
        self.assertEqual(len({code.meaning for code in Exit}), len(Exit))
