"""Every way a database fails has its word."""

from __future__ import annotations

import socket
import sqlite3
import ssl
from pathlib import Path

from asyncpg import exceptions as asyncpg
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tests.support.case import SynchronousTestCase
from voiceingest.errors import SessionNotFound
from voiceingest.store.reasons import LASTING, PASSING, reason_of

DRIVERS = {
    "auth": [asyncpg.InvalidPasswordError("canary"), asyncpg.InvalidAuthorizationSpecificationError("x")],
    "missing": [asyncpg.InvalidCatalogNameError("x")],
    "readonly": [asyncpg.ReadOnlySQLTransactionError("x")],
    "denied": [asyncpg.InsufficientPrivilegeError("x")],
    "schema": [asyncpg.UndefinedTableError("x"), asyncpg.UndefinedColumnError("x")],
    "constraint": [asyncpg.UniqueViolationError("x"), asyncpg.ForeignKeyViolationError("x")],
    "conflict": [asyncpg.DeadlockDetectedError("x"), asyncpg.SerializationError("x")],
    "full": [asyncpg.TooManyConnectionsError("x"), asyncpg.DiskFullError("x")],
    "starting": [asyncpg.CannotConnectNowError("x")],
    "timeout": [asyncpg.QueryCanceledError("x"), TimeoutError()],
    "lost": [
        asyncpg.AdminShutdownError("x"),
        asyncpg.CrashShutdownError("x"),
        asyncpg.ConnectionDoesNotExistError("x"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError(),
        BrokenPipeError(),
    ],
    "refused": [ConnectionRefusedError()],
    "dns": [socket.gaierror(-2, "canary")],
    "tls": [
        ssl.SSLCertVerificationError("x"),
        ConnectionError("PostgreSQL server at canary rejected SSL upgrade"),
    ],
    "other": [asyncpg.DivisionByZeroError("x")],
}


class ReasonTests(SynchronousTestCase):
    def test_of_drivers_and_the_network(self) -> None:
        for word, errors in DRIVERS.items():
            for error in errors:
                self.assertEqual(reason_of(error), word, repr(error))
                wrapped = DBAPIError("SELECT canary", {}, error)
                self.assertEqual(reason_of(wrapped), word, repr(error))

    def test_of_sqlite(self) -> None:
        folder = self.mktemp_path()
        folder.mkdir()
        (folder / "text").write_text("no database at all " * 100)
        for path, statement, word in (
            (folder / "none" / "x", "SELECT 1", "path"),
            (folder / "text", "SELECT * FROM sqlite_master", "not_a_database"),
            (Path(":memory:"), "SELECT * FROM nowhere", "other"),
        ):
            with self.assertRaises(sqlite3.Error) as caught:
                sqlite3.connect(path).execute(statement)
            self.assertEqual(reason_of(caught.exception), word)

    def test_of_sqlalchemy_itself(self) -> None:
        self.assertEqual(reason_of(PoolTimeout()), "pool")
        self.assertEqual(reason_of(InvalidRequestError("x")), "other")

    def test_what_is_no_error_of_a_database(self) -> None:
        for error in (KeyError("x"), SessionNotFound(), ValueError("x")):
            self.assertIsNone(reason_of(error))

    def test_nothing_is_both(self) -> None:
        self.assertEqual(PASSING & LASTING.keys(), set())
