"""A NATS user's key: read from its seed, and signing what a server asks to have signed.

A seed is base32 (RFC 4648 section 6, without padding) of two prefix bytes, the 32 bytes of an Ed25519
key, and a CRC-16 of these (little-endian). The first five bits are those of ``S``, the eight bits after
them say whose key it is. Source: github.com/nats-io/nkeys, ``strkey.go`` and ``crc16.go``.
"""

from __future__ import annotations

from base64 import b32decode, b32encode, b64encode
from binascii import crc_hqx
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIX_SEED: Final = 18 << 3  # S
PREFIX_USER: Final = 20 << 3  # U
_SEED_BYTES: Final = 2 + 32 + 2


class BadSeed(ValueError):
    """It is no seed; what it is is not said."""


class NatsKey:
    """A key pair of any kind (user, account, operator)."""

    def __init__(self, private: bytes, prefix: int = PREFIX_USER) -> None:
        """``private`` are 32 bytes."""
        self._private = Ed25519PrivateKey.from_private_bytes(private)
        self._raw = private
        self._prefix = prefix

    @classmethod
    def from_seed(cls, seed: str) -> NatsKey:
        """Read a seed. Raises: ``BadSeed``."""
        try:
            raw = b32decode(seed + "=" * (-len(seed) % 8))
        except ValueError:
            raise BadSeed from None
        if len(raw) != _SEED_BYTES or raw[0] & 0xF8 != PREFIX_SEED:
            raise BadSeed
        if crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
            raise BadSeed
        return cls(raw[2:-2], (raw[0] & 7) << 5 | raw[1] >> 3)

    @property
    def seed(self) -> str:
        """The seed it can be read from again."""
        prefix = bytes((PREFIX_SEED | self._prefix >> 5, (self._prefix & 31) << 3))
        return _encode(prefix + self._raw)

    @property
    def public(self) -> str:
        """The public key as servers know it."""
        return _encode(bytes((self._prefix,)) + self._private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes (RFC 8032)."""
        return self._private.sign(message)

    def answer(self, nonce: str) -> bytes:
        """The signature of a server's nonce as it goes into CONNECT, in base64."""
        return b64encode(self.sign(nonce.encode()))


def _encode(raw: bytes) -> str:
    return b32encode(raw + crc_hqx(raw, 0).to_bytes(2, "little")).rstrip(b"=").decode()
