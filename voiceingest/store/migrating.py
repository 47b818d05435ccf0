"""Brings the tables to where this version has them, once, whoever else starts at the same moment.

Alembic's steps are run without its ``env.py`` and its file of settings: what they would say is here.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import StoreUnusable
from .tables import metadata

# Nobody else's number: the first 63 bits of the SHA-256 of "voiceingest.migrations".
LOCK_KEY: Final = 0x0CB1_3BD2_F057_267F

# Alembic says at each start, several times, on what kind of database it runs. The store says what came of it.
logging.getLogger("alembic").setLevel(logging.WARNING)

_STEPS: Final = Path(__file__).parent / "migrations"


def steps() -> ScriptDirectory:
    """The steps this version has."""
    return ScriptDirectory(str(_STEPS), version_locations=[str(_STEPS / "versions")])


def head() -> str:
    """The last of them: what the tables have to be at."""
    last = steps().get_current_head()
    assert last is not None
    return last


def revision(connection: Connection) -> str | None:
    """Where the tables are; ``None`` where there are none.

    Raises: ``StoreUnusable`` when a later version has made them.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None:
        return None
    try:
        steps().get_revision(found)
    except CommandError:
        raise StoreUnusable(
            f"the database was made by a later version (revision {found}); this one knows up to {head()}"
        ) from None
    return found


async def current(connection: AsyncConnection) -> str | None:
    """Where the tables are, asked without a right to change them."""
    return await connection.run_sync(revision)


async def upgrade(connection: AsyncConnection) -> bool:
    """Run what is missing, within the transaction of ``connection``; whether anything was.

    Whoever comes second waits for the first, and finds nothing left to do: on SQLite since the
    transaction is the only one that writes, on PostgreSQL by a lock that ends with the transaction.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
    return await connection.run_sync(_run)


def _run(connection: Connection) -> bool:
    directory = steps()
    found = revision(connection)

    def missing(at: Any, _context: MigrationContext) -> Any:
        return directory._upgrade_revs("head", at)  # noqa: SLF001  (as alembic.command.upgrade does)

    if found == head():
        return False
    with EnvironmentContext(Config(), directory, fn=missing) as environment:
        environment.configure(connection=connection, target_metadata=metadata)
        environment.run_migrations()
    return True
