"""``voiceingest db``, over a file; the same on PostgreSQL: tests/integration/test_postgresql_page.py."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

from click.testing import CliRunner

from tests.support.case import SynchronousTestCase
from tests.support.daemon import free_port
from voiceingest.cli.tree import root
from voiceingest.store.migrating import head


class DbTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp_path()
        self.url = f"sqlite:///{self.path}"

    def run_it(self, *arguments: str) -> Any:
        environ = {"DATABASE_URL": self.url, "VOICEINGEST_CONFIG": "", "PG_CONN_TIMEOUT_MS": "500"}
        return CliRunner(env=environ).invoke(root, ["db", *arguments])

    def document(self, *arguments: str) -> Any:
        return json.loads(self.run_it(*arguments, "--json").stdout)

    def test_from_nothing_to_up_to_date(self) -> None:
        before = self.run_it("current")
        self.assertEqual((before.exit_code, before.stdout), (1, f"no tables; this version wants {head()}\n"))
        self.assertFalse(self.path.exists())
        done = self.run_it("upgrade")
        self.assertEqual((done.exit_code, done.stdout), (0, f"upgraded: revision {head()}\n"))
        again = self.run_it("upgrade")
        self.assertEqual((again.exit_code, again.stdout), (0, f"up to date: revision {head()}\n"))
        after = self.run_it("current")
        self.assertEqual((after.exit_code, after.stdout), (0, f"up to date: revision {head()}\n"))

    def test_json(self) -> None:
        self.assertEqual(self.document("current"), {"current": None, "wanted": head()})
        self.assertEqual(self.document("upgrade"), {"outcome": "upgraded", "revision": head()})
        self.assertEqual(self.document("upgrade"), {"outcome": "up_to_date", "revision": head()})
        self.assertEqual(self.document("current"), {"current": head(), "wanted": head()})

    def test_a_file_of_settings(self) -> None:
        file = self.mktemp_path()
        file.write_text(f'database_url = "{self.url}"\n')
        result = CliRunner(env={"DATABASE_URL": None}).invoke(root, ["db", "upgrade", str(file)])
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertTrue(self.path.exists())

    def test_a_database_of_a_later_version(self) -> None:
        self.run_it("upgrade")
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
            connection.commit()
        for command in ("current", "upgrade"):
            result = self.run_it(command)
            self.assertEqual(result.exit_code, 2, result.output)
            self.assertIn("later version (revision 9999)", result.stderr)

    def test_a_server_that_is_not_there(self) -> None:
        self.url = f"postgresql://user:canary@127.0.0.1:{free_port()}/canary"
        for command in ("current", "upgrade"):
            result = self.run_it(command)
            self.assertEqual((result.exit_code, result.stdout), (3, ""))
            self.assertEqual(result.stderr, "error: the database does not answer (refused)\n")

    def test_what_cannot_be_used(self) -> None:
        self.url = f"sqlite:///{self.path}/none/x"
        result = self.run_it("upgrade")
        self.assertEqual(result.exit_code, 2)
        self.assertTrue(result.stderr.startswith("error: the file cannot be opened"), result.stderr)
