"""Finding the one credential a request carries, and the subprotocol to answer with.

Pure. A client that can set headers sends ``Authorization: Bearer <JWT>`` (RFC 6750). A browser
cannot: it offers the subprotocols ``voice.v1`` and ``bearer.<JWT>``, or brings a single-use
``?ticket=``. Order of precedence: header, subprotocol, ticket; but whoever brings two of them
is refused, so that no proxy and no log can take the request for somebody else's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from ..limits import TOKEN_MAX_BYTES
from .refusal import MISSING, refusal
from .tickets import TICKET_MAX_CHARS

# A browser fails the connection when it offered subprotocols and none is answered; the answer
# must be one of the offered, and never the one with the secret.
SUBPROTOCOL: Final = "voice.v1"
_SECRET_PREFIX: Final = "bearer."

# RFC 6750 section 2.1: the scheme in any case, one space or more, then ``b64token``.
_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)

# What of a JWT may stand in a subprotocol (RFC 9110 section 5.6.2: no ``/`` and no ``=``).
_OFFERED: Final = re.compile(r"[A-Za-z0-9._-]+")
_TICKET: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request brought: a ``token`` to verify or a ``ticket`` to redeem.

    ``subprotocol`` is what the upgrade is answered with, ``None`` where nothing fit was offered.
    """

    kind: Literal["token", "ticket"]
    value: str = field(repr=False)
    subprotocol: str | None = None


def find_credential(
    authorization: Sequence[str], subprotocols: Sequence[str], tickets: Sequence[str]
) -> Credential:
    """Return the one credential among all ``Authorization`` values, offered subprotocols and tickets.

    Raises: ``Unauthenticated`` (``missing``, ``two_credentials``, ``bad_scheme``, ``malformed``,
    ``too_big``).
    """
    offered = [name for name in subprotocols if name.startswith(_SECRET_PREFIX)]
    brought = len(authorization) + len(offered) + len(tickets)
    if brought == 0:
        raise refusal(MISSING)
    if brought > 1:
        raise refusal("two_credentials")
    answer = SUBPROTOCOL if SUBPROTOCOL in subprotocols else None
    if authorization:
        return Credential("token", _from_header(authorization[0]), answer)
    if offered:
        value = _whole(_OFFERED, offered[0].removeprefix(_SECRET_PREFIX), TOKEN_MAX_BYTES)
        return Credential("token", value, answer)
    return Credential("ticket", _whole(_TICKET, tickets[0], TICKET_MAX_CHARS), answer)


def _from_header(value: str) -> str:
    # Length first: a pattern is not run over what is refused anyway.
    if len(value) > TOKEN_MAX_BYTES + len("Bearer "):
        raise refusal("too_big")
    found = _BEARER.fullmatch(value.strip(" \t"))
    if found is None:
        raise refusal("malformed" if value.lstrip(" \t")[:7].lower() == "bearer " else "bad_scheme")
    return found[1]


def _whole(shape: re.Pattern[str], value: str, most: int) -> str:
    if len(value) > most:
        raise refusal("too_big")
    if not shape.fullmatch(value):
        raise refusal("malformed")
    return value
