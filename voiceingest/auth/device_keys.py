"""The keys that tokens of devices are signed and verified with, from the settings. Pure.

A key decides its algorithm: a secret signs HS256, a private key RS256, and what a token's header says
has to agree (RFC 8725 section 3.1). A secret and a public key are never the same key, so that no public
key can be taken for a secret. ``kid`` is made from the key and only ever selects among those that are
loaded.
"""

from __future__ import annotations

import hashlib
import hmac
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from jwt.algorithms import RSAAlgorithm
from pydantic import SecretStr

from ..config import Settings
from ..errors import BadKey
from .keys import RSA_MAX_BITS, RSA_MIN_BITS

# Of a SHA-256, in hex: what tells a handful of keys apart.
_KID_CHARS: Final = 16

_RS256: Final = RSAAlgorithm(RSAAlgorithm.SHA256)


class DeviceKey(ABC):
    """One key, by whose name and algorithm a token has to go."""

    algorithm: ClassVar[str]

    def __init__(self, public: bytes) -> None:
        """``public`` is what the name is made of: the public key, or the secret where there is none."""
        self.kid = hashlib.sha256(public).hexdigest()[:_KID_CHARS]

    @abstractmethod
    def sign(self, signed: bytes) -> bytes:
        """The signature of ``signed``."""

    @abstractmethod
    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is that of ``signed``."""


class SecretKey(DeviceKey):
    """A shared secret; its length is a rule of the settings."""

    algorithm = "HS256"

    def __init__(self, secret: bytes) -> None:
        """Raises: ``BadKey`` for what is a key of another kind, which others may know."""
        if b"-----BEGIN " in secret:
            raise BadKey("the secret for devices is a PEM; a private key goes where it is asked for")
        super().__init__(secret)
        self._secret = secret

    def sign(self, signed: bytes) -> bytes:
        """RFC 7518 section 3.2."""
        return hmac.digest(self._secret, signed, "sha256")

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """In constant time."""
        return hmac.compare_digest(self.sign(signed), signature)


class PrivateKey(DeviceKey):
    """An RSA private key."""

    algorithm = "RS256"

    def __init__(self, pem: str) -> None:
        """A literal ``\\n`` is read as a line break. Raises: ``BadKey``, whose text repeats nothing of it."""
        self._private = _private(pem.replace("\\r", "").replace("\\n", "\n").strip())
        self._public = self._private.public_key()
        super().__init__(self._public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def sign(self, signed: bytes) -> bytes:
        """RFC 7518 section 3.3."""
        return _RS256.sign(signed, self._private)

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """With the public half."""
        return _RS256.verify(signed, self._public, signature)


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """The key that signs, and every one that verifies, by its name."""

    signing: DeviceKey
    by_kid: dict[str, DeviceKey]

    @classmethod
    def from_settings(cls, settings: Settings) -> DeviceKeys:
        """Load what is set; of a private key and a secret the private key signs.

        Raises: ``BadKey`` where there is none to sign with, or one that cannot be used.
        """
        keys: list[DeviceKey] = [
            PrivateKey(pem.get_secret_value())
            for pem in (settings.jwt_private_key, settings.jwt_private_key_previous)
            if pem is not None
        ]
        keys += [
            SecretKey(_bytes(secret))
            for secret in (settings.jwt_secret, settings.jwt_secret_previous)
            if secret is not None
        ]
        if settings.jwt_private_key is None and settings.jwt_secret is None:
            raise BadKey("there is no key to sign the tokens of devices with")
        # A previous private key beside a secret is not the one to sign with.
        signing = next(
            key for key in keys if settings.jwt_private_key is not None or isinstance(key, SecretKey)
        )
        return cls(signing, {key.kid: key for key in keys})


def _bytes(secret: SecretStr) -> bytes:
    return secret.get_secret_value().encode("utf-8", "surrogatepass")


def _private(pem: str) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode("utf-8", "surrogatepass"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # TypeError: it wants a password.
        raise BadKey("the private key for devices is not a PEM private key that can be read") from None
    if not isinstance(key, RSAPrivateKey):
        raise BadKey("the private key for devices is not an RSA key")
    if not RSA_MIN_BITS <= key.key_size <= RSA_MAX_BITS:
        wanted = f"{RSA_MIN_BITS} to {RSA_MAX_BITS}"
        raise BadKey(f"the private key for devices has {key.key_size} bits, not {wanted}")
    return key
