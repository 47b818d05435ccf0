"""The head of an upgrade as nearly every client writes it, read in one go.

``twisted.web`` reads a head line by line, into objects that an upgrade never looks at: a quarter of a
handshake. Here is read what no two parsers could read differently: one GET of HTTP/1.1, each field
once, in plain characters, without a body. Everything else is ``None``, and left to ``twisted.web``.
Pure.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ..limits import HEAD_MAX_BYTES

# Control bytes may not stand in a head (RFC 9110 section 5.5); 0x85 is a line break to
# ``str.splitlines`` of latin-1 text, by which a header can be smuggled past a first parser.
CONTROL_BYTES: Final = bytes(c for c in range(256) if (c < 0x20 and c != 0x09) or c in (0x7F, 0x85))

# A browser sends about twenty.
FIELDS_MAX_COUNT: Final = 64

_REQUEST: Final = re.compile(rb"GET (/[!->@-~]*)(?:\?([!-~]*))? HTTP/1\.1")
_NAMES: Final = re.compile(rb"[a-z0-9-]+")

# What there is a body by, or an answer before the answer.
_LEFT: Final = frozenset({b"", b"content-length", b"transfer-encoding", b"expect"})


class Head(NamedTuple):
    """``fields`` by their names in small letters; ``size`` is that of the head, in bytes."""

    path: bytes
    query: bytes
    fields: dict[bytes, bytes]
    size: int

    def lines(self, name: bytes) -> list[bytes]:
        """The values of a field, as ``twisted.web`` would give them."""
        value = self.fields.get(name.lower())
        return [] if value is None else [value]


def read_head(data: bytes) -> Head | None:
    """The head that ``data`` begins with; ``None`` where it is not whole, or not as plain as that."""
    end = data.find(b"\r\n\r\n")
    if not 0 <= end <= HEAD_MAX_BYTES - 4:
        return None
    text = data[:end]
    first, *lines = text.split(b"\r\n")
    request = _REQUEST.fullmatch(first)
    if (
        request is None
        or len(lines) > FIELDS_MAX_COUNT
        or len(text.translate(None, CONTROL_BYTES)) != end - 2 * len(lines)
    ):
        return None
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            return None
        fields[name.lower()] = value.strip(b" \t")
    if len(fields) != len(lines) or not _LEFT.isdisjoint(fields) or not _NAMES.fullmatch(b"".join(fields)):
        return None
    return Head(request[1], request[2] or b"", fields, end + 4)
