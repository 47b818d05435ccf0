"""What the routes have in common: who asks is known before a body is read, and a body is read strictly."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, cast

from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from ...auth.bearer import find_credential
from ...auth.refusal import attempt_status
from ...device_interfaces import Caller, IDevices
from ...errors import BadField, Unauthenticated
from ...metrics import Metrics
from ...session_interfaces import ISessions
from .body import read_object
from .rates import RateLimits
from .shell import header_lines, narrow

Serve = Callable[[Request], Coroutine[Any, Any, Response]]

# Idempotency-Key: a word of the caller's own; a UUID has 36 characters.
KEY_MAX_CHARS: Final = 128


@dataclass(frozen=True, slots=True)
class ApiParts:
    """What the routes ask. ``wall_clock`` gives seconds since the epoch."""

    devices: IDevices
    sessions: ISessions
    metrics: Metrics
    limits: RateLimits
    wall_clock: Callable[[], float]


def parts_of(request: Request) -> ApiParts:
    """What is beneath the application of a request."""
    return cast(ApiParts, request.app.state.parts)


def _caller_of(request: Request) -> Caller:
    return cast(Caller, request.scope["state"]["caller"])


Parts = Annotated[ApiParts, Depends(parts_of)]
WhoAsks = Annotated[Caller, Depends(_caller_of)]


class StrictRequest(Request):
    """A request whose body is JSON as ``body`` has it."""

    _document: dict[str, Any]

    async def read(self) -> None:
        """Read it. Raises: ``HttpRefusal``, ``BadJson``, ``BadField``."""
        self._document = read_object(header_lines(self.scope, b"content-type"), await self.body())

    async def json(self) -> Any:
        """What was read. FastAPI asks."""
        return self._document


class OpenRoute(APIRoute):
    """For everybody."""

    needs_caller = False

    def get_route_handler(self) -> Serve:
        """What serves the route. FastAPI's hook."""
        serve = super().get_route_handler()
        needs_caller, has_body = self.needs_caller, self.body_field is not None

        async def strictly(request: Request) -> Response:
            if needs_caller:
                request.scope["state"]["caller"] = await _authenticated(request)
            if has_body:
                request = StrictRequest(request.scope, request.receive)
                await request.read()
            return await serve(request)

        return strictly


class CallerRoute(OpenRoute):
    """For a caller with an access token."""

    needs_caller = True


def idempotency_key(request: Request) -> str | None:
    """The key a caller has made up. Raises: ``BadField``."""
    lines = header_lines(request.scope, b"idempotency-key")
    if not lines:
        return None
    key = lines[0]
    if len(lines) > 1 or not 1 <= len(key) <= KEY_MAX_CHARS or not all("!" <= c <= "~" for c in key):
        raise BadField(f"Idempotency-Key is one word of up to {KEY_MAX_CHARS} characters")
    return key


async def _authenticated(request: Request) -> Caller:
    """Raises: ``Unauthenticated``, ``TooManyRequests``, ``StoreUnavailable``."""
    parts = parts_of(request)
    try:
        credential = find_credential(header_lines(request.scope, b"authorization"), [], [])
    except Unauthenticated as error:
        parts.metrics.auth_attempts[attempt_status(error)] += 1
        raise
    caller = await parts.devices.authenticate(credential.value)
    route = request.scope["state"]["route"]
    told = partial(narrow, request.scope)
    await parts.limits.take(request.method, route, caller.user_id, "user", told)
    return caller
