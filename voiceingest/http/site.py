"""The two sites. HTTP/1.1 only, no version, no access log with query strings, no tracebacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.error import UnsupportedMethod
from twisted.web.http import Request as HttpRequest
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request, Site

from ..config import Settings
from ..errors import InternalError, MethodNotAllowed, VoiceIngestError
from ..gate import Gate
from ..health import Health
from ..metrics import FAMILIES, Metrics
from .answers import Answer, answer, answer_error, request_id
from .channel import GuardedChannel
from .head import Head, read_head
from .public import admin_root, public_root
from .resource import ENDPOINT, Routes

# How long a connection may wait for its next request (nginx: keepalive_timeout 75 s).
KEEP_ALIVE_S: Final = 30.0

# The admin site is for a scraper, some probes and a person or two.
ADMIN_CONNECTIONS_MAX_COUNT: Final = 256

# What proxies log for a caller that went away before it was answered (nginx).
GONE_STATUS: Final = 499

_METHODS: Final = next(family.labels[0] for family in FAMILIES if family.attribute == "http_duration")


@runtime_checkable
class IOpensAtOnce(Protocol):
    """A resource whose request may end before there is one."""

    def open_at_once(self, channel: GuardedChannel, head: Head, data: bytes) -> bool:
        """Open a WebSocket, and hand it what follows ``head`` in ``data``; else ``render`` is asked."""


class SiteRequest(Request):
    """One request: measured, logged without its query, and answered whatever goes wrong."""

    defaultContentType = None
    route = "unmatched"
    _log = Logger()
    _measured: GuardedSite | None = None
    _started = 0.0

    def __repr__(self) -> str:
        """Without the path, whose query may be a secret: requests end up in logs as their repr."""
        return f"<{type(self).__name__} {self.route}>"

    def process(self) -> None:
        """Find the resource and let it answer. Twisted's hook, without its Server header."""
        site: GuardedSite = self.channel.site  # type: ignore[attr-defined]  # set by Site.buildProtocol
        self.site = self._measured = site
        self._started = site.reactor.seconds()
        self.setHeader(b"Date", datetimeToString())
        self.prepath, self.postpath = [], self.path[1:].split(b"/")
        try:
            self.render(site.getResourceFor(self))
        except Exception:
            self.processingFailed(Failure())

    def render(self, resrc: IResource) -> None:
        """Ask a resource; what it raises becomes an answer. Twisted's hook."""
        try:
            body = resrc.render(self)
        except UnsupportedMethod as error:
            allowed: list[bytes] = sorted(error.allowedMethods)
            self._refuse(MethodNotAllowed(), {"Allow": b", ".join(allowed).decode("latin-1")})
        except VoiceIngestError as error:
            self._refuse(error, {})
        else:
            if body is not NOT_DONE_YET:
                answer(self, Answer(self.code, body))

    def processingFailed(self, reason: Failure) -> Failure:
        """A bug of ours: logged once, and the caller gets its id to tell us about it."""
        self._log.failure(
            "a request failed", reason, event="http_failed", route=self.route, request_id=request_id(self)
        )
        if self.startedWriting:
            self.loseConnection()
        else:
            self._refuse(InternalError(), {})
        return reason

    def upgraded(self) -> None:
        """The connection is a WebSocket now: this request is over, answered with 101."""
        self._observe(101)

    def finish(self) -> None:
        """All has been written. Twisted's hook."""
        self._observe(self.code)
        super().finish()

    def connectionLost(self, reason: Failure) -> None:
        """The caller went away. Twisted's hook."""
        self._observe(GONE_STATUS)
        super().connectionLost(reason)

    def _refuse(self, error: VoiceIngestError, headers: Mapping[str, str]) -> None:
        if self._measured is not None:
            self._measured.metrics.errors[error.code, ENDPOINT] += 1
        answer_error(self, error, headers=headers)

    def _observe(self, status: int) -> None:
        site, self._measured = self._measured, None
        if site is not None:
            method = _METHODS.fold(self.method.decode("latin-1"))
            site.answered(method, self.route, status, self._started, request_id(self))


class GuardedSite(Site):
    """A site whose connections are :class:`GuardedChannel` and count against ``gate``."""

    displayTracebacks = False
    _log = Logger()
    noisy = False  # our listeners log where they listen

    def __init__(
        self, root: IResource, reactor: IReactorTime, metrics: Metrics, gate: Gate, handshake_timeout_s: float
    ) -> None:
        super().__init__(
            root,
            requestFactory=SiteRequest,
            parsePOSTFormSubmission=False,
            timeout=KEEP_ALIVE_S,
            reactor=reactor,
        )
        self.metrics = metrics
        paths = root.paths() if isinstance(root, Routes) else []
        self._at_once = {path: found for path, found in paths if isinstance(found, IOpensAtOnce)}
        self._unanswered: set[GuardedChannel] = set()
        # Set on the instance: the class attribute is the channel that would also speak HTTP/2.
        self.protocol = lambda: GuardedChannel(  # type: ignore[method-assign, assignment, return-value]
            gate, reactor, handshake_timeout_s, metrics, self._unanswered, self._open_at_once
        )

    @property
    def unanswered(self) -> int:
        """How many connections have, or may have, a request that has not been answered."""
        return len(self._unanswered)

    def answered(self, method: str, route: str, status: int, started: float, request_id: str) -> None:
        """Measure and log a request that began at ``started`` and is answered now."""
        seconds = self.reactor.seconds() - started
        self.metrics.http_duration.observe(seconds, labels=(method, route, str(status)))
        self._log.debug(
            "request answered",
            event="http_answered",
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 3),
            request_id=request_id,
        )

    def _open_at_once(self, channel: GuardedChannel, data: bytes) -> bool:
        """Open the WebSocket that is asked for, where one glance at the head is enough."""
        head = read_head(data)
        resource = None if head is None else self._at_once.get(head.path)
        return head is not None and resource is not None and resource.open_at_once(channel, head, data)

    def acceptableProtocols(self) -> list[bytes]:
        """What TLS may agree on (RFC 7301). Twisted's hook."""
        return [b"http/1.1"]

    def log(self, request: HttpRequest) -> None:
        """Nothing: the access log of Twisted would hold query strings. Ours is in SiteRequest."""


def make_public_site(
    settings: Settings,
    reactor: IReactorTime,
    metrics: Metrics,
    health: Health,
    resources: Mapping[str, IResource],
    *,
    gate: Gate,
    drain: Callable[[], object],
    operators: Mapping[str, IResource] = MappingProxyType({}),
) -> GuardedSite:
    """The site that callers see; ``resources`` are by whole path (``/v1/ingest``).

    ``operators`` are there for a caller with the admin token only.
    """
    root = public_root(settings, metrics, health, resources, operators, drain)
    return GuardedSite(root, reactor, metrics, gate, settings.handshake_timeout_s)


def make_admin_site(
    settings: Settings,
    reactor: IReactorTime,
    metrics: Metrics,
    health: Health,
    resources: Mapping[str, IResource],
    *,
    drain: Callable[[], object],
) -> GuardedSite:
    """The site for operators, which asks for no token: keep it off the network."""
    root = admin_root(settings, metrics, health, resources, drain)
    gate = Gate(ADMIN_CONNECTIONS_MAX_COUNT, ADMIN_CONNECTIONS_MAX_COUNT)
    return GuardedSite(root, reactor, metrics, gate, settings.handshake_timeout_s)
