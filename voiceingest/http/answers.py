"""Answers of every resource, in one shape: JSON bodies, safe headers, a correlation id.

An error is answered as ``{"code", "message", "request_id"}`` with the status its class names.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from twisted.web.server import NOT_DONE_YET, Request

from ..errors import TooManyRequests, UpstreamBusy, VoiceIngestError

JSON_TYPE: Final = "application/json; charset=utf-8"

# Nothing of ours may be cached, taken for another type, framed or passed on as a referrer.
SECURE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

# How long a refused client should stay away, in seconds (RFC 9110 section 10.2.3).
RETRY_AFTER_S: Final = {429: 5, 503: 5}

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Every byte as a letter; the first few letters come a ninth more often than the others.
_LETTERS: Final = bytes(ord("a") + byte % 26 for byte in range(256))

_ID_KEY: Final = "_voiceingest_request_id"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a resource's method returns; a body of bytes names its own Content-Type."""

    status: int = 200
    body: Mapping[str, Any] | bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def request_id(request: Request) -> str:
    """The correlation id: the caller's ``X-Request-Id`` if it is a plain word, else a new one."""
    known = vars(request).get(_ID_KEY)
    if known is None:
        known = correlation_id(request.requestHeaders.getRawHeaders(b"X-Request-Id", []))
        vars(request)[_ID_KEY] = known
    return str(known)


def correlation_id(given: Sequence[bytes]) -> str:
    """The one ``X-Request-Id`` that was given if it is a plain word, else a new one."""
    asked = given[0].decode("latin-1") if len(given) == 1 else ""
    return asked if _ID.fullmatch(asked) else new_request_id()


def answer(request: Request, given: Answer, *, close: bool = False) -> int:
    """Write ``given`` and finish the request; ``close`` ends the connection after it.

    Returns ``NOT_DONE_YET``, for a resource's ``render`` to return in turn.
    """
    headers = {**SECURE_HEADERS, "X-Request-Id": request_id(request), **given.headers}
    if isinstance(given.body, bytes):
        body = given.body
    else:
        body = json.dumps(given.body, separators=(",", ":")).encode()
        headers.setdefault("Content-Type", JSON_TYPE)
    if given.status != 204:
        headers["Content-Length"] = str(len(body))
    if close:
        headers["Connection"] = "Upgrade, close" if given.status == 426 else "close"
        if request.channel is not None:
            request.channel.persistent = False
    request.setResponseCode(given.status, HTTPStatus(given.status).phrase.encode())
    for name, value in headers.items():
        request.responseHeaders.setRawHeaders(name, [value])
    if request.method == b"HEAD":
        body = b""
    if body:
        request.write(body)
    request.finish()
    return NOT_DONE_YET


def answer_error(
    request: Request,
    error: VoiceIngestError,
    *,
    close: bool = False,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Refuse a request and finish it; usable before a WebSocket upgrade as well.

    Headers set on the request before stay. A 401 carries ``WWW-Authenticate``, 429 and 503
    ``Retry-After``, 426 what to upgrade to. Counts and logs nothing: that is the caller's.
    Returns ``NOT_DONE_YET``, for a resource's ``render`` to return in turn.
    """
    added = {**(headers or {}), **error_headers(error)}
    body = {"code": error.code, "message": error.message, "request_id": request_id(request)}
    return answer(request, Answer(error.http_status, body, added), close=close)


def error_headers(error: VoiceIngestError) -> dict[str, str]:
    """What an error is answered with besides its body."""
    status = error.http_status
    added: dict[str, str] = {}
    if status == 401:
        added["WWW-Authenticate"] = "Bearer"
    if status in RETRY_AFTER_S:
        # Who counts, or a service that we asked, may know better.
        wanted_s = error.retry_after_s if isinstance(error, UpstreamBusy | TooManyRequests) else None
        added["Retry-After"] = str(RETRY_AFTER_S[status] if wanted_s is None else math.ceil(wanted_s))
    if status == 426:
        added |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    return added


def new_request_id() -> str:
    """A correlation id of our own."""
    # Letters only, 94 bits: a run of digits would be taken for a telephone number in the logs.
    return secrets.token_bytes(20).translate(_LETTERS).decode()
