"""The part of the Redis serialization protocol the audio path speaks. Pure.

Commands are RESP2 arrays of bulk strings; replies are counted, not decoded, since the integer that
answers PUBLISH and the id that answers XADD say nothing we need (redis.io/docs/latest/develop/reference/
protocol-spec, read 2026-11-20). A run of either, which is nearly all there ever is, costs one regular
expression and one ``count``. The one integer that does say something answers WAIT.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# An error line is a sentence; a line without an end is not RESP at all.
LINE_MAX_BYTES: Final = 4096

# Prefixes of error replies that are told apart; all others are ``ERR``.
ERROR_PREFIXES: Final = frozenset(
    {
        *("NOAUTH", "READONLY", "LOADING", "OOM", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN"),
        *("TRYAGAIN", "BUSY", "UNBLOCKED", "NOPERM", "WRONGTYPE", "MOVED", "ASK"),
    }
)
ERROR_OTHER: Final = "ERR"

PING: Final = b"*1\r\n$4\r\nPING\r\n"

# Possessive: a long run is never tried again from its middle.
_INTEGERS: Final = re.compile(rb"(?::-?\d++\r\n)++")

# Ids of stream entries, ``<milliseconds>-<number>``. The length before each is not compared with it:
# what is no id of the length given does not go on as the protocol does.
_IDS: Final = re.compile(rb"(?:\$\d++\r\n\d++-\d++\r\n)++")


class Number(NamedTuple):
    """An integer reply that is told by its value."""

    value: int


# So many replies that are no errors, the prefix of one error, or an integer where those are told.
Run = int | str | Number


class NotResp(ValueError):
    """The far end does not speak RESP, or sends what no command of ours asks for."""


def encode_command(*arguments: bytes) -> bytes:
    """Encode one command."""
    return b"*%d\r\n%b" % (len(arguments), b"".join(map(encode_bulk, arguments)))


def encode_bulk(argument: bytes) -> bytes:
    """Encode one argument of a command, for commands that are put together by hand."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def publish_prefix(channel: bytes) -> bytes:
    """All of ``PUBLISH channel <payload>`` up to the payload's length.

    A command is then ``prefix + b"%d\\r\\n" % len(payload) + payload + b"\\r\\n"``.
    """
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$" % (len(channel), channel)


class ReplyScanner:
    """Counts replies in chunks of any size.

    ``feed`` answers runs in the order of the replies: a positive ``int`` is so many replies that
    are not errors, a ``str`` is the prefix of one error reply. Bulk strings and arrays count as one
    reply each and their content is skipped; pushes (RESP3) are no reply. At most one line of
    LINE_MAX_BYTES is kept between two chunks. With ``tells_integers`` each integer reply is a run of
    its own, a ``Number``: of a connection whose other replies are ids.
    """

    __slots__ = ("_common", "_elements", "_is_push", "_lines", "_rest", "_skip_bytes", "_tells_integers")

    def __init__(self, tells_integers: bool = False) -> None:
        self._tells_integers = tells_integers
        # What nearly all replies look like, and how many lines each is.
        self._common, self._lines = (_IDS, 2) if tells_integers else (_INTEGERS, 1)
        self._rest = b""
        self._skip_bytes = 0
        # Elements still to come of the reply under way; 0 between replies.
        self._elements = 0
        self._is_push = False

    def feed(self, chunk: bytes) -> list[Run]:
        """Take what was read. Raises: ``NotResp``; nothing more can be read after it."""
        text = self._rest + chunk if self._rest else chunk
        runs: list[Run] = []
        position, end = 0, len(text)
        while position < end:
            if self._skip_bytes:
                skipped = min(self._skip_bytes, end - position)
                position += skipped
                self._skip_bytes -= skipped
                if not self._skip_bytes:
                    self._element_over(runs)
                continue
            if not self._elements:
                common = self._common.match(text, position)
                if common is not None:
                    _add(runs, text.count(b"\n", position, common.end()) // self._lines)
                    position = common.end()
                    continue
            line_end = text.find(b"\r\n", position, position + LINE_MAX_BYTES)
            if line_end < 0:
                break
            self._line(text[position:line_end], runs)
            position = line_end + 2
        self._rest = text[position:]
        if len(self._rest) >= LINE_MAX_BYTES:
            raise NotResp("a line without an end")
        return runs

    def _line(self, line: bytes, runs: list[Run]) -> None:
        kind = line[:1]
        if kind in (b"*", b">"):
            self._begin_array(line, runs)
        elif kind == b"-" and not self._elements:
            runs.append(_error_prefix(line))
        elif kind == b":" and self._tells_integers and not self._elements:
            runs.append(_number(line))
        elif kind in (b"+", b":", b"-"):
            self._element_over(runs)
        elif kind == b"$":
            size_bytes = _length(line)
            if size_bytes < 0:
                self._element_over(runs)
            else:
                self._skip_bytes = size_bytes + 2
        else:
            raise NotResp("a reply of an unknown type")

    def _begin_array(self, line: bytes, runs: list[Run]) -> None:
        """Only the number of elements still to come matters, not how they nest."""
        if not self._elements:
            self._is_push = line[:1] == b">"
            self._elements = 1
        self._elements += max(_length(line), 0)
        self._element_over(runs)

    def _element_over(self, runs: list[Run]) -> None:
        if self._elements:
            self._elements -= 1
            if self._elements:
                return
            if self._is_push:
                self._is_push = False
                return
        _add(runs, 1)


def _add(runs: list[Run], count: int) -> None:
    if runs and isinstance(runs[-1], int):
        runs[-1] += count
    else:
        runs.append(count)


def _length(line: bytes) -> int:
    digits = line[1:]
    if digits != b"-1" and not (digits.isdigit() and len(digits) <= 10):
        raise NotResp("a length that is no number")
    return int(digits)


def _number(line: bytes) -> Number:
    digits = line[1:]
    if not (digits.removeprefix(b"-").isdigit() and len(digits) <= 20):
        raise NotResp("an integer that is no number")
    return Number(int(digits))


def _error_prefix(line: bytes) -> str:
    word = line[1:].split(b" ", 1)[0].decode("ascii", "replace")
    return word if word in ERROR_PREFIXES else ERROR_OTHER
