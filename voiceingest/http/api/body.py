"""Bodies that are JSON in the narrow sense, and nothing that a database or another client cannot take.

What Python's parser takes besides is refused: NaN, numbers past what a 64-bit word or a double holds,
lone surrogates, any encoding but UTF-8; and NUL, which PostgreSQL takes in no text.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from ...errors import BadField, BadJson, HttpRefusal
from ...limits import SESSION_JSON_MAX_DEPTH_COUNT

# The body's own braces, around what is kept of a session.
DEPTH_MAX_COUNT: Final = SESSION_JSON_MAX_DEPTH_COUNT + 1

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1

_JSON_TYPE: Final = re.compile(
    r"application/(json|merge-patch\+json)[ \t]*(;[ \t]*charset=\"?utf-8\"?[ \t]*)?", re.IGNORECASE
)
_BAD_TEXT: Final = re.compile("[\0\ud800-\udfff]")


def read_object(content_types: list[str], body: bytes) -> dict[str, Any]:
    """The JSON object a body holds. Raises: ``HttpRefusal``, ``BadJson``, ``BadField``."""
    if len(content_types) != 1 or not _JSON_TYPE.fullmatch(content_types[0]):
        raise HttpRefusal("the Content-Type of the body has to be application/json")
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise BadJson("the body is not a JSON object") from None
    if not isinstance(found, dict):
        raise BadJson("the body is not a JSON object")
    check_plain(found, DEPTH_MAX_COUNT)
    return found


def check_plain(value: Any, depth_max: int) -> None:
    """Raises: ``BadField`` for what is nested too deeply, and for numbers and text nobody else can take."""
    level: list[Any] = [value]
    for _ in range(depth_max + 1):
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                _check_text(one)
            elif isinstance(one, dict):
                below.extend(one)
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
            elif type(one) is int and not INTEGER_MIN <= one <= INTEGER_MAX:
                raise BadField("a number does not fit into 64 bits")
        if not below:
            return
        level = below
    raise BadField("the body is nested too deeply")


def _check_text(text: str) -> None:
    if _BAD_TEXT.search(text):
        raise BadField("a text holds NUL, or half a surrogate pair")


def _no_number(word: str) -> float:
    raise ValueError(word)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("too large")
    return number
