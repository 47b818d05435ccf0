"""Where a page of sessions ends, as one opaque word: the next page begins after it. Pure.

It holds nothing secret and gives no rights, so it is not signed: a made-up one begins somewhere else in the
caller's own list. ``CURSOR_PATTERN`` says all there is to be checked: 64 bits of a moment, then an id.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from ...errors import BadField

# A first digit of 0 to 4 is that of a number that is positive and finite (IEEE 754, 8 bytes).
CURSOR_PATTERN: Final = "^[0-4][0-9a-f]{15}[A-Za-z0-9_-]{1,64}$"

_MOMENT_CHARS: Final = 16
_MOMENT: Final = struct.Struct(">d")


def write_cursor(created_at: float, session_id: str) -> str:
    """The word for the page after this session."""
    return _MOMENT.pack(created_at).hex() + session_id


def read_cursor(word: str) -> tuple[float, str]:
    """What the word stands for. Raises: ``BadField``."""
    if not re.fullmatch(CURSOR_PATTERN, word) or word.endswith("\n"):
        raise BadField("the cursor is not one of ours")
    (created_at,) = _MOMENT.unpack(bytes.fromhex(word[:_MOMENT_CHARS]))
    return created_at, word[_MOMENT_CHARS:]
