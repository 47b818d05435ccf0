"""The table of commands, and the one place where what went wrong becomes a line and an exit code."""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from typing import Any, Final

import click

from .. import __version__
from ..errors import OperatorError, SettingsError
from .failures import CommandFailed, Exit
from .options import epilog
from .standard import UNWRITABLE, abandon, prepare

# A new command is one file and one line here.
COMMANDS: Final = {
    "demo": "demo:demo",
    "simulate": "simulate:simulate",
    "tail": "tail:tail",
    "bench": "bench:bench",
    "call": "call:call",
    "sessions": "control.sessions:sessions",
    "devices": "control.devices:devices",
    "keygen": "keys:keygen",
    "token": "tokens:token",
    "db": "db:db",
    "check-config": "configcmd:check_config",
    "default-config": "configcmd:default_config",
}


class Tree(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, if there is one."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.partition(":")
        command: click.Command = getattr(import_module(f".{module}", __package__), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run; an error of the operator's is told in lines, not in a traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # Before the reactor has taken the signal: nothing has begun that would have to be ended.
            raise CommandFailed("interrupted", exit_code=Exit.INTERRUPTED) from None
        except SettingsError as wrong:
            for line in wrong.problems:
                click.echo(f"error: {line}", err=True)
            sys.exit(Exit.USAGE)
        except OperatorError as wrong:
            raise CommandFailed(wrong.message, exit_code=Exit.USAGE) from wrong


@click.group(
    cls=Tree,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=epilog(
        """voiceingest demo
voiceingest keygen --out keys && voiceingest token mint --key keys/private.pem --tenant acme
voiceingest simulate ingest call.wav --url wss://localhost:8443/v1/ingest --key keys/private.pem
voiceingest tail --url redis://localhost:6379
voiceingest bench --self""",
        *Exit,
    ),
)
@click.version_option(__version__, prog_name="voiceingest", message="%(prog)s %(version)s")
def root() -> None:
    """Live voice in, in order and without loss, onto a bus: the tools around the daemon.

    The daemon itself is started with `twistd -n voiceingest`. At a terminal the output is in colour
    (NO_COLOR=1 turns that off), in a pipe it is plain lines, with --json it is JSON.
    """


def main() -> None:
    """The console script."""
    prepare()
    try:
        root(prog_name="voiceingest")
    except OSError as problem:
        # What a command writes goes through its console; the help and the errors are click's.
        if problem.errno not in UNWRITABLE or problem.filename is not None:
            raise
        abandon(sys.stdout)
        with contextlib.suppress(OSError):
            click.echo(f"error: the output cannot be written: {problem.strerror}", err=True)
        abandon(sys.stderr)
        sys.exit(Exit.REFUSED)
