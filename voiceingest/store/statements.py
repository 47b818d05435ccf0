"""Statements that SQLite and PostgreSQL both have, and SQLAlchemy has one for each of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

# Values of one statement: a long list is asked for in several.
LIST_MAX_COUNT: Final = 500

# Rows that one statement deletes: others get their turn in between.
DELETE_MAX_COUNT: Final = 1000

# What the numbers of this program's locks on users begin with ("vi").
_USERS: Final = 0x7669


async def insert_new(connection: AsyncConnection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row; ``False`` where another one has its key, or any value that is there only once."""
    if connection.dialect.name == "postgresql":
        found = await connection.execute(postgresql.insert(table).values(row).on_conflict_do_nothing())
    else:
        found = await connection.execute(sqlite.insert(table).values(row).on_conflict_do_nothing())
    return found.rowcount == 1


async def lock_user(connection: AsyncConnection, user_id: str) -> None:
    """Let transactions about one user come after one another.

    On PostgreSQL by a lock that ends with the transaction; two users may share one, which costs time and
    nothing else. On SQLite every transaction that writes is alone anyway.
    """
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(user_id.encode()).digest()[:4], "big", signed=True)
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:users, :number)"), {"users": _USERS, "number": number}
        )


def parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """``values`` in lists that a statement takes."""
    for start in range(0, len(values), LIST_MAX_COUNT):
        yield values[start : start + LIST_MAX_COUNT]
