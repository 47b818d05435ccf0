"""The applications, as resources of the two sites: ``service_control`` puts them there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse
from twisted.internet.defer import Deferred
from twisted.web.resource import IResource

from ... import __version__
from ...aio import as_deferred
from ...config import Settings
from ...device_interfaces import IDevices
from ...metrics import Metrics
from ...session_interfaces import ISessions
from ..asgi import AsgiResource
from .devices import open_devices, own_devices
from .document import document_of
from .operators import operator_routes
from .page import PAGE_HEADERS, html_page
from .rates import RateLimits
from .refusals import handle_errors
from .routes import ApiParts
from .sessions import own_sessions
from .shell import AdmitOrigin, Shell, own_pages, pages_of

DOCUMENT_PATH: Final = "/openapi.json"
PAGE_PATH: Final = "/docs"

# What changes something is finished though its caller has left.
_FINISHES: Final = ("POST", "PATCH", "DELETE")

_PUBLIC_TEXT: Final = (
    "Register a device, make sessions, look at them, end them. "
    "A session is the record of a stream of voice, before, while and after it flows."
)
_OPERATOR_TEXT: Final = (
    "Everybody's sessions and devices, on the admin site; on the public site for the admin token."
)


@dataclass(frozen=True, slots=True)
class Api:
    """One application: its resource by each of its paths and templates of paths."""

    pages: dict[str, IResource]
    resource: AsgiResource
    limits: RateLimits

    def close(self) -> Deferred[None]:
        """Cancel what is asked, wait for it, and leave Redis."""
        return self.resource.close().addCallback(lambda _: as_deferred(self.limits.close()))


def make_api(
    settings: Settings,
    devices: IDevices,
    sessions: ISessions,
    metrics: Metrics,
    seconds: Callable[[], float],
    wall_clock: Callable[[], float],
    redis_url: str | None = None,
) -> Api:
    """The API for everybody. ``seconds`` is the reactor's; with ``redis_url`` requests are counted there."""
    limits = RateLimits(
        settings.api_rate_factor, metrics, seconds, wall_clock, redis_url, settings.redis_ca_path
    )
    parts = ApiParts(devices, sessions, metrics, limits, wall_clock)
    app = public_app(parts)
    return _resource(app, limits, metrics, pages_of(settings.allowed_origins))


def make_operator_api(
    devices: IDevices,
    sessions: ISessions,
    metrics: Metrics,
    seconds: Callable[[], float],
    wall_clock: Callable[[], float],
) -> Api:
    """The API of operators: as it is for the admin site, behind the admin token on the public one."""
    limits = RateLimits(0, metrics, seconds, wall_clock)
    parts = ApiParts(devices, sessions, metrics, limits, wall_clock)
    return _resource(operator_app(parts), limits, metrics, own_pages)


def public_app(parts: ApiParts | None = None) -> FastAPI:
    """The application for everybody; without ``parts`` it can only be read."""
    app = _application("voiceingest", _PUBLIC_TEXT, (open_devices, own_devices, own_sessions), parts)
    document = document_of(app)
    shown = html_page(document)

    async def openapi(request: Request) -> JSONResponse:
        return JSONResponse(document)

    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(shown, headers=PAGE_HEADERS)

    app.add_route(DOCUMENT_PATH, openapi, ["GET"])
    app.add_route(PAGE_PATH, docs, ["GET"])
    app.state.document = document
    return app


def operator_app(parts: ApiParts | None = None) -> FastAPI:
    """The application of operators; without ``parts`` it can only be read."""
    app = _application("voiceingest for operators", _OPERATOR_TEXT, (operator_routes,), parts)
    app.state.document = document_of(app)
    return app


def _application(title: str, text: str, routers: Sequence[APIRouter], parts: ApiParts | None) -> FastAPI:
    app = FastAPI(
        title=title,
        version=__version__,
        description=text,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # What it would tell others holds what callers sent.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    for router in routers:
        # Not include_router: it wraps them, and what they are would have to be looked up in its privates.
        app.router.routes.extend(router.routes)
    app.state.parts = parts
    return app


def _resource(app: FastAPI, limits: RateLimits, metrics: Metrics, admit_origin: AdmitOrigin) -> Api:
    methods = methods_of(app)
    handle_errors(app, metrics, methods)
    shell = Shell(app, limits, metrics, methods, admit_origin)
    resource = AsgiResource(shell, metrics, finishes=_FINISHES, quiet=(ClientDisconnect,))
    return Api(dict.fromkeys(methods, resource), resource, limits)


def methods_of(app: FastAPI) -> dict[str, frozenset[str]]:
    """The methods of each path, those of routes that only refuse left out."""
    found: dict[str, frozenset[str]] = {}
    for route in app.routes:
        known: Any = route
        if isinstance(route, APIRoute) and not route.include_in_schema:
            continue
        path = known.path_format
        found[path] = found.get(path, frozenset()) | frozenset(known.methods or ())
    return found
