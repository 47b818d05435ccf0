"""A short stable word for each way a database fails: a label of a metric, and what is decided by.

The texts of drivers quote hosts, users, statements and their values; none of them goes further.
"""

from __future__ import annotations

import socket
import sqlite3
import ssl
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Nobody was asked anything yet, and it may be otherwise in a moment: such a connection is tried again.
PASSING: Final = frozenset({"refused", "timeout", "lost", "starting", "full", "dns"})

# What only the operator can mend.
LASTING: Final = {
    "auth": "the database does not let this user in: check the user, the password and pg_hba.conf",
    "missing": "there is no database of this name",
    "tls": "the TLS of the database is not what sslmode asks for",
    "path": "the file cannot be opened: check that its directory is there and may be written",
    "readonly": "the file cannot be written, or the server is one that only reads",
    "not_a_database": "the file is no SQLite database, or is broken",
    "denied": "this user may not do what is needed: see docs/how-to/postgresql.md for its rights",
}

# By the beginning of PostgreSQL's SQLSTATE (its documentation, appendix A); the longest match wins.
_SQLSTATES: Final = {
    "08": "lost",
    "28": "auth",
    "3D000": "missing",
    "40": "conflict",
    "42501": "denied",
    "42P01": "schema",
    "42703": "schema",
    "23": "constraint",
    "25006": "readonly",
    "53": "full",
    "57014": "timeout",
    "57P01": "lost",
    "57P02": "lost",
    "57P03": "starting",
}

# By the beginning of SQLite's own name (https://www.sqlite.org/rescode.html).
_SQLITE: Final = {
    "SQLITE_BUSY": "busy",
    "SQLITE_LOCKED": "busy",
    "SQLITE_CANTOPEN": "path",
    "SQLITE_READONLY": "readonly",
    "SQLITE_PERM": "readonly",
    "SQLITE_NOTADB": "not_a_database",
    "SQLITE_CORRUPT": "not_a_database",
    "SQLITE_FULL": "full",
    "SQLITE_IOERR": "disk",
    "SQLITE_CONSTRAINT": "constraint",
}


def reason_of(error: BaseException) -> str | None:
    """The word for ``error``; ``None`` for what did not come from a database."""
    found = [word for link in _chain(error) if (word := _word(link)) is not None]
    if found:
        return found[0]
    if isinstance(error, DBAPIError):
        return "lost" if error.connection_invalidated else "other"
    module = type(error).__module__.partition(".")[0]
    return "other" if isinstance(error, SQLAlchemyError) or module in ("asyncpg", "sqlite3") else None


def _chain(error: BaseException) -> list[BaseException]:
    """The error, and what it was made of: SQLAlchemy wraps a driver's, which wraps the socket's."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = getattr(link, "orig", None) or link.__cause__
    return links


def _word(error: BaseException) -> str | None:
    if isinstance(error, PoolTimeout):
        return "pool"
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        known = [start for start in _SQLSTATES if sqlstate.startswith(start)]
        return _SQLSTATES[max(known, key=len)] if known else "other"
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        return next((word for start, word in _SQLITE.items() if name.startswith(start)), None)
    return _of_the_network(error)


def _of_the_network(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, socket.gaierror):
        return "dns"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return "refused"
    if type(error) is ConnectionError:
        # asyncpg's, for a server that was asked for TLS and has none.
        return "tls"
    if isinstance(error, OSError):
        return "lost"
    # Without a state: something was asked of a connection that is closed by now.
    is_closed = type(error).__name__ == "InterfaceError" and type(error).__module__.startswith("asyncpg")
    return "lost" if is_closed else None
