"""Where a Redis is and how to be let in: its URL, read once; its certificate, always verified.

``redis[s]`` and ``unix`` are pub/sub, ``redis[s]-streams`` are streams; with ``+sentinel`` the hosts are
sentinels, and the path is the name they know the primary by (redis.io/docs/latest/develop/reference/
sentinel-clients, read 2026-11-20).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from ..errors import BadCertificate, SettingsError

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_SCHEME: Final = re.compile(r"unix|(rediss?)(-streams)?(\+sentinel)?")
_PEM_END: Final = b"-----END CERTIFICATE-----"

# Each is asked once a second by every daemon; three or five are usual.
SENTINELS_MAX_COUNT: Final = 16

# What a sentinel takes for a name (sentinel.c, sentinelIsValidName): the rest would break its own file.
_SERVICE: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A Redis URL, decoded. ``path`` is that of a Unix socket, where ``host`` is empty.

    With ``sentinels``, ``(host, port)`` each, ``host`` is empty too and ``service`` is whom to ask for.
    """

    host: str = ""
    port: int = _PORT
    path: str = ""
    tls: bool = False
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    streams: bool = False
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""


def parse_redis_url(url: str) -> RedisUrl:
    """Read the URL of one Redis, or of the sentinels that know it.

    ``redis[s][-streams]://[user:password@]host[:port][/db]``, ``unix://[user:password@]/path?db=0`` or
    ``redis[s][-streams]+sentinel://[user:password@]host[:port],host[:port].../service[/db]``. User,
    password, path and service are percent-decoded.

    Raises: ``SettingsError``; its text never repeats a part of the URL, which may be the password.
    """
    try:
        parts, hosts = _split(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        # Not chained: urllib quotes what it cannot read, and that may be a piece of the password.
        raise _problem("cannot be read; special characters must be percent-encoded") from None
    transport, is_streams, by_sentinels = _kind(parts.scheme)
    if parts.fragment:
        raise _problem("has a '#': special characters must be percent-encoded")
    if query.keys() - {"db"}:
        raise _problem("the only parameter is db")
    username, password = _login(parts)
    place, _, rest = parts.path.lstrip("/").partition("/")
    db = query.get("db", "")
    found = partial(
        RedisUrl, tls=transport == "rediss", username=username, password=password, streams=is_streams
    )
    if transport == "unix":
        if hosts != [("", None)] or not parts.path:
            raise _problem("a unix URL has a path and no host: unix:///run/redis.sock")
        return found(path=unquote(parts.path), db=_database(db))
    if by_sentinels:
        return found(db=_database(db or rest), **_sentinels(unquote(place), hosts))
    if len(hosts) != 1 or rest:
        raise _problem("several hosts or a service: the scheme then ends with +sentinel")
    host, port = hosts[0]
    return found(host or "localhost", port or _PORT, db=_database(db or place))


def tls_for(ca_path: Path | None) -> Callable[[str], IOpenSSLClientConnectionCreator]:
    """TLS 1.2+ towards a host, whose certificate must carry its name or address and be signed by one
    of the authorities in ``ca_path``; without it the platform's count.

    Raises: ``BadCertificate``.
    """
    if ca_path is None:
        return optionsForClientTLS
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
    return partial(optionsForClientTLS, trustRoot=trustRootFromCertificates(authorities))


def _split(url: str) -> tuple[SplitResult, list[tuple[str, int | None]]]:
    """The URL without its hosts, and the hosts. Raises: ``ValueError``."""
    scheme, separator, rest = url.partition("://")
    authority = re.match(r"[^/?#]*", rest)
    after = authority.end() if authority else 0
    login, at, hosts = rest[:after].rpartition("@")
    # urllib knows of one host only, and refuses some lists of them.
    places = [urlsplit(f"//{host}") for host in hosts.split(",")]
    named = [(place.hostname or "", place.port) for place in places]
    return urlsplit(f"{scheme}{separator}{login}{at}{rest[after:]}"), named


def _kind(scheme: str) -> tuple[str, bool, bool]:
    """Transport, whether it is streams, whether sentinels are asked. Raises: ``SettingsError``."""
    found = _SCHEME.fullmatch(scheme)
    if found is None:
        raise _problem("the scheme is redis, rediss or unix; -streams and +sentinel go with the first two")
    return found[1] or "unix", bool(found[2]), bool(found[3])


def _login(parts: SplitResult) -> tuple[str | None, str | None]:
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password is not None else None
    if username is not None and password is None:
        raise _problem("names a user without a password")
    return username, password


def _sentinels(service: str, hosts: list[tuple[str, int | None]]) -> dict[str, Any]:
    if not _SERVICE.fullmatch(service):
        raise _problem("the sentinels are asked for a service: redis+sentinel://host,host/service/db")
    if not all(host for host, _ in hosts) or len(hosts) > SENTINELS_MAX_COUNT:
        raise _problem(f"names 1 to {SENTINELS_MAX_COUNT} sentinels: redis+sentinel://host,host/service/db")
    return {
        "service": service,
        "sentinels": tuple((host, port or _SENTINEL_PORT) for host, port in hosts),
    }


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise _problem("the database is a number")
    return int(text or 0)


def _problem(text: str) -> SettingsError:
    return SettingsError([f"publish_url: {text}"])
