"""TLS as the daemon speaks it, and certificates that are read again while it runs.

TLS 1.2 and 1.3 only, forward-secret AEAD suites only (stock Twisted still offers CBC and static RSA
on 1.2), no compression, no renegotiation, no session resumption (a ticket key would live as long as
the context and weaken the forward secrecy of 1.2), HTTP/1.1 as the only application protocol
(WebSocket is not spoken over HTTP/2 here). Building a context makes a cffi callback: it fails under
systemd's ``MemoryDenyWriteExecute=yes``, which the unit therefore leaves off.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from .errors import BadCertificate

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

# The TLS 1.3 suites are OpenSSL's own: every one is AEAD and forward secret.
CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
PROTOCOL: Final = b"http/1.1"

_OPTIONS: Final = (
    SSL.OP_NO_COMPRESSION
    | SSL.OP_CIPHER_SERVER_PREFERENCE
    | SSL.OP_NO_RENEGOTIATION
    | SSL.OP_NO_TICKET
    | SSL.OP_SINGLE_ECDH_USE
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Where a certificate lives: ``cert_path`` holds it and its chain, leaf first.

    ``chain_path`` is for a chain kept in a file of its own.
    """

    key_path: Path
    cert_path: Path
    chain_path: Path | None = None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadCertificate(f"{path}: {error.strerror}") from None


def _read_certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        raise BadCertificate(f"{path}: holds no PEM certificate that can be read") from None


def _read_key(path: Path) -> crypto.PKey:
    pem = _read(path)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        return crypto.PKey.from_cryptography_key(key)  # type: ignore[arg-type]
    except TypeError:
        # cryptography: "Password was not given but private key is encrypted"; pyOpenSSL: a kind of
        # key that TLS has no use for. Neither text is shown: it might one day quote the file.
        raise BadCertificate(f"{path}: the key is encrypted, or not one for TLS") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadCertificate(f"{path}: holds no PEM private key that can be read") from None


def _choose_protocol(connection: SSL.Connection, offered: Sequence[bytes]) -> Any:
    """Take HTTP/1.1 where it is offered; else go on without, as with a client that offers nothing."""
    return PROTOCOL if PROTOCOL in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def load_context(pair: KeyPair) -> tuple[SSL.Context, float]:
    """Read a key and its certificate.

    Returns the context for servers and when the leaf expires, in seconds since the epoch.
    Raises: ``BadCertificate`` naming the file.
    """
    key = _read_key(pair.key_path)
    leaf, *chain = _read_certificates(pair.cert_path)
    if pair.chain_path is not None:
        chain += _read_certificates(pair.chain_path)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    # Gives the buffers of idle connections back: about 34 KB for each.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(CIPHERS)
    context.set_alpn_select_callback(_choose_protocol)
    try:
        context.use_certificate(crypto.X509.from_cryptography(leaf))
        for certificate in chain:
            context.add_extra_chain_cert(crypto.X509.from_cryptography(certificate))
    except SSL.Error:
        raise BadCertificate(f"{pair.cert_path}: OpenSSL refuses the certificate (key too small?)") from None
    try:
        context.use_privatekey(key)
        context.check_privatekey()
    except SSL.Error:
        raise BadCertificate(f"{pair.key_path}: is not the key of {pair.cert_path}") from None
    return context, leaf.not_valid_after_utc.timestamp()


@implementer(IOpenSSLServerConnectionCreator)
class ReloadingContext:
    """One certificate in use. Connections that are open keep the one they began with."""

    def __init__(self, pair: KeyPair) -> None:
        """Read the files. Raises: ``BadCertificate``."""
        self.pair = pair
        self._context, self.expires_at = load_context(pair)

    def reload(self) -> None:
        """Read the files again. Raises: ``BadCertificate``; the certificate in use is then kept."""
        self._context, self.expires_at = load_context(self.pair)

    def days_to_expiry(self, now: float) -> float:
        """Days until the certificate expires; ``now`` is in seconds since the epoch."""
        return (self.expires_at - now) / 86400.0

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Begin one connection (Twisted calls this for each)."""
        return SSL.Connection(self._context, None)


class Certificates:
    """Every certificate in use, one context for each pair of files however many ports share it."""

    def __init__(self) -> None:
        self._contexts: dict[KeyPair, ReloadingContext] = {}

    def context_for(self, pair: KeyPair) -> ReloadingContext:
        """The context of ``pair``, read on first use. Raises: ``BadCertificate``."""
        if pair not in self._contexts:
            self._contexts[pair] = ReloadingContext(pair)
        return self._contexts[pair]

    @property
    def expires_at(self) -> float:
        """When the first of them expires, in seconds since the epoch; 0 when there is none."""
        return min((context.expires_at for context in self._contexts.values()), default=0.0)

    def reload(self) -> None:
        """Read all again, each for itself.

        Raises: ``BadCertificate`` with every problem; what is broken is kept as it was.
        """
        problems = list(_problems(self._contexts.values()))
        if problems:
            raise BadCertificate("; ".join(problems))


def _problems(contexts: Iterable[ReloadingContext]) -> Iterable[str]:
    for context in contexts:
        try:
            context.reload()
        except BadCertificate as error:
            yield error.message
