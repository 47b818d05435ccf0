"""Where to listen, from endpoint descriptions.

A description is what ``twisted.internet.endpoints.serverFromString`` takes (``tcp:``, ``tcp6:``,
``unix:``, ``systemd:``, ``haproxy:``...), with these rules on top:

* ``8443`` is ``ssl:8443`` when the settings name a certificate, else ``tcp:8443``, and may have their
  options: ``8443:interface=127.0.0.1``;
* ``ssl:8443`` takes the certificate of the settings (``ssl_key_path``, ``ssl_cert_path``) and
  ``ssl:8443:privateKey=K:certKey=C[:extraCertChain=X]`` its own; either is read again on SIGHUP;
* ``tls+`` before any other description is the same over that transport, with the same two options:
  ``tls+systemd:domain=INET:index=0``, ``tls+tcp6:8443``, ``tls+unix:/run/voice.sock``,
  ``tls+haproxy:tcp:8443`` (a PROXY header, then TLS);
* ``reusePort=1`` lets several processes listen on one port (``tcp:``, ``tcp6:``, ``ssl:``, and behind
  ``tls+`` and ``haproxy:``);
* the accept queue is ``LISTEN_BACKLOG_COUNT`` unless the description has a ``backlog``, and a Unix
  socket is for its owner and group (``mode=660``) unless it has a ``mode``.

Twisted's own ``tls:`` is refused: it renews no certificate on SIGHUP and chooses its own suites.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import SettingsError
from .limits import LISTEN_BACKLOG_COUNT
from .tls import KeyPair

if TYPE_CHECKING:
    from .config.settings import Settings

# Where Twisted takes an option by position: the index after the prefix (endpoints._parseTCP, ...).
_OPTIONS: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "tcp": {"backlog": (2, str(LISTEN_BACKLOG_COUNT))},
    "tcp6": {"backlog": (1, str(LISTEN_BACKLOG_COUNT))},
    "unix": {"backlog": (2, str(LISTEN_BACKLOG_COUNT)), "mode": (1, "660")},
}
_SSL_POSITIONS: Final = ("privateKey", "certKey", "sslmethod", "interface", "backlog", "extraCertChain")
_TLS_OPTIONS: Final = frozenset({"privateKey", "certKey", "extraCertChain"})

# A colon that no backslash escapes; a backslash escapes any one character (endpoints._tokenize).
_FIELD: Final = re.compile(r"(?:[^\\:]|\\.)*", re.DOTALL)
_NAMED: Final = re.compile(r"((?:[^\\=]|\\.)*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen: ``description`` as it was written, ``plain`` as Twisted is given it."""

    description: str
    plain: str
    pair: KeyPair | None
    reuse_port: bool = False

    @property
    def is_inherited(self) -> bool:
        """Whether the socket is somebody else's, who listens on when this process has ended."""
        return self.plain.removeprefix("haproxy:").startswith("systemd:")


def _split(description: str) -> list[str]:
    """Split at the colons, leaving escapes in place."""
    fields, at = [], 0
    while True:
        found = _FIELD.match(description, at)
        if found is None or (found.end() < len(description) and description[found.end()] != ":"):
            raise ValueError("a lone backslash at the end")
        fields.append(found.group())
        at = found.end() + 1
        if at > len(description):
            return fields


def _unescape(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)


def _take_tls_options(fields: Sequence[str], own: KeyPair | None) -> tuple[list[str], KeyPair]:
    """Separate the certificate from the rest of a description; ``own`` is the settings'."""
    rest, paths = [], {}
    for field in fields:
        named = _NAMED.fullmatch(field)
        if named and named[1] in _TLS_OPTIONS:
            paths[named[1]] = Path(_unescape(named[2]))
        elif named and named[1] in {"sslmethod", "dhParameters"}:
            raise ValueError(f"{named[1]} cannot be chosen: TLS 1.2 and 1.3 with ECDHE are spoken")
        else:
            rest.append(field)
    if not paths:
        if own is None:
            raise ValueError("names no certificate, and ssl_key_path and ssl_cert_path are not set")
        return rest, own
    if "privateKey" not in paths:
        raise ValueError("names no privateKey")
    # As Twisted has it: one file may hold both.
    key_path = paths["privateKey"]
    return rest, KeyPair(key_path, paths.get("certKey", key_path), paths.get("extraCertChain"))


