"""The named values of a request of Exotel's, however they are written. Pure; remembers nothing.

Its webhooks come as a query, as ``application/x-www-form-urlencoded``, ``multipart/form-data``
(RFC 7578) or JSON, depending on the webhook and on how the call was placed, and the same name is
seen as ``CallSid``, ``call_sid`` and ``callsid`` (protocol reference sections 1.8 and 2). Here all of
them become flat pairs of a folded name and a text; what is nested in JSON is named as a form would
name it: ``legs[0][status]``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qsl

from ..errors import BadField, BadJson

Fields = list[tuple[str, str]]

# Exotel sends some thirty.
FIELDS_MAX_COUNT: Final = 200

# Legs of a call: a list, the leg, its values.
_DEPTH_MAX_COUNT: Final = 3

_BOUNDARY: Final = re.compile(r'boundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))', re.IGNORECASE)
_PART_NAME: Final = re.compile(rb'[;\s]name="([^"\r\n]{0,200})"', re.IGNORECASE)
_FILE: Final = re.compile(rb"[;\s]filename\*?=", re.IGNORECASE)


def fold(name: str) -> str:
    """Return the one form under which a name is looked up."""
    return re.sub(r"[_-]", "", name).lower()


def read_fields(content_type: str, body: bytes) -> Fields:
    """Read the body of a request.

    Raises: ``BadJson``, ``BadField``; nothing else escapes, whatever the bytes are.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        pairs: Iterable[tuple[str, str]] = _flat("", _json(body), 0)
    elif kind == "multipart/form-data":
        pairs = _parts(content_type, body)
    elif kind == "application/x-www-form-urlencoded":
        pairs = _form(body)
    elif body.strip():
        raise BadField("the body is a form or JSON, and its Content-Type says which")
    else:
        pairs = ()
    return _bounded(pairs)


def one(fields: Fields, *names: str) -> str:
    """Return the value that goes by any of ``names``, empty where there is none.

    Raises: ``BadField`` where two of them differ: what is not clear is not guessed.
    """
    wanted = {fold(name) for name in names}
    found = {value for name, value in fields if name in wanted and value}
    if len(found) > 1:
        raise BadField(f"{names[0]} is there twice")
    return found.pop() if found else ""


def _bounded(pairs: Iterable[tuple[str, str]]) -> Fields:
    found: Fields = []
    for name, value in pairs:
        if len(found) == FIELDS_MAX_COUNT:
            raise BadField("the body holds too many fields")
        found.append((fold(name), value))
    return found


def _form(body: bytes) -> Iterable[tuple[str, str]]:
    try:
        return parse_qsl(
            body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS_MAX_COUNT
        )
    except ValueError:
        raise BadField("the body holds too many fields") from None


def _parts(content_type: str, body: bytes) -> Iterator[tuple[str, str]]:
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BadField("the boundary of the parts is missing")
    delimiter = b"\r\n--" + (found[1] or found[2]).encode("utf-8", "replace")
    _, *parts = (b"\r\n" + body).split(delimiter)
    for part in parts:
        if part.startswith(b"--"):
            return
        head, blank, value = part.partition(b"\r\n\r\n")
        name = _PART_NAME.search(head)
        # A file is nothing Exotel sends.
        if blank and name is not None and not _FILE.search(head):
            yield name[1].decode("utf-8", "replace"), value.decode("utf-8", "replace")
    raise BadField("the last part is cut off")


def _json(body: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise BadJson from None
    if not isinstance(decoded, dict):
        raise BadJson
    return decoded


def _flat(prefix: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        if depth < _DEPTH_MAX_COUNT:
            for key, below in items:
                yield from _flat(f"{prefix}[{key}]" if prefix else str(key), below, depth + 1)
    elif value is not None:
        yield prefix, value if isinstance(value, str) else json.dumps(value)
