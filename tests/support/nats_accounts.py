"""A NATS operator, an account with JetStream and a user of it, made for one test.

Tokens are JWTs signed with keys of NATS (github.com/nats-io/jwt, version 2): header and claims in base64,
``jti`` the hash of the claims, the signature that of the issuer's Ed25519 key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final

from voiceingest.publishers.nats_keys import NatsKey

# strkey.go: O, A and U.
_OPERATOR, _ACCOUNT, _USER = 14 << 3, 0, 20 << 3
_LIMITS: Final = {
    **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1),
    **dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1),
    "wildcards": True,
}


class NatsAccount:
    """``config`` are lines for a server's configuration, ``credentials`` the text of a user's file."""

    def __init__(self) -> None:
        operator = _Key(_OPERATOR)
        system = _Key(_ACCOUNT)
        account = _Key(_ACCOUNT)
        user = _Key(_USER)
        signed = operator.sign(operator, "operator", {"system_account": system.public})
        tokens = {
            system.public: operator.sign(system, "account", {}),
            account.public: operator.sign(account, "account", {"limits": _LIMITS}),
        }
        preload = "\n".join(f"  {public}: {token}" for public, token in tokens.items())
        self.config = [
            f"operator: {signed}",
            f"system_account: {system.public}",
            "resolver: MEMORY",
            f"resolver_preload: {{\n{preload}\n}}",
        ]
        self.credentials = (
            "-----BEGIN NATS USER JWT-----\n"
            f"{account.sign(user, 'user', {'subs': -1, 'data': -1, 'payload': -1})}\n"
            "------END NATS USER JWT------\n\n"
            "-----BEGIN USER NKEY SEED-----\n"
            f"{user.seed}\n"
            "------END USER NKEY SEED------\n"
        )

    def write_credentials(self, path: Path) -> Path:
        """The file a client is given."""
        path.write_text(self.credentials)
        return path


class _Key:
    def __init__(self, kind: int) -> None:
        self.pair = NatsKey(os.urandom(32), kind)
        self.seed, self.public = self.pair.seed, self.pair.public

    def sign(self, subject: _Key, kind: str, facts: dict[str, Any]) -> str:
        """A token about ``subject``, issued by this key."""
        claims: dict[str, Any] = {
            "iat": 1_700_000_000,
            "iss": self.public,
            "name": kind,
            "sub": subject.public,
            "nats": {**facts, "type": kind, "version": 2},
        }
        digest = hashlib.new("sha512_256", json.dumps(claims).encode()).digest()
        claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
        signed = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(claims)}"
        signature = base64.urlsafe_b64encode(self.pair.sign(signed.encode())).decode().rstrip("=")
        return f"{signed}.{signature}"


def _encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
