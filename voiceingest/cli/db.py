"""``voiceingest db``: the tables of devices and sessions, brought up to date or looked at."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ..config import Settings
from .console import Console
from .failures import ConnectionFailed, Exit
from .options import epilog, json_option
from .rehearsal import settings_path

if TYPE_CHECKING:
    from ..store.target import Target

T = TypeVar("T")

# A server that does not answer is given up after this time; a migration takes as long as it takes.
_LOOK_MAX_S: Final = 15.0

file_argument = click.argument("file", required=False, type=click.Path(path_type=Path))


@click.group("db")
def db() -> None:
    """The database of devices and sessions.

    Which one it is says `database_url` of the settings: of FILE, of the file that the variable
    VOICEINGEST_CONFIG names, or of the environment (DATABASE_URL, DATABASE_URL_FILE).
    """


@db.command(
    epilog=epilog(
        """voiceingest db upgrade /etc/voiceingest.toml
DATABASE_URL_FILE=owner.url voiceingest db upgrade""",
        Exit.OK,
        Exit.USAGE,
        Exit.NO_CONNECTION,
    )
)
@file_argument
@json_option
def upgrade(file: Path | None, json_output: bool) -> None:
    """Bring the tables to where this version wants them.

    The daemon does so by itself when it starts, if its user may. This is for a user of the database
    who owns the tables, where the daemon's does not. It does nothing where nothing is to be done, and
    waits for whoever does the same at the same time.
    """
    from ..store.preparing import prepare

    outcome, at = _asked(file, prepare), _head()
    console = Console(json_output=json_output)
    console.document({"outcome": outcome.replace(" ", "_"), "revision": at})
    console.say(f"{outcome}: revision {at}", style="bold green")


@db.command(
    epilog=epilog(
        """voiceingest db current
voiceingest db current --json | jq .current""",
        Exit.OK,
        Exit.REFUSED,
        Exit.USAGE,
        Exit.NO_CONNECTION,
    )
)
@file_argument
@json_option
def current(file: Path | None, json_output: bool) -> None:
    """Show where the tables are, and change nothing; exit code 1 where they want an upgrade."""
    from ..store.preparing import revisions

    async def look(target: Target, settings: Settings) -> tuple[str | None, str]:
        async with asyncio.timeout(_LOOK_MAX_S):
            return await revisions(target, settings)

    found, wanted = _asked(file, look)
    console = Console(json_output=json_output)
    console.document({"current": found, "wanted": wanted})
    if found == wanted:
        console.say(f"up to date: revision {found}", style="bold green")
        return
    console.say(f"{'no tables' if found is None else f'revision {found}'}; this version wants {wanted}")
    raise SystemExit(Exit.REFUSED)


def _head() -> str:
    from ..store.migrating import head

    return head()


def _asked(file: Path | None, ask: Callable[[Target, Settings], Coroutine[Any, Any, T]]) -> T:
    """What the database of the settings says.

    Raises: ``ConnectionFailed``, ``ExtraMissing``, ``SettingsError``, ``StoreUnusable``.
    """
    from ..config.load import load_settings

    settings = load_settings({}, os.environ, settings_path(file, os.environ))
    url = settings.database_url.get_secret_value()
    from ..store import require_packages

    require_packages(url)
    from ..errors import StoreUnusable
    from ..store.reasons import LASTING, reason_of
    from ..store.target import read_target

    target = read_target(url)
    try:
        return _finished(ask(target, settings))
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        if reason in LASTING:
            raise StoreUnusable(LASTING[reason]) from None
        raise ConnectionFailed(f"the database does not answer ({reason})", reason=reason) from None


def _finished(asked: Coroutine[Any, Any, T]) -> T:
    """What a coroutine comes to, on a loop of its own: ``asyncio.run`` would leave the thread without one."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(asked)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
