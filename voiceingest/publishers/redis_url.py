"""Where a Redis is and how to be let in: its URL, read once; its certificate, always verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from ..errors import BadCertificate, SettingsError

_PORT = 6379
_SCHEMES = ("redis", "rediss", "unix")
_PEM_END = b"-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A Redis URL, decoded. ``path`` is that of a Unix socket, where ``host`` is empty."""

    host: str = ""
    port: int = _PORT
    path: str = ""
    tls: bool = False
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def parse_redis_url(url: str) -> RedisUrl:
    """Read ``redis[s]://[user:password@]host[:port][/db]`` or ``unix://[user:password@]/path?db=0``.

    User, password and path are percent-decoded.

    Raises: ``SettingsError``; its text never repeats a part of the URL, which may be the password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        # Not chained: urllib quotes what it cannot read, and that may be a piece of the password.
        raise _problem("cannot be read; special characters must be percent-encoded") from None
    if parts.scheme not in _SCHEMES:
        raise _problem("the scheme is one of redis, rediss, unix")
    if parts.fragment:
        raise _problem("has a '#': special characters must be percent-encoded")
    if query.keys() - {"db"}:
        raise _problem("the only parameter is db")
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password is not None else None
    if username is not None and password is None:
        raise _problem("names a user without a password")
    is_unix = parts.scheme == "unix"
    if is_unix and (host or not parts.path):
        raise _problem("a unix URL has a path and no host: unix:///run/redis.sock")
    return RedisUrl(
        host="" if is_unix else host or "localhost",
        port=port or _PORT,
        path=unquote(parts.path) if is_unix else "",
        tls=parts.scheme == "rediss",
        db=_database(query.get("db", "") if is_unix else query.get("db", parts.path.lstrip("/"))),
        username=username,
        password=password,
    )


def client_tls(host: str, ca_path: Path | None) -> IOpenSSLClientConnectionCreator:
    """TLS 1.2+ towards ``host``, whose certificate must carry its name and be signed by ``ca_path``.

    Without ``ca_path`` the platform's authorities count. Raises: ``BadCertificate``.
    """
    if ca_path is None:
        return optionsForClientTLS(host)
    try:
        blocks = ca_path.read_bytes().split(_PEM_END)[:-1]
        authorities = [Certificate.loadPEM(block + _PEM_END) for block in blocks]
    except OSError as error:
        raise BadCertificate(f"redis_ca_path: {ca_path}: {error.strerror}") from None
    except Exception as error:
        # pyOpenSSL raises its own Error, cryptography ValueError: both mean the same here.
        raise BadCertificate(f"redis_ca_path: {ca_path}: not a PEM certificate") from error
    if not authorities:
        raise BadCertificate(f"redis_ca_path: {ca_path}: holds no PEM certificate")
    return optionsForClientTLS(host, trustRoot=trustRootFromCertificates(authorities))


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise _problem("the database is a number")
    return int(text or 0)


def _problem(text: str) -> SettingsError:
    return SettingsError([f"publish_url: {text}"])
