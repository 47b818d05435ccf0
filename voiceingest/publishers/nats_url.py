"""Where the NATS servers are and how to be let in: the URL, the credentials, the authorities believed."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from ..errors import BadCertificate, SettingsError
from .nats_keys import NatsKey

_PORT: Final = 4222
_SCHEMES: Final = {"nats": False, "nats+tls": True}
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_CREDENTIALS: Final = ("NATS USER JWT", "USER NKEY SEED")


@dataclass(frozen=True, slots=True)
class NatsUrl:
    """A NATS URL, decoded. ``tls``: nothing is said in clear, whatever the server offers."""

    servers: tuple[tuple[str, int], ...]
    tls: bool = False
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


def parse_nats_url(url: str) -> NatsUrl:
    """Read ``nats[+tls]://[user:password@|token@]host[:port][,host[:port]]...``.

    User, password and token are percent-decoded.

    Raises: ``SettingsError``; its text never repeats a part of the URL, which may be the password.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES:
        raise _problem("the scheme is one of nats, nats+tls")
    login, at, hosts = rest.removesuffix("/").rpartition("@")
    if re.search(r"[/?#@\s]", login) or re.search(r"[/?#\s]", hosts):
        raise _problem("holds what is no server; special characters must be percent-encoded")
    servers = tuple(_server(name) for name in (hosts or "localhost").split(","))
    name, colon, password = login.partition(":")
    if at and not (name and (password or not colon)):
        raise _problem("what is before the '@' is user:password or a token")
    return NatsUrl(
        servers=servers,
        tls=_SCHEMES[scheme],
        username=unquote(name) if colon else None,
        password=unquote(password) if colon else None,
        token=unquote(name) if at and not colon else None,
    )


def nats_tls(ca_path: Path | None) -> ssl.SSLContext:
    """TLS 1.2+ that checks name and signature; ``ca_path``: who may have signed, else the system's.

    The standard library's and not pyOpenSSL's: nats-py speaks asyncio's TLS. Raises: ``BadCertificate``.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_path is None else str(ca_path))
    except ssl.SSLError:
        raise BadCertificate(f"nats_ca_path: {ca_path}: holds no PEM certificate") from None
    except OSError as error:
        raise BadCertificate(f"nats_ca_path: {ca_path}: {error.strerror}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def read_credentials(path: Path) -> tuple[str, NatsKey]:
    """A credentials file: a user's JWT and its key. Raises: ``SettingsError``, without what is in it."""
    try:
        text = path.read_text("ascii")
    except OSError as error:
        raise SettingsError([f"nats_credentials_path: {path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        text = ""
    found = [re.search(rf"BEGIN {what}-*\r?\n(\S+)\r?\n", text) for what in _CREDENTIALS]
    try:
        token, seed = (one[1] for one in found if one is not None)
        return token, NatsKey.from_seed(seed)
    except ValueError:
        raise SettingsError([f"nats_credentials_path: {path}: holds no NATS user JWT and seed"]) from None


def _server(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    port = int(found["port"] or _PORT) if found else 0
    if found is None or not 0 < port < 65536:
        raise _problem("each server is host or host:port, and servers are separated by commas")
    return found["host"].strip("[]"), port


def _problem(text: str) -> SettingsError:
    return SettingsError([f"publish_url: {text}"])
