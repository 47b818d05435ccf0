"""The OpenAPI document: what FastAPI knows of the routes, and every error and header that it does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from ...errors import (
    BadField,
    BadJson,
    Draining,
    FrameTooBig,
    HttpRefusal,
    InternalError,
    OriginRefused,
    Overloaded,
    StoreUnavailable,
    TokenExpired,
    TokenRevoked,
    TooManyFromAddress,
    TooManyRequests,
    Unauthenticated,
    VoiceIngestError,
    every_error,
)
from .body import INTEGER_MAX, INTEGER_MIN
from .shapes import ANY_JSON

_CODES: Final = "x-codes"
_REFUSAL: Final = "Refusal"

Errors = tuple[type[VoiceIngestError], ...]

_ALWAYS: Final[Errors] = (
    *(OriginRefused, TooManyFromAddress),
    *(InternalError, StoreUnavailable, Draining, Overloaded),
)
_WITH_BODY: Final[Errors] = (HttpRefusal, BadJson, BadField, FrameTooBig)
_WITH_TOKEN: Final[Errors] = (Unauthenticated, TokenExpired, TokenRevoked)

_BY_CODE: Final = {error.code: error for error in every_error()}

_SCHEMAS: Final[Mapping[str, Any]] = {
    ANY_JSON: {
        "description": "Any JSON that fits into 64 bits and UTF-8, without NUL.",
        "anyOf": [
            {"type": "null"},
            {"type": "boolean"},
            {"type": "integer", "minimum": INTEGER_MIN, "maximum": INTEGER_MAX},
            {"type": "number"},
            {"type": "string", "pattern": "^[^\\u0000]*$"},
            {"type": "array", "items": {"$ref": f"#/components/schemas/{ANY_JSON}"}},
            {"type": "object", "additionalProperties": {"$ref": f"#/components/schemas/{ANY_JSON}"}},
        ],
    },
    _REFUSAL: {
        "type": "object",
        "description": "Why a request was refused.",
        "required": ["code", "message", "request_id"],
        "properties": {
            "code": {"type": "string", "description": "Stable: for programs."},
            "message": {"type": "string", "description": "For people; it may change."},
            "request_id": {"type": "string", "description": "That of `X-Request-Id`: tell it to us."},
            "fields": {
                "type": "array",
                "items": {"type": "string"},
                "description": "With `bad_field`: which.",
            },
        },
    },
}

_HEADERS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "X-Request-Id": ("Names this request in the logs.", {"type": "string"}),
    "RateLimit-Limit": ("Requests a minute that are allowed here.", {"type": "integer"}),
    "RateLimit-Remaining": ("What is left of them.", {"type": "integer"}),
    "RateLimit-Reset": ("Seconds until there is room for one more.", {"type": "integer"}),
    "Retry-After": ("Seconds to stay away.", {"type": "integer"}),
    "WWW-Authenticate": ("Always `Bearer`.", {"type": "string"}),
}
_ON_LIMITED: Final = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
_ON_STATUS: Final = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}

_SECURITY: Final[Mapping[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The `accessToken` of a device.",
    },
    "operator": {
        "type": "http",
        "scheme": "bearer",
        "description": "The `ADMIN_TOKEN`, on the public site; the admin site asks for none.",
    },
}

KEY_PARAMETER: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": (
                "A word of your own, such as a UUID: with the same word and body no second session is made."
            ),
            "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
            "example": "5f0c3c1e-8f0a-4a57-9f1e-0d6f3a1b2c4d",
        }
    ]
}

REPLAYED: Final[dict[str, Any]] = {
    "description": "The session that was made before under this Idempotency-Key.",
    "headers": {"Idempotency-Replayed": {"description": "Always `true`.", "schema": {"type": "string"}}},
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Created"}}},
}


def refused(*errors: type[VoiceIngestError]) -> dict[int | str, dict[str, Any]]:
    """What a route refuses with, besides what every route like it does."""
    return {
        status: {"description": "", _CODES: [error.code for error in errors if error.http_status == status]}
        for status in {error.http_status for error in errors}
    }


def document_of(app: FastAPI) -> dict[str, Any]:
    """The document of an application, complete."""
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    found["servers"] = [{"url": "/"}]
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for route in _routes(app.routes):
        for method in route.methods or ():
            _complete(found["paths"][route.path_format][method.lower()], route, schemas)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    _name_any_json(schemas)
    schemas.update(_SCHEMAS)
    found["components"]["securitySchemes"] = dict(_SECURITY)
    found["components"]["headers"] = {
        name: {"description": text, "schema": schema} for name, (text, schema) in _HEADERS.items()
    }
    return found


def _routes(routes: Iterable[Any]) -> Iterator[APIRoute]:
    return (route for route in routes if isinstance(route, APIRoute) and route.include_in_schema)


def _complete(operation: dict[str, Any], route: APIRoute, schemas: Mapping[str, Any]) -> None:
    if getattr(route, "needs_caller", False):
        operation["security"] = [{"bearer": []}]
    elif _is_operators(route):
        operation["security"] = [{"operator": []}, {}]
    responses = operation["responses"]
    if _CODES not in responses.get("422", {_CODES: 0}):
        # FastAPI's own: what does not validate is 400 here.
        del responses["422"]
    errors = [*_expected(operation, route)]
    for response in responses.values():
        errors += [_BY_CODE[code] for code in response.pop(_CODES, ())]
    for status in sorted({error.http_status for error in errors}):
        these = [error for error in dict.fromkeys(errors) if error.http_status == status]
        responses[str(status)] = _refusals(status, these)
    for status_text, response in responses.items():
        if response["description"] == "Successful Response":
            response["description"] = _described(response, schemas)
        named = ["X-Request-Id", *filter(None, [_ON_STATUS.get(int(status_text))])]
        named += () if _is_operators(route) else _ON_LIMITED
        response.setdefault("headers", {}).update(
            {name: {"$ref": f"#/components/headers/{name}"} for name in named}
        )
    operation["responses"] = dict(sorted(responses.items()))


def _is_operators(route: APIRoute) -> bool:
    """Whether it is for operators, who have no limits a minute."""
    return route.path_format.startswith("/api/admin/")


def _expected(operation: Mapping[str, Any], route: APIRoute) -> Errors:
    """What every route like this one is refused with."""
    found = _ALWAYS if _is_operators(route) else (*_ALWAYS, TooManyRequests)
    if route.body_field is not None:
        found += _WITH_BODY
    elif operation.get("parameters"):
        found += (BadField,)
    if getattr(route, "needs_caller", False):
        return found + _WITH_TOKEN
    return (*found, Unauthenticated) if operation.get("security") else found


def _described(response: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """What is answered, in the words of its shape."""
    reference: str = response["content"]["application/json"]["schema"]["$ref"]
    return str(schemas[reference.rpartition("/")[2]]["description"])


def _refusals(status: int, errors: Iterable[type[VoiceIngestError]]) -> dict[str, Any]:
    examples = {
        error.code: {
            "summary": error.default_message(),
            "value": {
                "code": error.code,
                "message": error.default_message(),
                "request_id": "kjwqhzbtnmvxcaydfgpl",
                **({"fields": ["deviceIdentifier"]} if error is BadField else {}),
            },
        }
        for error in errors
    }
    return {
        "description": HTTPStatus(status).phrase,
        "content": {
            "application/json": {
                "schema": {"$ref": f"#/components/schemas/{_REFUSAL}"},
                "examples": examples,
            }
        },
    }


def _name_any_json(node: Any) -> None:
    """Put the schema of any JSON in the place that ``shapes`` keeps for it."""
    for below in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        if isinstance(below, dict) and below.get("additionalProperties") == {"title": ANY_JSON}:
            below["additionalProperties"] = {"$ref": f"#/components/schemas/{ANY_JSON}"}
        _name_any_json(below)
