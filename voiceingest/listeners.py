"""From endpoint descriptions to listening ports.

A description is what ``twisted.internet.endpoints.serverFromString`` takes (``tcp:``, ``tcp6:``,
``unix:``, ``systemd:``, ``haproxy:``...), with these rules on top:

* ``8443`` alone is ``ssl:8443`` when the settings name a certificate, else ``tcp:8443``;
* ``ssl:8443`` takes the certificate of the settings (``ssl_key_path``, ``ssl_cert_path``) and
  ``ssl:8443:privateKey=K:certKey=C[:extraCertChain=X]`` its own; either is read again on SIGHUP;
* ``tls+`` before any other description is the same over that transport, with the same two options:
  ``tls+systemd:domain=INET:index=0``, ``tls+tcp6:8443``, ``tls+unix:/run/voice.sock``,
  ``tls+haproxy:tcp:8443`` (a PROXY header, then TLS);
* the accept queue is ``LISTEN_BACKLOG_COUNT`` unless the description has a ``backlog``, and a Unix
  socket is for its owner and group (``mode=660``) unless it has a ``mode``.

Twisted's own ``tls:`` is refused: it renews no certificate on SIGHUP and chooses its own suites.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, FirstError, ensureDeferred, gatherResults
from twisted.internet.endpoints import serverFromString, wrapServerTLS
from twisted.internet.error import AlreadyListened, CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from .errors import PortUnavailable, SettingsError
from .limits import LISTEN_BACKLOG_COUNT
from .tls import Certificates, KeyPair

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
    port_only = f"{'ssl' if own else 'tcp'}:{description}" if description.isdecimal() else None
    kind, *rest = _split(port_only or description)
    pair = None
    if kind == "tls":
        raise ValueError("tls: is not supported; ssl: is, or tls+ before another endpoint")
    if kind == "ssl":
        kind, (rest, pair) = "tcp", _take_tls_options(_name_ssl_positions(rest), own)
    elif kind.startswith("tls+"):
        kind, (rest, pair) = kind.removeprefix("tls+"), _take_tls_options(rest, own)
    return Place(description, ":".join(_with_defaults([kind, *rest])), pair)


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


class Listener:
    """The ports of one site, bound together or not at all: a child of the service tree."""

    _log = Logger()

    def __init__(
        self,
        name: str,
        places: Sequence[Place],
        factory: IProtocolFactory,
        certificates: Certificates,
        reactor: Any,
    ) -> None:
        """Make the endpoints; no socket is opened.

        Raises: ``SettingsError`` for what Twisted cannot read, ``BadCertificate``.
        """
        self.name = name
        self._factory = factory
        self._ports: list[IListeningPort] = []
        self._endpoints = [(place, self._make_endpoint(place, certificates, reactor)) for place in places]

    def _make_endpoint(self, place: Place, certificates: Certificates, reactor: Any) -> IStreamServerEndpoint:
        try:
            endpoint: IStreamServerEndpoint = serverFromString(reactor, place.plain)
        # What Twisted's parsers let escape: wrong numbers, wrong options, no such inherited socket.
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise SettingsError([f"{self.name}: {place.description}: {_reason(error)}"]) from None
        if place.pair is None:
            return endpoint
        return wrapServerTLS(certificates.context_for(place.pair), endpoint, reactor)

    @property
    def addresses(self) -> list[Any]:
        """The addresses that are bound, in the order of the descriptions."""
        return [port.getHost() for port in self._ports]

    def start(self) -> Deferred[None]:
        """Bind every port. Fails with ``PortUnavailable``; those bound are then closed again."""
        return ensureDeferred(self._start())

    async def _start(self) -> None:
        for place, endpoint in self._endpoints:
            try:
                port = await endpoint.listen(self._factory)
            except (CannotListenError, AlreadyListened, OSError) as error:
                await self.stop()
                line = f"{self.name}: {place.description}: cannot listen: {_reason(error)}"
                raise PortUnavailable(line) from None
            self._ports.append(port)
            self._log.info(
                "Listening on {address}", event="listening", site=self.name, address=_where(port.getHost()),
                tls=place.pair is not None,
            )

    def stop(self) -> Deferred[None]:
        """Accept nothing more. Connections that are open stay."""
        ports, self._ports = self._ports, []
        closed = [Deferred.fromCoroutine(_stop_listening(port)) for port in ports]
        # A stop that is cut short is a cancellation, not a failure of one of several.
        return gatherResults(closed, consumeErrors=True).addCallbacks(lambda _: None, _first_reason)


def _first_reason(failure: Failure) -> Failure:
    return failure.value.subFailure if isinstance(failure.value, FirstError) else failure


async def _stop_listening(port: IListeningPort) -> None:
    closing = port.stopListening()
    if closing is not None:
        await closing


def _where(address: Any) -> str:
    """An address as it is written."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if host is None:
        return os.fsdecode(getattr(address, "name", None) or "unnamed socket")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: Exception) -> str:
    """What went wrong in a few words: the operating system's, where it has some."""
    if isinstance(error, CannotListenError):
        error = error.socketError
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
