"""Tokens for tests: one RSA key and what it signs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm


class Issuer:
    """Signs RS256 tokens. Making one makes a key (about 0.1 s): keep it for a whole module."""

    def __init__(self, kid: str | None = "key-1", now: Callable[[], float] = time.time) -> None:
        self.kid = kid
        self.now = now
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def token(
        self,
        tenant_id: str | None = "t1",
        interaction_id: str | None = None,
        lifetime_s: float = 3600,
        **claims: Any,
    ) -> str:
        """Return a token as a client would carry it; a claim given as ``None`` is left out."""
        usual = {
            "sub": "tester",
            "iat": int(self.now()),
            "exp": int(self.now() + lifetime_s),
            "tenant_id": tenant_id,
            "interaction_id": interaction_id,
        }
        return self.mint(**{name: value for name, value in {**usual, **claims}.items() if value is not None})

    def mint(self, **claims: Any) -> str:
        """Sign exactly these claims."""
        headers = {"kid": self.kid} if self.kid is not None else None
        return jwt.encode(claims, self.key, "RS256", headers=headers)

    def jwk(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key."""
        members = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        named = {} if self.kid is None else {"kid": self.kid}
        return {"kty": "RSA", "n": members["n"], "e": members["e"], "use": "sig", "alg": "RS256", **named}

    def jwks(self, *others: Issuer) -> bytes:
        """Return the key set document of this issuer and of ``others``."""
        return json.dumps({"keys": [issuer.jwk() for issuer in (self, *others)]}).encode()

    @property
    def public_pem(self) -> str:
        """The public key, as ``JWT_PUBLIC_KEY`` takes it."""
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem.decode()
