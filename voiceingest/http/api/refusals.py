"""Errors of the REST API, in the one shape there is, whoever found them: we, FastAPI or Starlette."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ...errors import (
    BadField,
    HttpRefusal,
    InternalError,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
    VoiceIngestError,
)
from ...metrics import Metrics
from ..answers import JSON_TYPE, error_headers
from ..resource import ENDPOINT

# What of a caller's own words may come back as the name of a field.
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_FIELDS_MAX_COUNT: Final = 16


def refusal(
    scope: Mapping[str, Any],
    metrics: Metrics,
    error: VoiceIngestError,
    *,
    fields: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The answer to a request that is refused, counted."""
    metrics.errors[error.code, ENDPOINT] += 1
    content: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "request_id": scope["state"]["request_id"],
    }
    if named := list(dict.fromkeys(fields))[:_FIELDS_MAX_COUNT]:
        content["fields"] = named
    given = {**error_headers(error), **(headers or {})}
    return JSONResponse(content, error.http_status, given, JSON_TYPE)


def handle_errors(app: FastAPI, metrics: Metrics, methods: Mapping[str, frozenset[str]]) -> None:
    """Let ``app`` answer every error so; ``methods`` are those of each route."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, VoiceIngestError)
        allow = allow_of(methods.get(request.scope["state"]["route"], frozenset()))
        headers = {"Allow": allow} if isinstance(error, MethodNotAllowed) else {}
        return refusal(request.scope, metrics, error, headers=headers)

    async def not_valid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        fields = [_field(problem["loc"]) for problem in error.errors()]
        return refusal(request.scope, metrics, BadField(), fields=filter(None, fields))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        other = HttpRefusal if error.status_code < 500 else InternalError
        return await ours(request, _STATUSES.get(error.status_code, other)())

    async def bug(request: Request, error: Exception) -> JSONResponse:
        # It is raised again after this, and logged where every bug is: in ``asgi``.
        return refusal(request.scope, metrics, InternalError())

    app.add_exception_handler(VoiceIngestError, ours)
    app.add_exception_handler(RequestValidationError, not_valid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, bug)


def allow_of(methods: Iterable[str]) -> str:
    """The value of ``Allow``."""
    found = {*methods, "OPTIONS"}
    return ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))


_STATUSES: Final[Mapping[int, type[VoiceIngestError]]] = {
    401: Unauthenticated,
    404: NotFound,
    405: MethodNotAllowed,
}


def _field(location: Iterable[Any]) -> str:
    """The name of a field as the caller knows it, without where the body or the query begins."""
    words = [str(part) for part in location][1:]
    return ".".join(word if _WORD.fullmatch(word) or word.isdigit() else "?" for word in words)[:200]
