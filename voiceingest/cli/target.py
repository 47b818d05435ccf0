"""The far end of a client: its URL, how it is trusted, and what a failed connection is told as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionAborted,
    DNSLookupError,
)
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from zope.interface import implementer

from .failures import ConnectionFailed, UsageFailed

CONNECT_TIMEOUT_S: Final = 10.0
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Trust:
    """Which servers are believed: those the system trusts, those of ``ca``, or (``insecure``) any."""

    ca: Path | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A WebSocket URL taken apart. ``resource`` may hold a ticket and is not for display."""

    secure: bool
    host: str
    port: int
    resource: str

    @property
    def url(self) -> str:
        """The whole URL."""
        return self._origin + self.resource

    @property
    def label(self) -> str:
        """The URL as it may be shown: without its query."""
        return self._origin + self.resource.partition("?")[0]

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine hears what is said."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def _origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.secure else 'ws'}://{host}:{self.port}"


def parse_target(url: str, default_path: str = "/v1/ingest") -> Target:
    """Take a ``ws://`` or ``wss://`` URL apart. Raises: ``UsageFailed``."""
    hint = "such as wss://voice.example.com:8443/v1/ingest"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise UsageFailed("the URL cannot be read", hint=hint) from problem
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise UsageFailed("the URL is a WebSocket's: it begins with ws:// or wss://", hint=hint)
    secure = parts.scheme == "wss"
    path = parts.path if parts.path not in ("", "/") else default_path
    query = f"?{parts.query}" if parts.query else ""
    return Target(secure, parts.hostname, port or (443 if secure else 80), path + query)


def endpoint(reactor: Any, host: str, port: int, trust: Trust | None) -> IStreamClientEndpoint:
    """Where to connect; over TLS when there is a ``trust``. Raises: ``UsageFailed``."""
    plain = HostnameEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT_S)
    if trust is None:
        return plain
    return wrapClientTLS(client_tls(host, trust), plain)


def client_tls(host: str, trust: Trust) -> IOpenSSLClientConnectionCreator:
    """The TLS side of a client that expects ``host``. Raises: ``UsageFailed``."""
    if trust.insecure:
        return _Unverified(host)
    if trust.ca is None:
        return optionsForClientTLS(host)
    return optionsForClientTLS(host, trustRoot=trustRootFromCertificates(_authorities(trust.ca)))


def _authorities(ca: Path) -> list[Certificate]:
    try:
        blocks = ca.read_bytes().split(_BEGIN)[1:]
        certificates = [Certificate.loadPEM(_BEGIN + block) for block in blocks]
    except (OSError, ValueError, crypto.Error) as problem:
        raise UsageFailed(f"--ca {ca} cannot be read as PEM certificates") from problem
    if not certificates:
        raise UsageFailed(f"--ca {ca} holds no PEM certificate")
    return certificates


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """TLS that encrypts and believes anybody: for ``--insecure`` only."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._context = CertificateOptions(verify=False).getContext()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Make the connection, naming the host but not checking it."""
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        if not self._host.replace(".", "").isdigit() and ":" not in self._host:
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection


def connection_failed(problem: BaseException | None, label: str) -> ConnectionFailed:
    """Tell a failed connection to ``label`` in one line, with what would help."""
    if isinstance(problem, VerificationError):
        return ConnectionFailed(
            f"the certificate of {label} is for another name",
            reason="tls_name",
            hint="use the name in the certificate, or --insecure to try without looking at it",
        )
    if isinstance(problem, SSL.Error):
        return _tls_failed(problem, label)
    if isinstance(problem, DNSLookupError):
        return ConnectionFailed(f"no address is known for {label}", reason="dns")
    if isinstance(problem, (ConnectTimeout, ConnectingCancelledError)):
        return ConnectionFailed(
            f"{label} does not answer", reason="timeout", hint="is a firewall in between?"
        )
    if isinstance(problem, ConnectError):
        return ConnectionFailed(
            f"nothing listens at {label}",
            reason="refused",
            hint="is the server running, and is the port right?",
        )
    if isinstance(problem, ConnectionAborted):
        return ConnectionFailed(f"{label} does not answer as a WebSocket does", reason="not_websocket")
    return ConnectionFailed(
        f"{label} hung up before the connection was ready",
        reason="lost",
        hint="does the port speak TLS, and does the URL say so (wss://, rediss://)?",
    )


def _tls_failed(problem: SSL.Error, label: str) -> ConnectionFailed:
    said = str(problem)
    if "certificate verify failed" in said:
        return ConnectionFailed(
            f"the certificate of {label} is not signed by an authority this machine trusts",
            reason="tls_verify",
            hint="name the authority with --ca FILE; --insecure goes without, for trying out only",
        )
    if "wrong version number" in said or "packet length too long" in said or "record layer" in said:
        return ConnectionFailed(
            f"{label} does not speak TLS", reason="tls_none", hint="is it ws:// or redis://?"
        )
    hint = "do both sides share a version and a cipher?"
    return ConnectionFailed(f"TLS with {label} failed", reason="tls", hint=hint)
