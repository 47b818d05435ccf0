"""The composition root: the only place that knows which class is behind which seam.

:func:`make_service` reads from top to bottom: what counts and logs, who may speak, where audio
goes, what is live, what answers, what listens; and then in which order they come up.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.web.resource import IResource

from . import catalog
from .accepting import LateClose
from .auth import make_authenticator
from .auth.admission import BearerAdmission
from .auth.resume import ResumeTokens
from .auth.tickets import Tickets
from .config import Settings
from .deadlines import Deadlines
from .gate import Gate
from .health import Health
from .house import House
from .http.site import GuardedSite, make_admin_site, make_public_site
from .http.tickets import TICKET_PATH, TicketResource
from .http.upgrade import UpgradeResource
from .interfaces import IAuthenticator, IBus
from .lifecycle import Child, Daemon, LagSampler, Outcome, Reloads
from .limits import CONTROL_MAX_BYTES
from .listeners import Listener, admin_places, public_places
from .logs import ILogStream, JsonLog, attach_stdlib
from .metrics import Metrics
from .outward import HttpClient
from .publishers.delivery import Delivery
from .registry import FLUSH_GRACE_S, Registry
from .service_calls import CallPages, make_calls, make_transcription, needs_keys
from .service_control import Tools, make_control
from .stream import StreamRules
from .tls import Certificates
from .websocket import HardenedFactory, SocketRules

# What a part may take beyond its own deadline before it is left behind, in seconds.
MARGIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """Two calls as a child of the service tree."""

    name: str
    start: Callable[[], Deferred[Any] | None] = lambda: None
    stop: Callable[[], Deferred[Any] | None] = lambda: None


def make_service(
    settings: Settings,
    reactor: Any,
    *,
    log_stream: ILogStream | None = None,
    twistd: MutableMapping[str, Any] | None = None,
    read_settings: Callable[[], Settings] | None = None,
    environ: Mapping[str, str] = os.environ,
    wall_clock: Callable[[], float] = time.time,
    make_bus: Callable[[Settings, Any, Metrics], IBus] | None = None,
) -> IService:
    """Build the daemon; nothing listens and no timer runs before it is started.

    ``twistd`` holds twistd's own options; ``read_settings`` reads the settings again, for SIGHUP;
    ``make_bus`` takes the place of what ``publish_url`` names.
    Raises: ``OperatorError`` for what the settings name and cannot be used.
    """
    metrics = Metrics()
    log = _make_log(settings, metrics, wall_clock, log_stream or sys.stdout)

    issuer = make_authenticator(settings, reactor, wall_clock, metrics, read_settings=read_settings)
    make_bus = make_bus or catalog.load(catalog.BUSES[urlsplit(settings.bus_url).scheme])
    bus = make_bus(settings, reactor, metrics)
    delivery = Delivery(bus, settings, reactor, wall_clock, metrics)
    transcription = make_transcription(delivery, settings, reactor, metrics)
    registry = Registry(reactor)
    metrics.read_gauge("streams_detached", lambda: registry.detached_count)
    deadlines = Deadlines(reactor)
    control = make_control(settings, issuer, Tools(reactor, deadlines, metrics, wall_clock, read_settings))
    tokens = _resume_tokens(settings, wall_clock)
    house = House(
        _stream_rules(settings), transcription.publisher, registry, control.authenticator, deadlines, reactor,
        wall_clock, metrics, tokens, control.records,
    )

    lag = LagSampler(reactor, metrics.reactor_lag)
    keys = {"keys": control.authenticator} if needs_keys(settings) else {}
    health = _make_health({"reactor": lag, bus.name: delivery, **keys, **control.checks}, reactor, metrics)

    def begin_stop() -> None:
        daemon.begin_stop()

    http = HttpClient(reactor)
    calls = make_calls(settings, house, reactor, transcription, http)
    pages = CallPages({**calls.public, **control.public}, {**calls.operators, **control.operators})
    admin_site, public_site = _make_sites(settings, house, reactor, health, pages, begin_stop)
    certificates = Certificates()
    admin, public = _make_listeners(settings, admin_site, public_site, certificates, reactor, metrics)
    metrics.tls_expiry = certificates.expires_at

    flush = partial(delivery.stop, flush_s := settings.stop_flush_timeout_s)
    drain = partial(registry.drain, settings.drain_deadline_s)
    drain_s = settings.drain_deadline_s + FLUSH_GRACE_S + MARGIN_S
    children = [
        _log_part(log),
        Child(lag),
        Child(admin),
        *control.kept,
        Child(Part("bus", delivery.start, flush), stop_deadline_s=flush_s + MARGIN_S),
        Child(Part("http_client", stop=http.close)),
        Child(Part("transcribing", stop=transcription.stop), stop_deadline_s=transcription.stop_s + MARGIN_S),
        Child(Part("keys", issuer.start, issuer.stop)),
        Child(Part("deadlines", stop=deadlines.stop)),
        Child(Part("streams", stop=drain), stop_deadline_s=drain_s),
        *control.asked,
        Child(public, stop_deadline_s=public.stop_deadline_s + MARGIN_S),
    ]
    reloads = {**_reloads(certificates, metrics, issuer, log, read_settings), **control.reloads}
    daemon = Daemon(
        children,
        reactor,
        metrics.errors,
        environ=environ,
        outcome=Outcome(twistd, _say),
        reloads=Reloads(reloads, metrics.reloads),
        # Streams at once, while the listeners still answer: who is moved has a whole window to be.
        draining=(health.drain, drain),
        observer=log,
    )
    return daemon


def _make_sites(
    settings: Settings,
    house: House,
    reactor: Any,
    health: Health,
    calls: CallPages,
    begin_stop: Callable[[], None],
) -> tuple[GuardedSite, GuardedSite]:
    """The site of the operators and that of everybody."""
    metrics, pages = house.metrics, calls.operators
    resources = {**_make_resources(house, settings, reactor), **calls.public}
    gate = Gate(settings.max_connections, settings.max_connections_per_ip, settings.trusted_proxies)
    return (
        make_admin_site(settings, reactor, metrics, health, pages, drain=begin_stop),
        make_public_site(
            settings, reactor, metrics, health, resources, gate=gate, drain=begin_stop, operators=pages
        ),
    )


def _make_health(checks: Mapping[str, Any], reactor: Any, metrics: Metrics) -> Health:
    """``checks`` are parts with a ``ready``: ``None``, or the reason why not."""
    health = Health(reactor, metrics)
    for name, part in checks.items():
        health.register(name, partial(getattr, part, "ready"))
    return health


def _resume_tokens(settings: Settings, wall_clock: Callable[[], float]) -> ResumeTokens:
    secret = settings.resume_secret.get_secret_value() if settings.resume_secret else None
    return ResumeTokens(secret, settings.resume_window_s, wall_clock)


def _make_log(
    settings: Settings, metrics: Metrics, wall_clock: Callable[[], float], stream: ILogStream
) -> JsonLog:
    return JsonLog(
        stream, metrics, wall_clock,
        service=settings.service_name, environment=settings.environment, level=settings.log_level,
    )


def _log_part(log: JsonLog) -> Child:
    """Stdlib logging goes to the daemon's log while it runs."""
    undo: list[Callable[[], None]] = []

    def stop() -> None:
        while undo:
            undo.pop()()

    return Child(Part("stdlib_logging", lambda: undo.append(attach_stdlib(log)), stop))


