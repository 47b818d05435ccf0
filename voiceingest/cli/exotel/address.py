"""Where a call goes: the URL as it is in the applet, and what Exotel makes of it. Pure.

User and password in the URL become ``Authorization: Basic``, as Exotel does it. The first three pairs
of the query are also told in ``start`` as custom parameters (support article on the Voicebot applet).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from ..failures import UsageFailed
from ..target import Target, parse_target
from .outgoing import PARAMETERS_MAX_COUNT

DEFAULT_PATH: Final = "/voicebot/ws"

_RATE_KEYS: Final = ("sample-rate", "sample_rate")
_CALL_KEYS: Final = ("call_id", "callSid", "callLogId")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect, with which ``Authorization`` if any, and the custom parameters of ``start``."""

    target: Target
    authorization: str | None = field(repr=False)
    parameters: Mapping[str, str]


def basic(user: str, password: str) -> str:
    """The ``Authorization`` of a user. Raises: ``UsageFailed`` for a name with a colon in it."""
    if ":" in user:
        raise UsageFailed("a user name has no colon in it")
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def credentials_of(url: str) -> str | None:
    """The ``Authorization`` that stands in a URL as user and password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.username is None:
        return None
    return basic(unquote(parts.username), unquote(parts.password or ""))


def resolve(
    url: str,
    *,
    call_id: str,
    sample_rate: int,
    ticket: str | None = None,
    parameters: Mapping[str, str] | None = None,
    authorization: str | None = None,
) -> Address:
    """The address of one call. What stands in the URL goes before what is given beside it.

    Raises: ``UsageFailed`` for what is no WebSocket URL, or one for audio at another rate.
    """
    target = parse_target(url, DEFAULT_PATH)
    path, _, query = target.resource.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    keys = {key for key, _ in given}
    for key, value in given:
        if key in _RATE_KEYS and value != str(sample_rate):
            raise UsageFailed(
                f"the URL asks for {value} samples per second and the audio has {sample_rate}",
                hint="--rate, or a file at that rate",
            )
    own = dict(parameters or {})
    pairs = [*given]
    if not keys & set(_CALL_KEYS):
        pairs.append(("call_id", call_id))
    if not keys & set(_RATE_KEYS):
        pairs.append(("sample-rate", str(sample_rate)))
    if ticket is not None:
        pairs.append(("ticket", ticket))
    pairs += own.items()
    resource = f"{path}?{urlencode(pairs, quote_via=quote)}"
    told = [*own.items(), *(pair for pair in given if pair[0] not in _RATE_KEYS)]
    return Address(
        Target(target.secure, target.host, target.port, resource),
        credentials_of(url) or authorization,
        dict(told[:PARAMETERS_MAX_COUNT]),
    )
