"""Verification keys: a loaded set, and the choice of one key of it for a token.

Pure. A set comes from one PEM public key (RFC 7468) or from a JSON Web Key Set (RFC 7517). A
token's header only ever selects among the keys that are loaded (RFC 8725 sections 3.1, 3.10):
``kid`` is compared, never used as a path, a query or an address. Symmetric keys are no keys
here, so a public key can never be taken for an HMAC secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from ..errors import BadKey
from .refusal import UNKNOWN_KEY, refusal

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

# NIST SP 800-131A; RFC 7518 section 3.3 says the same. The upper bound keeps one verification
# below a millisecond.
RSA_MIN_BITS: Final = 2048
RSA_MAX_BITS: Final = 8192

# A rotation needs two; large issuers publish about ten. More than this is not looked at.
KEYS_MAX_COUNT: Final = 32

# A key's name as issuers write them (hex, base64, UUID, URN, DID). What only an attack would
# send (quotes, ``..``, control bytes) does not even make us fetch the key set again.
_KID: Final = re.compile(r"(?![^\n]*\.\.)[A-Za-z0-9 ._~+/=:@#%|,-]{1,128}")

_KIND_OF_ALGORITHM: Final = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "PS384": "RSA",
    "PS512": "RSA",
    "ES256": "P-256",
    "ES384": "P-384",
    "EdDSA": "Ed25519",
}

_READERS: Final[Mapping[str, Callable[[dict[str, Any]], object]]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}

# RFC 7518 section 6: members that only private and symmetric keys have.
_SECRET_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class Key:
    """One parsed public key, the name it goes by and the algorithms it may verify."""

    kid: str | None
    public: PublicKey
    algorithms: frozenset[str]


class KeySet:
    """The keys that are loaded; parsed once, asked for every token.

    ``pinned`` marks the one key of a PEM: it has no name, so a token's ``kid`` selects nothing
    and is left aside. ``ignored`` counts the entries of a document that were not usable.
    """

    def __init__(self, keys: Sequence[Key] = (), *, pinned: bool = False, ignored: int = 0) -> None:
        self.ignored = ignored
        self._count = len(keys)
        self._pinned = pinned
        self._by_kid: dict[str, Key] = {}
        self._by_algorithm: dict[str, list[Key]] = {}
        for key in keys:
            for algorithm in key.algorithms:
                self._by_algorithm.setdefault(algorithm, []).append(key)
            if key.kid is not None:
                self._by_kid.setdefault(key.kid, key)

    def __len__(self) -> int:
        return self._count

    def choose(self, kid: object, algorithm: str) -> PublicKey:
        """Return the key that must have signed. ``kid`` is ``None`` where the header has none.

        Raises: ``Unauthenticated`` (``bad_kid``, ``unknown_key``, ``wrong_key``, ``which_key``).
        """
        if kid is not None:
            if not isinstance(kid, str) or not _KID.fullmatch(kid):
                raise refusal("bad_kid")
            if not self._pinned:
                return self._named(kid, algorithm)
        fitting = self._by_algorithm.get(algorithm, ())
        if len(fitting) > 1:
            raise refusal("which_key")
        if not fitting:
            raise refusal("wrong_key" if self._pinned else UNKNOWN_KEY)
        return fitting[0].public

    def _named(self, kid: str, algorithm: str) -> PublicKey:
        key = self._by_kid.get(kid)
        if key is None:
            raise refusal(UNKNOWN_KEY)
        if algorithm not in key.algorithms:
            raise refusal("wrong_key")
        return key.public


def from_pem(pem: str, algorithms: Collection[str]) -> KeySet:
    """Load one PEM public key; a literal ``\\n`` is read as a line break.

    Raises: ``BadKey``, whose text repeats nothing of the key.
    """
    text = pem.replace("\\r", "").replace("\\n", "\n").strip()
    if "PRIVATE KEY-----" in text:
        raise BadKey("the key is a private one; the daemon wants the public key only")
    if text.count("-----BEGIN ") != 1:
        raise BadKey("the key is not one PEM public key")
    try:
        loaded = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("the key is not a PEM public key that can be read") from None
    public, kind = _checked(loaded)
    fitting = _fitting(kind, algorithms)
    if not fitting:
        raise BadKey(f"the key ({kind}) fits none of the algorithms accepted")
    return KeySet([Key(None, public, fitting)], pinned=True)


def from_jwks(document: bytes, algorithms: Collection[str]) -> KeySet:
    """Load a JSON Web Key Set; keys that cannot be used are left out and counted as ignored.

    Of two keys with one ``kid`` the first is taken. Raises: ``BadKey`` when the document is not a
    key set or holds no usable key.
    """
    try:
        fields = json.loads(document)
    except (ValueError, RecursionError):
        raise BadKey("the key set is not JSON") from None
    entries = fields.get("keys") if isinstance(fields, dict) else None
    if not isinstance(entries, list):
        raise BadKey("the document is not a key set")
    keys: list[Key] = []
    names: set[str] = set()
    for entry in entries:
        key = _from_jwk(entry, algorithms) if len(keys) < KEYS_MAX_COUNT else None
        if key is None or key.kid in names:
            continue
        keys.append(key)
        if key.kid is not None:
            names.add(key.kid)
    if not keys:
        raise BadKey("the key set holds no key that can be used")
    return KeySet(keys, ignored=len(entries) - len(keys))


def _from_jwk(entry: object, algorithms: Collection[str]) -> Key | None:
    """Return the key of one entry, or ``None`` where it is not one to verify tokens with."""
    if not isinstance(entry, dict) or not _SECRET_MEMBERS.isdisjoint(entry) or not _for_signatures(entry):
        return None
    kid, kty = entry.get("kid"), entry.get("kty")
    if kid is not None and not (isinstance(kid, str) and _KID.fullmatch(kid)):
        return None
    read = _READERS.get(kty) if isinstance(kty, str) else None
    if read is None:
        return None
    try:
        public, kind = _checked(read(entry))
    except (PyJWTError, UnsupportedAlgorithm, BadKey, ValueError, TypeError, KeyError):
        return None
    fitting = _fitting(kind, algorithms)
    if "alg" in entry:
        fitting &= {str(entry["alg"])}
    return Key(kid, public, fitting) if fitting else None


def _for_signatures(entry: Mapping[str, object]) -> bool:
    """Whether RFC 7517 sections 4.2 and 4.3 let the key verify signatures."""
    operations = entry.get("key_ops")
    allowed = operations is None or (isinstance(operations, list) and "verify" in operations)
    return allowed and entry.get("use") in (None, "sig")


def _checked(public: object) -> tuple[PublicKey, str]:
    """Return the key and its kind. Raises: ``BadKey``."""
    if isinstance(public, RSAPublicKey):
        if not RSA_MIN_BITS <= public.key_size <= RSA_MAX_BITS:
            raise BadKey(f"the RSA key has {public.key_size} bits, not {RSA_MIN_BITS} to {RSA_MAX_BITS}")
        return public, "RSA"
    if isinstance(public, EllipticCurvePublicKey):
        if isinstance(public.curve, SECP256R1):
            return public, "P-256"
        if isinstance(public.curve, SECP384R1):
            return public, "P-384"
    if isinstance(public, Ed25519PublicKey):
        return public, "Ed25519"
    raise BadKey("the key is of a kind that is not supported")


def _fitting(kind: str, algorithms: Collection[str]) -> frozenset[str]:
    return frozenset(name for name in algorithms if _KIND_OF_ALGORITHM.get(name) == kind)
