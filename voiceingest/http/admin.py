"""What operators and their machines ask for: metrics, health, drain."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from ..errors import OriginRefused, Unauthenticated
from ..gate import plain_address
from ..health import Health
from ..metrics import Metrics, expose
from .answers import Answer, answer_error
from .resource import ENDPOINT, ApiResource

_SCHEME: Final = "bearer "

_BY_NAME: Final = "ask by an address or localhost, or name this host in admin_hosts"


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


class ByOwnName(Resource):
    """A resource of the admin site that is asked by an address, ``localhost`` or one of ``names``.

    That site asks for no token. A page in an operator's browser whose name is made to lead here (DNS
    rebinding) is of one origin with it, and would be let read and press everything.
    """

    isLeaf = True

    def __init__(self, inner: IResource, names: Collection[str], metrics: Metrics) -> None:
        super().__init__()
        self._inner = inner
        self._names = frozenset(name.lower() for name in names)
        self._metrics = metrics

    def render(self, request: Request) -> bytes | int:
        """Pass the request on, or answer 403. Twisted's hook."""
        hosts = request.requestHeaders.getRawHeaders(b"Host", [])
        name = _host_name(hosts[0].decode("latin-1")) if len(hosts) == 1 else ""
        if not (name in self._names or name == "localhost" or _is_address(name)):
            self._metrics.errors[OriginRefused.code, ENDPOINT] += 1
            return answer_error(request, OriginRefused(_BY_NAME))
        rendered: bytes | int = self._inner.render(request)
        return rendered


def by_own_name(
    routes: Mapping[str, IResource], names: Collection[str], metrics: Metrics
) -> dict[str, IResource]:
    """The same routes, for who asks by a name of this machine's."""
    return {path: ByOwnName(inner, names, metrics) for path, inner in routes.items()}


def _host_name(host: str) -> str:
    """A ``Host`` without its port, and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    try:
        plain_address(name)
    except ValueError:
        return False
    return True


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
