"""``database_url`` read: which driver, with which arguments. Nothing here says a word of the URL itself."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ..errors import StoreUnusable

Kind = Literal["sqlite", "postgresql"]

# What libpq calls them; the words mean the same here (its documentation, 34.19.1).
_UNVERIFIED: Final = frozenset({"disable", "allow", "prefer", "require"})
_VERIFIED: Final = frozenset({"verify-ca", "verify-full"})
_OPTIONS: Final = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey", "host", "application_name"})


@dataclass(frozen=True, slots=True)
class Target:
    """What a connection is made to, and how."""

    kind: Kind
    url: URL = field(repr=False)
    arguments: dict[str, Any] = field(repr=False)
    path: Path | None = None


def read_target(database_url: str) -> Target:
    """Read the setting. Raises: ``StoreUnusable`` for what no connection can be made to."""
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):
        # Its text quotes the URL.
        raise StoreUnusable("database_url: not a URL; a password has to be percent-encoded") from None
    return _sqlite(url) if url.drivername == "sqlite" else _postgresql(url)


def _sqlite(url: URL) -> Target:
    if url.host:
        raise StoreUnusable("database_url: sqlite:/// with three slashes, or four before an absolute path")
    if not url.database or ":memory:" in url.database:
        raise StoreUnusable("database_url: name a file; a database in memory keeps nothing")
    if url.query:
        raise StoreUnusable("database_url: sqlite takes no options")
    return Target("sqlite", url.set(drivername="sqlite+aiosqlite"), {}, Path(url.database))


def _postgresql(url: URL) -> Target:
    for name, value in url.query.items():
        if name not in _OPTIONS:
            raise StoreUnusable(f"database_url: of its options only {', '.join(sorted(_OPTIONS))} are known")
        if not isinstance(value, str) and name != "host":
            raise StoreUnusable(f"database_url: {name} is there twice")
    if not url.database:
        raise StoreUnusable("database_url: the name of the database is missing")
    options = {name: value for name, value in url.query.items() if isinstance(value, str)}
    # Who it is, in PostgreSQL's own lists of connections.
    name = options.get("application_name", "voiceingest")
    arguments: dict[str, Any] = {"ssl": _ssl(options), "server_settings": {"application_name": name}}
    kept = {name: value for name, value in url.query.items() if name == "host"}
    return Target("postgresql", url.set(drivername="postgresql+asyncpg", query=kept), arguments)


def _ssl(options: dict[str, str]) -> ssl.SSLContext | str:
    """asyncpg's own word for a mode that verifies nothing, a context for the others."""
    mode = options.get("sslmode", "verify-full" if "sslrootcert" in options else "prefer")
    if mode not in _UNVERIFIED | _VERIFIED:
        raise StoreUnusable(f"database_url: sslmode is one of {', '.join(sorted(_UNVERIFIED | _VERIFIED))}")
    if mode == "require" and "sslrootcert" in options:
        # As libpq has it: who names an authority wants it asked.
        mode = "verify-ca"
    if mode in _UNVERIFIED and "sslcert" not in options:
        return mode
    authorities = options.get("sslrootcert")
    try:
        context = ssl.create_default_context(cafile=None if authorities == "system" else authorities)
        if "sslcert" in options:
            context.load_cert_chain(options["sslcert"], options.get("sslkey"))
    except (OSError, ValueError):
        raise StoreUnusable("database_url: sslrootcert, sslcert or sslkey cannot be read") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = mode == "verify-full"
    if mode in _UNVERIFIED:
        context.verify_mode = ssl.CERT_NONE
    return context