def _take_reuse_port(fields: Sequence[str]) -> tuple[list[str], bool]:
    """Separate ``reusePort`` from the rest of a description, which begins with its kind."""
    rest, value = [], "0"
    for field in fields:
        named = _NAMED.fullmatch(field)
        if named and named[1] == "reusePort":
            value = named[2]
        else:
            rest.append(field)
    if value not in ("0", "1"):
        raise ValueError("reusePort is 0 or 1")
    kind = next((field for field in rest if field != "haproxy"), "")
    if value == "1" and kind not in ("tcp", "tcp6"):
        raise ValueError(f"{kind}: takes no reusePort, only tcp:, tcp6: and ssl: do")
    return rest, value == "1"


def _with_defaults(fields: Sequence[str]) -> list[str]:
    """Add what Twisted would set too low or too open."""
    if fields[0] == "haproxy":
        return ["haproxy", *_with_defaults(fields[1:])] if len(fields) > 1 else list(fields)
    named = {found[1] for field in fields if (found := _NAMED.fullmatch(field))}
    positions = sum(1 for field in fields[1:] if not _NAMED.fullmatch(field))
    added = [
        f"{option}={default}"
        for option, (index, default) in _OPTIONS.get(fields[0], {}).items()
        if option not in named and positions <= index
    ]
    return [*fields, *added]


def _name_ssl_positions(fields: Sequence[str]) -> list[str]:
    """``ssl:8443:key.pem:cert.pem`` said with names."""
    positional = [field for field in fields if not _NAMED.fullmatch(field)]
    named = [field for field in fields if _NAMED.fullmatch(field)]
    if len(positional) > 1 + len(_SSL_POSITIONS):
        raise ValueError("too many arguments")
    return [
        *positional[:1],
        *(f"{name}={value}" for name, value in zip(_SSL_POSITIONS, positional[1:], strict=False)),
        *named,
    ]


def take_apart(description: str, own: KeyPair | None) -> Place:
    """Read one description; ``own`` is the certificate of the settings.

    Raises: ``ValueError`` with what is wrong with it.
    """
    kind, *rest = _split(description)
    if kind.isdecimal():
        kind, rest = "ssl" if own else "tcp", [kind, *rest]
    pair = None
    if kind == "tls":
        raise ValueError("tls: is not supported; ssl: is, or tls+ before another endpoint")
    if kind == "ssl":
        kind, (rest, pair) = "tcp", _take_tls_options(_name_ssl_positions(rest), own)
    elif kind.startswith("tls+"):
        kind, (rest, pair) = kind.removeprefix("tls+"), _take_tls_options(rest, own)
    plain, reuse_port = _take_reuse_port([kind, *rest])
    return Place(description, ":".join(_with_defaults(plain)), pair, reuse_port)


def own_pair(settings: Settings) -> KeyPair | None:
    """The certificate of the settings."""
    if settings.ssl_key_path is None or settings.ssl_cert_path is None:
        return None
    return KeyPair(settings.ssl_key_path, settings.ssl_cert_path)


def _read_places(key: str, descriptions: Iterable[str], settings: Settings) -> tuple[Place, ...]:
    places, problems = [], []
    for description in descriptions:
        try:
            places.append(take_apart(description, own_pair(settings)))
        except ValueError as error:
            problems.append(f"{key}: {description}: {error}")
    if problems:
        raise SettingsError(problems)
    return tuple(places)


def public_places(settings: Settings) -> tuple[Place, ...]:
    """Where the public site listens. Raises: ``SettingsError``, a line for each description."""
    return _read_places("listen", settings.listen or (str(settings.port),), settings)


def admin_places(settings: Settings) -> tuple[Place, ...]:
    """Where the admin site listens, if anywhere. Raises: ``SettingsError``."""
    return _read_places("admin", [settings.admin] if settings.admin else [], settings)
