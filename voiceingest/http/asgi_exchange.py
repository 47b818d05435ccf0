"""One request and its answer, between a connection and an application of ASGI 3.

The application may send what it likes: an answer that is not legal HTTP is its error and not the
caller's. Nothing is kept for a slow reader: a write returns when there is room for the next.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

from twisted.internet.interfaces import IPushProducer
from twisted.web.server import Request
from zope.interface import implementer

from .answers import SECURE_HEADERS, request_id
from .channel import GuardedChannel
from .resource import body_size

# A piece of a request's body; the whole of it is BODY_MAX_BYTES at most.
PIECE_BYTES: Final = 16 * 1024

# RFC 9110 sections 5.1 and 5.5.
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")

# What is between us and the next hop, and no business of an application (RFC 9110 section 7.6.1).
_HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)

# RFC 9110 section 6.4.1.
_BODILESS: Final = frozenset((204, 304))


class CallerGone(OSError):
    """The caller has left: what is sent reaches nobody."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer, checked. ``length`` is its Content-Length."""

    status: int
    headers: Mapping[bytes, list[bytes]]
    length: int | None


def read_head(status: Any, headers: Iterable[Any]) -> Head:
    """Check what an application answers with. Raises: ``ValueError``, ``TypeError``."""
    if type(status) is not int or not 200 <= status <= 599:
        raise ValueError("the status of an answer is a number from 200 to 599")
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise TypeError("names and values of headers are bytes")
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError("a header holds a character that no header may hold")
        if (name := name.lower()) not in _HOP_BY_HOP:
            found.setdefault(name, []).append(value)
    lengths = found.pop(b"content-length", [])
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
        raise ValueError("Content-Length is one number")
    return Head(status, found, int(lengths[0]) if lengths else None)


@implementer(IPushProducer)
class Exchange:
    """See the head of this file. ``when_begun`` is called when the answer begins."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.is_gone = False
        self.has_begun = False
        self.when_begun: Callable[[], object] = int
        self._head: Head | None = None
        self._is_whole = False
        self._over = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._sent_bytes = 0
        self._content = request.content
        self._left_bytes = body_size(request.content) if request.content is not None else 0
        self._body_given = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to be said: all was, or nobody listens."""
        return self._is_whole or self.is_gone

    # --- what the application calls

    async def receive(self) -> dict[str, Any]:
        """A piece of the request's body; after it, that it is over, when it is."""
        if self._body_given or self.is_over:
            await self._over.wait()
            return {"type": "http.disconnect"}
        piece = self._content.read(PIECE_BYTES) if self._content is not None else b""
        self._left_bytes -= len(piece)
        self._body_given = self._left_bytes <= 0
        return {"type": "http.request", "body": piece, "more_body": not self._body_given}

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take a part of the answer, and return when there is room for the next.

        Raises: ``CallerGone``; ``RuntimeError``, ``ValueError``, ``TypeError`` for what is no answer.
        """
        if self.is_gone:
            raise CallerGone("the caller has left")
        kind = message["type"]
        if kind == "http.response.start" and self._head is None:
            self._head = read_head(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self._head is not None and not self._is_whole:
            body = message.get("body", b"")
            if not isinstance(body, bytes | bytearray | memoryview):
                raise TypeError("the body of an answer is bytes")
            await self._write(self._head, bytes(body), is_last=not message.get("more_body", False))
        else:
            raise RuntimeError(f"the application sends {str(kind)[:40]!r} where that has no place")

    # --- what the connection calls

    def lose(self) -> None:
        """The caller has left."""
        self.is_gone = True
        self._over.set()
        self._has_room.set()

    def pauseProducing(self) -> None:
        """There is no room. Twisted's hook."""
        self._has_room.clear()

    def resumeProducing(self) -> None:
        """There is room again. Twisted's hook."""
        self._has_room.set()

    def stopProducing(self) -> None:
        """Nobody takes anything any more: ``lose`` follows. Twisted's hook."""
        self._has_room.set()

    def cut(self) -> None:
        """Half an answer is out: only a cut connection tells the caller that it is not whole."""
        self.lose()
        channel = cast(GuardedChannel, self.request.channel)
        self.request.unregisterProducer()
        is_framed = self.request.chunked or self.request.responseHeaders.hasHeader(b"Content-Length")
        if is_framed and not channel.is_unread:
            self.request.loseConnection()
        else:
            # The end of the connection would be that of the answer (HTTP/1.0), or would wait for ever.
            channel.transport.abortConnection()

    # --- writing

    async def _write(self, head: Head, body: bytes, *, is_last: bool) -> None:
        has_body = self.request.method != b"HEAD" and head.status not in _BODILESS
        if has_body and head.length is not None:
            after = self._sent_bytes + len(body)
            if after > head.length or (is_last and after < head.length):
                raise RuntimeError("the body is not as long as its Content-Length says")
        if not self.has_begun:
            self._begin(head, len(body) if is_last else None)
        self._sent_bytes += len(body)
        if body and has_body:
            self.request.write(body)
        if is_last:
            self._finish()
            return
        await self._has_room.wait()
        if self.is_gone:
            raise CallerGone("the caller has left")

    def _begin(self, head: Head, whole_bytes: int | None) -> None:
        """Send the head: no sooner than with the first piece of the body, as ASGI has it."""
        self.has_begun = True
        self.when_begun()
        request = self.request
        length = whole_bytes if head.length is None else head.length
        for name, value in SECURE_HEADERS.items():
            request.responseHeaders.setRawHeaders(name, [value])
        for known, values in head.headers.items():
            request.responseHeaders.setRawHeaders(known, values)
        request.responseHeaders.setRawHeaders(b"X-Request-Id", [request_id(request).encode()])
        if length is not None and head.status not in _BODILESS:
            request.responseHeaders.setRawHeaders(b"Content-Length", [b"%d" % length])
        request.setResponseCode(head.status, _phrase(head.status))
        request.write(b"")
        request.registerProducer(self, True)
        if cast(GuardedChannel, request.channel).is_unread:
            self.pauseProducing()

    def _finish(self) -> None:
        self._is_whole = True
        self._over.set()
        self.request.unregisterProducer()
        self.request.finish()


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"
