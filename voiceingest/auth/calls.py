"""Who may bring calls, and who may ask where to bring them.

Exotel signs nothing (protocol reference section 1.7). It can be told a URL with a user name and a
password, which it sends as ``Authorization: Basic`` (RFC 7617) while the query stays as it was; a
URL with something unguessable in its query; and it calls from addresses of its own. Whatever a
request brings has to hold, even where its address alone would do: a wrong credential is a mistake
or an attempt, and neither should pass unseen.
"""

from __future__ import annotations

import binascii
import hmac
import math
import secrets
from base64 import b64decode
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from ..config import Settings
from ..errors import Unauthenticated
from ..gate import plain_address
from ..interfaces import Claims
from ..limits import TOKEN_MAX_BYTES
from .refusal import MISSING, attempt_status, refusal
from .tickets import Tickets

if TYPE_CHECKING:
    from ..metrics import Metrics

# What stands for a caller whose credential names nobody: the ticket, the call itself or a setting
# says whose call it is, and Exotel ends it.
ANY_CALL: Final = Claims("exotel", None, None, math.inf, any_tenant=True)

_BEARER: Final = "bearer"
_BASIC: Final = "basic"


class CallCredentials:
    """Checks what a call, or a webhook of Exotel, brings."""

    def __init__(self, settings: Settings, tickets: Tickets, metrics: Metrics) -> None:
        self._token = _secret(settings.exotel_ws_token)
        self._pair = _pair(settings.exotel_ws_user, settings.exotel_ws_password)
        self._webhook_token = _secret(settings.exotel_webhook_token)
        self._networks = [ip_network(name, strict=False) for name in settings.exotel_allowed_ips]
        self._anybody = settings.exotel_ws_auth == "none"
        self._tickets = tickets
        self._metrics = metrics

    def check(self, address: str, authorization: Sequence[str], tickets: Sequence[str]) -> Claims:
        """Return what the upgrade of a call may do; a ticket counts as used with that.

        ``address`` is the caller's, ``authorization`` and ``tickets`` are all values there were.
        Raises: ``Unauthenticated``.
        """
        return self._counted(lambda: self._check(address, authorization, tickets, self._tickets.redeem))

    def check_webhook(self, address: str, authorization: Sequence[str], tokens: Sequence[str]) -> None:
        """Let a webhook pass; ``tokens`` are all values of its query's ``token``.

        Raises: ``Unauthenticated``.
        """
        self._counted(lambda: self._check(address, authorization, tokens, self._webhook))

    def _counted(self, check: Callable[[], Claims]) -> Claims:
        try:
            claims = check()
        except Unauthenticated as error:
            self._metrics.auth_attempts[attempt_status(error)] += 1
            raise
        self._metrics.auth_attempts["success"] += 1
        return claims

    def _check(
        self,
        address: str,
        authorization: Sequence[str],
        in_query: Sequence[str],
        redeem: Callable[[str], Claims],
    ) -> Claims:
        if len(authorization) > 1 or len(in_query) > 1:
            raise refusal("two_credentials")
        scheme = self._check_header(authorization[0]) if authorization else None
        if in_query:
            if scheme == _BEARER:
                raise refusal("two_credentials")
            return redeem(in_query[0])
        if scheme is None and not (self._anybody or self._is_allowed(address)):
            raise refusal(MISSING)
        return ANY_CALL

    def _check_header(self, value: str) -> str:
        """Return the scheme of a header that holds. Raises: ``Unauthenticated``."""
        # Length first: nothing is computed over what is refused anyway.
        if len(value) > TOKEN_MAX_BYTES:
            raise refusal("too_big")
        scheme, _, rest = value.strip(" \t").partition(" ")
        scheme, given = scheme.lower(), _as_sent(rest.strip(" "))
        pair, is_base64 = _decoded(given)
        # Both are compared in any case, so that a wrong scheme takes as long as a wrong secret.
        is_token = hmac.compare_digest(given, self._token)
        is_pair = hmac.compare_digest(pair, self._pair)
        if scheme not in (_BEARER, _BASIC):
            raise refusal("bad_scheme")
        if scheme == _BASIC and not is_base64:
            raise refusal("malformed")
        if not (is_token if scheme == _BEARER else is_pair):
            raise refusal("credential")
        return scheme

    def _webhook(self, token: str) -> Claims:
        if len(token) > TOKEN_MAX_BYTES:
            raise refusal("too_big")
        if not hmac.compare_digest(_as_sent(token), self._webhook_token):
            raise refusal("credential")
        return ANY_CALL

    def _is_allowed(self, address: str) -> bool:
        try:
            parsed = plain_address(address)
        except ValueError:
            # A Unix socket has none.
            return False
        return any(parsed in network for network in self._networks)


def _secret(secret: SecretStr | None) -> bytes:
    # What is not set is compared with something nobody knows: no branch, and no way in.
    value = secret.get_secret_value() if secret is not None else ""
    return value.encode() or secrets.token_bytes(32)


def _pair(user: str | None, password: SecretStr | None) -> bytes:
    value = password.get_secret_value() if password is not None else ""
    return f"{user}:{value}".encode() if user and value else secrets.token_bytes(32)


def _as_sent(text: str) -> bytes:
    """The bytes of a header or a query, which were read as latin-1. Raises: ``Unauthenticated``."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise refusal("malformed") from None


def _decoded(given: bytes) -> tuple[bytes, bool]:
    try:
        return b64decode(given, validate=True), True
    except binascii.Error:
        return b"", False