def _make_listeners(
    settings: Settings,
    admin_site: GuardedSite,
    public_site: GuardedSite,
    certificates: Certificates,
    reactor: Any,
    metrics: Metrics,
) -> tuple[Listener, Listener]:
    """The ports of the operators, and those of the callers, which are closed late."""

    def paused() -> None:
        metrics.accept_pauses += 1

    late = LateClose(reactor, settings.drain_listen_s, lambda: public_site.unanswered)
    admin, public = admin_places(settings), public_places(settings)
    return (
        Listener("admin", admin, admin_site, certificates, reactor, paused=paused),
        Listener("listen", public, public_site, certificates, reactor, late=late, paused=paused),
    )


def _stream_rules(settings: Settings) -> StreamRules:
    return StreamRules(
        ack_interval=settings.ack_interval,
        ack_published=settings.ack_mode == "published",
        start_timeout_s=settings.start_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        flush_timeout_s=settings.stop_flush_timeout_s,
        auth_expiring_lead_s=settings.auth_expiring_lead_s,
        auth_leeway_s=settings.jwt_leeway_s,
        realtime_factor=settings.ingest_max_realtime_factor,
        max_frame_bytes=settings.max_frame_bytes,
        resume_window_s=settings.resume_window_s,
    )


def _make_resources(house: House, settings: Settings, reactor: Any) -> dict[str, IResource]:
    """What is on the public site beside health: the WebSocket dialects and the tickets for them."""
    rules = SocketRules(
        # A message may also be text: the limit for audio is the stream's.
        max_message_bytes=max(settings.max_frame_bytes, CONTROL_MAX_BYTES),
        ping_interval_s=settings.ping_interval_s,
        ping_timeout_s=settings.ping_timeout_s,
        write_timeout_s=settings.write_timeout_s,
        realtime_factor=settings.ingest_max_realtime_factor,
    )
    sockets = HardenedFactory(rules, reactor, house.deadlines, house.metrics)
    tickets = Tickets(settings.ticket_ttl_s, reactor, house.metrics)
    admission = BearerAdmission(house.authenticator, tickets, house.metrics)
    transports = [catalog.load(entry)(house) for entry in catalog.TRANSPORTS.values()]
    resources: dict[str, IResource] = {
        transport.path: UpgradeResource(transport, sockets, admission, settings, house.metrics)
        for transport in transports
    }
    resources[TICKET_PATH] = TicketResource(house.authenticator, tickets, settings, house.metrics)
    return resources


def _reloads(
    certificates: Certificates,
    metrics: Metrics,
    issuer: IAuthenticator,
    log: JsonLog,
    read_settings: Callable[[], Settings] | None,
) -> dict[str, Callable[[], None]]:
    """What is always read again on SIGHUP."""
    return {
        "certificate": _certificates_again(certificates, metrics),
        "jwt_key": issuer.reload,
        "log_level": _log_level_again(log, read_settings),
    }


def _certificates_again(certificates: Certificates, metrics: Metrics) -> Callable[[], None]:
    def read_again() -> None:
        try:
            certificates.reload()
        finally:
            metrics.tls_expiry = certificates.expires_at

    return read_again


def _log_level_again(log: JsonLog, read_settings: Callable[[], Settings] | None) -> Callable[[], None]:
    """Only the level is taken from what is read; the rest of the settings is for the next start."""

    def read_again() -> None:
        if read_settings is not None:
            log.set_level(read_settings().log_level)

    return read_again


def _say(line: str) -> None:
    """Write to the real standard error: twistd turns ``sys.stderr`` into log events."""
    stderr = sys.__stderr__
    if stderr is not None:
        stderr.write(line)
        stderr.flush()
