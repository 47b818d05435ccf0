"""What is done once before a database is used: its tables are looked at, and brought up to date."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from ..config import Settings
from ..errors import StoreUnusable
from . import migrating
from .pool import MIGRATION_MAX_S, SQLITE_MIGRATION_BUSY_S, WRITES, make_migration_engine
from .reasons import LASTING, reason_of
from .target import Target

# Two processes that make one SQLite file at once: the switch to WAL does not wait, so we do.
_AGAIN_S: Final = 0.05

Outcome = Literal["upgraded", "up to date"]


async def prepare(target: Target, settings: Settings) -> Outcome:
    """Bring the tables up to date.

    Raises: ``StoreUnusable`` when a later version has made them, or their upgrade needs more rights; and
    whatever the driver raises.
    """
    engine = make_migration_engine(target, settings)
    try:
        async with asyncio.timeout(MIGRATION_MAX_S):
            if target.kind == "sqlite":
                await _open_file(target, settings)
            async with engine.connect() as connection:
                # First without any right to change something: most starts find nothing to do.
                if await migrating.current(connection) == migrating.head():
                    return "up to date"
            async with engine.connect() as connection:
                await connection.execution_options(**{WRITES: True})
                return "upgraded" if await _upgrade(connection) else "up to date"
    finally:
        await engine.dispose()


async def revisions(target: Target, settings: Settings) -> tuple[str | None, str]:
    """Where the tables are (``None``: there are none), and where this version wants them."""
    if target.path is not None and not target.path.exists():
        # To look must not make a file.
        return None, migrating.head()
    engine = make_migration_engine(target, settings)
    try:
        async with engine.connect() as connection:
            return await migrating.current(connection), migrating.head()
    finally:
        await engine.dispose()


async def _upgrade(connection: AsyncConnection) -> bool:
    try:
        is_changed = await migrating.upgrade(connection)
        await connection.commit()
    except Exception as error:
        if reason_of(error) != "denied":
            raise
        raise StoreUnusable(
            f"the tables are not those of this version (revision {migrating.head()}), and this user may "
            "not change them: run `voiceingest db upgrade` as their owner"
        ) from None
    return is_changed


async def _open_file(target: Target, settings: Settings) -> None:
    """Make the file where there is none, and have it keep a write-ahead log: readers do not wait then."""
    assert target.path is not None
    _make_private(target.path)
    engine = make_migration_engine(target, settings)
    try:
        until = asyncio.get_running_loop().time() + SQLITE_MIGRATION_BUSY_S
        while True:
            try:
                async with engine.connect() as connection:
                    raw = await connection.get_raw_connection()
                    assert raw.driver_connection is not None
                    await (await raw.driver_connection.execute("PRAGMA journal_mode = WAL")).close()
                return
            except Exception as error:
                if reason_of(error) != "busy" or asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(_AGAIN_S)
    finally:
        await engine.dispose()


def _make_private(path: Path) -> None:
    """An empty file is a database. Its log takes over its mode: what callers said is nobody else's."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError:
        raise StoreUnusable(LASTING["path"]) from None
