"""Making keys, certificates and tokens: for trying out, for tests, for small installations. Pure
but for randomness: files are written elsewhere, the wall clock is an argument.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# NIST SP 800-57 part 1 table 2: 3072 bits are good past 2030; below 2048 nobody verifies.
RSA_BITS: Final = 3072
RSA_MIN_BITS: Final = 2048
RSA_MAX_BITS: Final = 8192

# Browsers and Apple's systems refuse server certificates that live longer than this.
CERTIFICATE_DAYS: Final = 397

# Claims with a meaning of their own, which ``--claim`` may not set behind the back of an option.
RESERVED_CLAIMS: Final = frozenset({"exp", "iat"})


class BadPrivateKey(ValueError):
    """A key that cannot sign; the text repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and what is public of it, both in PEM."""

    private_pem: bytes = field(repr=False)
    public_pem: bytes


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a token is to say. ``lifetime_s`` in seconds."""

    tenant_id: str
    interaction_id: str | None = None
    subject: str | None = None
    lifetime_s: float = 3600.0
    issuer: str | None = None
    audience: str | None = None
    kid: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def _private_pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def rsa_pair(bits: int = RSA_BITS) -> KeyPair:
    """A new RSA pair for RS256."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return KeyPair(_private_pem(key), public)


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def tls_pair(hosts: list[str], now: datetime, days: int = CERTIFICATE_DAYS) -> KeyPair:
    """A new key (P-256) and a certificate for ``hosts`` signed by itself.

    Raises: ``ValueError`` for a host that is neither a name nor an address.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    names = [_alternative_name(host) for host in hosts]
    usage = {name: name == "digital_signature" for name in _KEY_USAGES}
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(_private_pem(key), certificate.public_bytes(serialization.Encoding.PEM))


_KEY_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key that is ready to sign, and the algorithm that goes with it."""

    key: Any = field(repr=False)
    algorithm: str = "RS256"


def load_signer(pem: bytes) -> Signer:
    """Read a private key. Raises: :class:`BadPrivateKey`."""
    if b"PUBLIC KEY" in pem:
        raise BadPrivateKey("it is a public key; tokens are signed with the private one")
    if b"ENCRYPTED" in pem:
        raise BadPrivateKey("it has a pass phrase; take that off first (openssl pkey -in ... -out ...)")
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadPrivateKey("it is not a PEM private key") from None
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < RSA_MIN_BITS:
            raise BadPrivateKey(f"it has {key.key_size} bits; nobody verifies fewer than {RSA_MIN_BITS}")
        return Signer(key, "RS256")
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return Signer(key, "ES256")
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1):
        return Signer(key, "ES384")
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return Signer(key, "EdDSA")
    raise BadPrivateKey("it is of a kind tokens are not signed with (RSA, P-256, P-384, Ed25519 are)")


def claims_of(request: TokenRequest, now_s: float) -> dict[str, Any]:
    """The claims of a token minted at ``now_s``, in seconds since the epoch."""
    named = {
        "sub": request.subject,
        "tenant_id": request.tenant_id,
        "interaction_id": request.interaction_id,
        "iss": request.issuer,
        "aud": request.audience,
    }
    given = {name: value for name, value in named.items() if value is not None}
    return {**given, **request.extra, "iat": int(now_s), "exp": int(now_s + request.lifetime_s)}


def mint(signer: Signer, request: TokenRequest, now_s: float) -> str:
    """Sign one token."""
    headers = {"kid": request.kid} if request.kid else None
    return jwt.encode(claims_of(request, now_s), signer.key, algorithm=signer.algorithm, headers=headers)
