"""What operators and their machines ask for: metrics, health, drain."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from ..errors import OriginRefused, Unauthenticated
from ..health import Health
from ..metrics import Metrics, expose
from .answers import Answer, answer_error
from .resource import ENDPOINT, ApiResource

_SCHEME: Final = "bearer "


def health_routes(health: Health, metrics: Metrics, *, reasons: bool) -> dict[str, ApiResource]:
    """The three health pages; without ``reasons`` they say the status and no more.

    ``/livez`` and ``/healthz`` are 200 as long as the reactor answers; ``/readyz`` is 503 while
    new streams had better go elsewhere.
    """

    def livez(request: Request) -> Answer:
        return Answer(200, {"status": "ok"})

    def healthz(request: Request) -> Answer:
        return Answer(200, health.report() if reasons else {"status": health.status()})

    def readyz(request: Request) -> Answer:
        why_not = health.reasons()
        body: dict[str, object] = {"status": health.status()}
        if reasons:
            body["reasons"] = why_not
        return Answer(503 if why_not else 200, body, {"Retry-After": "5"} if why_not else {})

    pages = {"/livez": livez, "/healthz": healthz, "/readyz": readyz}
    return {path: ApiResource(metrics, {"GET": page}) for path, page in pages.items()}


def operator_routes(metrics: Metrics, drain: Callable[[], object]) -> dict[str, ApiResource]:
    """``/metrics`` and ``POST /drain``, which begins the shutdown and does not wait for it."""

    def scrape(request: Request) -> Answer:
        accept = b",".join(request.requestHeaders.getRawHeaders(b"Accept", []))
        body, content_type = expose(metrics, accept.decode("latin-1"))
        return Answer(200, body, {"Content-Type": content_type})

    def begin_drain(request: Request) -> Answer:
        refuse_foreign_page(request)
        drain()
        return Answer(202, {"status": "draining"})

    return {
        "/metrics": ApiResource(metrics, {"GET": scrape}),
        "/drain": ApiResource(metrics, {"POST": begin_drain}),
    }


class OperatorsOnly(Resource):
    """A resource of the admin site on the public one: for a caller with the admin token."""

    isLeaf = True

    def __init__(self, inner: IResource, token: SecretStr, metrics: Metrics) -> None:
        super().__init__()
        self._inner = inner
        self._token = token
        self._metrics = metrics

    def render(self, request: Request) -> bytes | int:
        """Pass the request on, or answer 401. Twisted's hook."""
        headers = request.requestHeaders.getRawHeaders(b"Authorization", [])
        given = headers[0].decode("latin-1") if len(headers) == 1 else ""
        wanted = self._token.get_secret_value().encode()
        bearer = given[len(_SCHEME) :].strip().encode("latin-1")
        # Compared in any case, so that a wrong scheme takes as long as a wrong token.
        same = hmac.compare_digest(bearer, wanted)
        if not (same and given[: len(_SCHEME)].lower() == _SCHEME):
            self._metrics.errors[Unauthenticated.code, ENDPOINT] += 1
            return answer_error(request, Unauthenticated())
        rendered: bytes | int = self._inner.render(request)
        return rendered


def guarded(routes: Mapping[str, IResource], token: SecretStr, metrics: Metrics) -> dict[str, IResource]:
    """The same routes behind the admin token."""
    return {path: OperatorsOnly(inner, token, metrics) for path, inner in routes.items()}


def refuse_foreign_page(request: Request) -> None:
    """The admin site asks for no token, but a page of another site must not press its buttons."""
    hosts, origins = (
        [line.decode("latin-1") for line in request.requestHeaders.getRawHeaders(name, [])]
        for name in (b"Host", b"Origin")
    )
    if is_foreign_page(hosts, origins):
        raise OriginRefused


def is_foreign_page(hosts: Sequence[str], origins: Sequence[str]) -> bool:
    """Whether a page of another site asks: all there is of ``Host`` and of ``Origin``."""
    return any(list(hosts) != [_netloc(origin)] for origin in origins)


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
