from __future__ import annotations

import sys
from collections.abc import Iterator
from unittest import mock

import click
from click.testing import CliRunner

from tests.support.case import SynchronousTestCase
from voiceingest import __version__
from voiceingest.cli import main
from voiceingest.cli.failures import Exit
from voiceingest.cli.tree import COMMANDS, root
from voiceingest.errors import BadKey, SettingsError

from .program import ProgramCase, coroutine


def every_command(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from every_command(below, (*path, name))


class HelpTests(SynchronousTestCase):
    def test_every_command_helps_with_examples_and_exit_codes(self) -> None:
        leaves = [path for path, command in every_command(root) if not isinstance(command, click.Group)]
        self.assertGreaterEqual(len(leaves), len(COMMANDS))
        for path in leaves:
            result = CliRunner().invoke(root, [*path, "--help"])
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertIn("Examples:", result.output, path)
            self.assertIn("Exit codes:", result.output, path)
            self.assertIn(f"  0  {Exit.OK.meaning}", result.output, path)

    def test_every_option_says_what_it_does(self) -> None:
        silent = [
            (path, parameter.name)
            for path, command in every_command(root)
            for parameter in command.params
            if isinstance(parameter, click.Option) and not parameter.help
        ]
        self.assertEqual(silent, [])

    def test_json_everywhere_where_there_is_something_to_say(self) -> None:
        without = {
            " ".join(path)
            for path, command in every_command(root)
            if not isinstance(command, click.Group)
            if not any("--json" in parameter.opts for parameter in command.params)
        }
        self.assertEqual(without, set())

    def test_short_help(self) -> None:
        result = CliRunner().invoke(root, ["-h"])
        self.assertEqual(result.exit_code, 0)
        for name in COMMANDS:
            self.assertIn(f"  {name} ", result.output)

    def test_help_imports_no_reactor(self) -> None:
        program = (
            "import sys\n"
            "from click.testing import CliRunner\n"
            "from voiceingest.cli.tree import root\n"
            "assert CliRunner().invoke(root, ['--help']).exit_code == 0\n"
            "heavy = {'twisted.internet.reactor', 'autobahn', 'txredisapi'} & set(sys.modules)\n"
            "sys.exit(' '.join(heavy) or 0)\n"
        )
        import subprocess

        from tests.support.daemon import ROOT

        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            env={"PYTHONPATH": str(ROOT)},
            check=False,
            timeout=30,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))


class RootTests(SynchronousTestCase):
    def test_version(self) -> None:
        self.assertEqual(CliRunner().invoke(root, ["--version"]).output, f"voiceingest {__version__}\n")

    def test_no_such_command(self) -> None:
        result = CliRunner().invoke(root, ["nonsense"])
        self.assertEqual(result.exit_code, 2)
        self.assertNotIn("Traceback", result.output)

    def test_an_error_of_the_operators_is_lines_and_no_traceback(self) -> None:
        for problem, lines in (
            (SettingsError(["port: wrong", "listen: wrong"]), "error: port: wrong\nerror: listen: wrong\n"),
            (BadKey("the key is not one"), "error: the key is not one\n"),
        ):

            @click.command()
            def failing(problem: Exception = problem) -> None:
                raise problem

            with mock.patch.object(type(root), "get_command", lambda *_: failing):
                result = CliRunner().invoke(root, ["failing"])
            self.assertEqual((result.exit_code, result.stderr), (Exit.USAGE, lines))

    def test_an_interrupt_before_anything_has_begun(self) -> None:
        @click.command()
        def interrupted() -> None:
            raise KeyboardInterrupt

        with mock.patch.object(type(root), "get_command", lambda *_: interrupted):
            result = CliRunner().invoke(root, ["interrupted"])
        self.assertEqual((result.exit_code, result.stderr), (Exit.INTERRUPTED, "error: interrupted\n"))

    def test_the_console_script(self) -> None:
        self.patch(sys, "argv", ["voiceingest", "--version"])
        with self.assertRaises(SystemExit) as caught:
            main()
        self.assertEqual(caught.exception.code, 0)


class ModuleTests(ProgramCase):
    @coroutine
    async def test_python_m(self: ProgramCase) -> None:
        program = await self.run_it("--version")
        self.assertEqual((program.code, program.out), (0, f"voiceingest {__version__}\n"))
