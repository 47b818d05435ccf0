"""What is around every route of the API: who may ask from which page, how often, and with which method."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from ...errors import OriginRefused, VoiceIngestError
from ...metrics import Metrics
from ..admin import is_foreign_page
from ..asgi import AsgiApp, Message, Receive, Send
from .rates import RateLimits, Standing
from .refusals import allow_of, refusal

# What a page may be told of an answer, and may send with a question (Fetch standard, section 3.2).
_EXPOSED: Final = (
    "X-Request-Id, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Idempotency-Replayed"
)
_ACCEPTED: Final = "Authorization, Content-Type, Idempotency-Key, X-Request-Id"
_PREFLIGHT_AGE_S: Final = 600

Scope = MutableMapping[str, Any]
AdmitOrigin = Callable[[Scope], Mapping[str, str]]


def pages_of(origins: Collection[str]) -> AdmitOrigin:
    """Pages of these origins may ask and read; who brings another origin is refused."""
    allowed = frozenset(origins)

    def admit(scope: Scope) -> Mapping[str, str]:
        brought = header_lines(scope, b"origin")
        if not brought:
            return {"Vary": "Origin"}
        if len(brought) > 1 or brought[0] not in allowed:
            raise OriginRefused
        return {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": brought[0],
            "Access-Control-Expose-Headers": _EXPOSED,
        }

    return admit


def own_pages(scope: Scope) -> Mapping[str, str]:
    """The admin site may ask for no token, but a page of another site must not press its buttons."""
    is_button = scope["method"] not in ("GET", "HEAD", "OPTIONS")
    if is_button and is_foreign_page(header_lines(scope, b"host"), header_lines(scope, b"origin")):
        raise OriginRefused
    return {}


def header_lines(scope: Mapping[str, Any], name: bytes) -> list[str]:
    """Every line of a header."""
    return [value.decode("latin-1") for known, value in scope["headers"] if known == name]


def narrow(scope: Scope, standing: Standing) -> None:
    """Tell the caller of this limit where less is left of it than of the other."""
    known: Standing | None = scope["state"].get("standing")
    if known is None or standing.remaining < known.remaining:
        scope["state"]["standing"] = standing


class Shell:
    """An application around the routes; ``methods`` are those of each route."""

    def __init__(
        self,
        app: AsgiApp,
        limits: RateLimits,
        metrics: Metrics,
        methods: Mapping[str, Collection[str]],
        admit_origin: AdmitOrigin,
    ) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._methods = methods
        self._admit_origin = admit_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. ASGI's hook."""
        added: dict[str, str] = {}
        route = scope["state"]["route"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                standing: Standing | None = scope["state"].get("standing")
                every = {**added, **(standing.headers() if standing is not None else {})}
                lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in every.items()]
                message = {**message, "headers": [*message.get("headers", ()), *lines]}
            await send(message)

        try:
            added |= self._admit_origin(scope)
            if scope["method"] == "OPTIONS":
                await self._options(scope, route)(scope, receive, send_with_headers)
                return
            if scope["method"] == "HEAD":
                # The connection leaves the body out.
                scope = {**scope, "method": "GET"}
            told = partial(narrow, scope)
            await self._limits.take(scope["method"], route, scope["client"][0], "address", told)
        except VoiceIngestError as error:
            await refusal(scope, self._metrics, error)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _options(self, scope: Scope, route: str) -> Response:
        allow = allow_of(self._methods.get(route, ()))
        headers = {"Allow": allow}
        if header_lines(scope, b"access-control-request-method"):
            headers |= {
                "Access-Control-Allow-Methods": allow,
                "Access-Control-Allow-Headers": _ACCEPTED,
                "Access-Control-Max-Age": str(_PREFLIGHT_AGE_S),
            }
        return Response(status_code=204, headers=headers)
