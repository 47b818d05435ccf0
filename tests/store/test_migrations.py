"""The steps lead to the tables of this version, on both databases."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect

import voiceingest.store
from tests.store.cases import PostgresCase, SqliteCase, on_loop
from tests.support.case import SynchronousTestCase
from voiceingest.store.migrating import head, steps
from voiceingest.store.tables import metadata


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return compare_metadata(context, metadata)


def names(connection: Connection) -> set[str]:
    """Constraints and indices: the dialects do not compare the first."""
    look = inspect(connection)
    found: set[str] = set()
    for table in metadata.tables:
        found.update(str(index["name"]) for index in look.get_indexes(table))
        found.update(str(unique["name"]) for unique in look.get_unique_constraints(table))
        found.update(str(key["name"]) for key in look.get_foreign_keys(table))
        found.add(str(look.get_pk_constraint(table)["name"]))
    return found


class MigrationContract:
    @on_loop
    async def test_the_log_is_not_told_step_by_step(self) -> None:
        with self.assertNoLogs(level=logging.INFO):
            await self.started()

    @on_loop
    async def test_the_steps_make_the_tables(self) -> None:
        store = await self.started()
        self.assertEqual(await store.read(lambda c: c.run_sync(differences)), [])
        declared = {
            str(one.name)
            for table in metadata.tables.values()
            for one in (*table.constraints, *table.indexes)
            if one.name is not None
        }
        self.assertEqual(await store.read(lambda c: c.run_sync(names)), declared)


class SqliteMigrationTests(MigrationContract, SqliteCase):
    pass


class PostgresMigrationTests(MigrationContract, PostgresCase):
    pass


class StepTests(SynchronousTestCase):
    def test_there_is_one_line_of_them(self) -> None:
        directory = steps()
        self.assertEqual(directory.get_heads(), [head()])
        self.assertEqual(directory.get_bases(), ["0001"])

    def test_every_file_is_a_step_that_is_named_after_its_number(self) -> None:
        folder = Path(voiceingest.store.__file__).parent / "migrations" / "versions"
        numbers = [path.name[1:5] for path in sorted(folder.glob("v*.py"))]
        self.assertEqual(numbers, [step.revision for step in reversed([*steps().walk_revisions()])])
