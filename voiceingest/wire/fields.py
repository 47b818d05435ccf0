"""What every dialect asks of a message of a stranger: a JSON object, and identifiers that do no harm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..errors import BadField, BadJson
from ..limits import IDENTIFIER_MAX_CHARS


def json_object(payload: bytes) -> dict[str, Any]:
    """Read a JSON object. Raises: ``BadJson``, and nothing else whatever the bytes are."""
    # It raises RecursionError on deep nesting and takes NaN unless told not to; json.loads would take
    # bytes of UTF-16 and lone surrogates too (measured). Duplicate keys: the last one wins, for the
    # peer alone is harmed by them.
    try:
        fields = _DECODER.decode(payload.decode())
    except (ValueError, RecursionError):
        raise BadJson from None
    if not isinstance(fields, dict):
        raise BadJson
    return fields


def identifier(fields: Mapping[str, Any], name: str) -> str:
    """The identifier called ``name``. Raises: ``BadField`` when it is missing or could do harm."""
    value = fields.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= IDENTIFIER_MAX_CHARS:
        raise BadField(f"{name} is text of 1 to {IDENTIFIER_MAX_CHARS} characters")
    if not is_identifier(value):
        raise BadField(f"{name} holds a character that is not allowed")
    return value


def is_identifier(value: object) -> bool:
    """Whether it may name something: short printable text without braces (see ``channel_name``)."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= IDENTIFIER_MAX_CHARS
        and value.isprintable()
        and "{" not in value
        and "}" not in value
    )


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


# json.loads makes one for each message that has wishes.
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
