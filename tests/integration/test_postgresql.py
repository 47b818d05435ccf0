"""The page on PostgreSQL, done: its users with their rights, its backups."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.integration.test_docs import blocks
from tests.store.cases import PostgresCase, on_loop
from tests.store.test_devices import a_device, a_family, a_token, digest
from tests.store.test_sessions import a_session, a_stream, key
from tests.support.case import SynchronousTestCase
from tests.support.daemon import HOST, ROOT
from tests.support.postgres import program, shared_server
from voiceingest.config import Settings
from voiceingest.device_interfaces import IDeviceStore
from voiceingest.session_interfaces import ISessionStore, SessionQuery
from voiceingest.store.devices import DeviceStore
from voiceingest.store.preparing import prepare
from voiceingest.store.sessions import SessionStore
from voiceingest.store.target import read_target

PAGE: Final = ROOT / "docs" / "how-to" / "postgresql.md"
OWNER: Final = ("voice_owner", "a-long-password")
APP: Final = ("voice_app", "another-long-one")


def block(remark: str) -> str:
    (found,) = [one.text for one in blocks(PAGE) if one.remark == remark]
    return found


def statements(remark: str) -> list[str]:
    return [statement.strip() for statement in block(remark).split(";") if statement.strip()]


class Noting:
    """Passes on what is asked of a store, and remembers what was."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(self._store, name)


def methods(seam: type) -> set[str]:
    return {name for name in vars(seam) if not name.startswith("_")}


class RolesTests(PostgresCase):
    def database_url(self) -> str:
        self.server = shared_server()
        roles = [f"DROP ROLE IF EXISTS {name}" for name, _ in (OWNER, APP)]
        self.addCleanup(self.server.execute, *roles)
        self.addCleanup(self.server.execute, "DROP DATABASE IF EXISTS voice WITH (FORCE)")
        self.server.execute(*statements("as a superuser"))
        return self.server.url("voice", *APP)

    async def make_tables(self) -> None:
        """As the owner; then the rights."""
        url = self.server.url("voice", *OWNER)
        self.assertEqual(await prepare(read_target(url), Settings()), "upgraded")
        self.server.run(
            *(program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", block("as the owner")), url
        )

    async def asked_everything(self, devices: Any, sessions: Any) -> None:
        self.assertTrue(await devices.add_device(a_device(), a_family(), a_token("first")))
        self.assertFalse(await devices.add_device(a_device(), a_family(), a_token("first")))
        await devices.add_family(a_family("fam_2"), a_token("second", "fam_2"), 1.0)
        self.assertTrue(await devices.rotate(digest("first"), a_token("next"), 2.0))
        self.assertIsNotNone(await devices.refresh_token(digest("next")))
        self.assertIsNotNone(await devices.family("fam_1"))
        self.assertIsNotNone(await devices.device("dev_1"))
        self.assertIsNotNone(await devices.device_by_identifier(digest("id1")))
        self.assertEqual(len(await devices.devices(10, None)), 1)
        await devices.revoke_family("fam_2", "reused", 3.0)
        self.assertEqual(await devices.revoke_device("dev_1", "operator", 4.0, for_good=True), 1)
        self.assertEqual(len(await devices.revocations([a_device().user_id])), 1)
        self.assertEqual(await devices.forget_tokens(1e12), 5)
        await sessions.add(a_session("ses_1"), key("k"), 10)
        await sessions.add(a_stream("ses_2"), None, 10)
        self.assertTrue(await sessions.update(a_session("ses_1", version=2, ended_at=1.0, reason="x"), 1))
        self.assertIsNotNone(await sessions.session("ses_1"))
        self.assertIsNotNone(await sessions.stream_session("acme", "call-1", a_stream("ses_2").epoch))
        self.assertEqual(len(await sessions.page(SessionQuery())), 2)
        self.assertEqual(await sessions.open_sessions(["ses_1", "ses_2"]), {"ses_1", "ses_2"})
        await sessions.vouch(["ses_2"], "node", 5.0, 6.0)
        self.assertEqual(len(await sessions.overdue(1e12, 5.0, 10)), 2)
        self.assertEqual(await sessions.forget_sessions(2.0, 1e12), 0)

    @on_loop
    async def test_the_daemons_user_may_do_what_it_has_to_and_no_more(self) -> None:
        await self.make_tables()
        store = await self.started()
        devices, sessions = Noting(DeviceStore(store)), Noting(SessionStore(store))
        await self.asked_everything(devices, sessions)
        self.assertEqual(devices.asked, methods(IDeviceStore))
        self.assertEqual(sessions.asked, methods(ISessionStore))
        for statement in (
            "CREATE TABLE more (x int)",
            "ALTER TABLE devices ADD COLUMN more int",
            "DROP TABLE sessions",
            "TRUNCATE sessions",
            "DELETE FROM devices",
            "UPDATE alembic_version SET version_num = '9999'",
        ):
            command = [program("psql"), "-X", "-c", statement, self.url]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertRegex(done.stderr, "permission denied|must be owner", statement)

    @on_loop
    async def test_a_backup_and_its_restore(self) -> None:
        await self.make_tables()
        sessions = SessionStore(await self.started())
        await sessions.add(a_session("ses_1", context={"said": "ж"}), None, 10)
        folder = self.mktemp_path()
        folder.mkdir()
        self.shell("backup", folder)
        self.server.execute("DROP DATABASE voice WITH (FORCE)")
        self.server.execute(*(one for one in statements("as a superuser") if "ROLE" not in one))
        self.shell("restore", folder)
        restored = SessionStore(await self.started())
        self.assertEqual(await restored.session("ses_1"), a_session("ses_1", context={"said": "ж"}))
        self.assertEqual((await restored.add(a_session("ses_2"), None, 10)).session_id, "ses_2")

    def shell(self, remark: str, folder: Path) -> None:
        """Run a command of the page as the owner."""
        words = shlex.split(block(remark))
        environ = {
            **os.environ,
            "PGHOST": HOST,
            "PGPORT": str(urlsplit(self.url).port),
            "PGUSER": OWNER[0],
            "PGPASSWORD": OWNER[1],
        }
        done = subprocess.run(
            [program(words[0]), *words[1:]],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)


class SqliteBackupTests(SynchronousTestCase):
    def test_the_statement(self) -> None:
        """The page has it run by SQLite's own program, which need not be here."""
        folder = self.mktemp_path()
        folder.mkdir()
        name, file, statement = shlex.split(block("sqlite"))
        self.assertEqual(name, "sqlite3")
        with closing(sqlite3.connect(folder / file)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE x (y)")
            connection.execute("INSERT INTO x VALUES (1)")
            connection.commit()
            copy = folder / "voiceingest.backup.db"
            connection.execute(statement.replace("voiceingest.backup.db", str(copy)))
        with closing(sqlite3.connect(copy)) as connection:
            self.assertEqual(connection.execute("SELECT y FROM x").fetchall(), [(1,)])
