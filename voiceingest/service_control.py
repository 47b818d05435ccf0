"""The wiring of devices and sessions: what ``service`` adds to the daemon where tokens can be signed."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.web.resource import IResource

from .aio import as_deferred
from .config import Settings
from .deadlines import Deadlines
from .errors import ExtraMissing
from .interfaces import IAuthenticator
from .lifecycle import Child
from .metrics import Metrics
from .places import own_pair
from .session_interfaces import ISessionCache, IStreamRecords, NoRecords

# What is an extra is imported where the settings ask for it (tests/test_imports.py).
if TYPE_CHECKING:
    from .devices import Devices, Revocation, Upkeep
    from .http.api.app import Api
    from .http.api.rates import RateLimits
    from .sessions.bus import NoBus, RedisControlBus
    from .sessions.service import Sessions
    from .sessions.sweeper import Sweeper
    from .sessions.writer import Writer
    from .store.engine import Store

_log = Logger()

# How long the rows of streams that have just ended are written on at a shutdown, in seconds.
FLUSH_S: Final = 5.0

# What parts may take beyond that, in seconds.
_MARGIN_S: Final = 2.0

# What the extra ``grpc`` brings beside ``control``.
_GRPC: Final = ("grpc", "grpc_health", "grpc_reflection")


@dataclass(frozen=True, slots=True)
class Control:
    """What devices and sessions bring to the daemon; nothing where there are none.

    ``kept`` are started before the streams and stopped after them, ``asked`` the other way round.
    """

    authenticator: IAuthenticator
    records: IStreamRecords = field(default_factory=NoRecords)
    public: Mapping[str, IResource] = field(default_factory=dict)
    operators: Mapping[str, IResource] = field(default_factory=dict)
    kept: tuple[Child, ...] = ()
    asked: tuple[Child, ...] = ()
    checks: Mapping[str, Any] = field(default_factory=dict)
    reloads: Mapping[str, Callable[[], None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tools:
    """What the rest of the daemon gives."""

    reactor: Any
    deadlines: Deadlines
    metrics: Metrics
    wall_clock: Callable[[], float]
    read_settings: Callable[[], Settings] | None = None


def make_control(settings: Settings, issuer: IAuthenticator, tools: Tools) -> Control:
    """Build what devices and sessions need. ``issuer`` verifies the tokens that are not of devices.

    Raises: ``ExtraMissing`` where the settings ask for it and it is not installed, ``BadKey``,
    ``BadCertificate``, ``SettingsError``, ``StoreUnusable``.
    """
    if not settings.has_control:
        return Control(issuer)
    _require("control", "fastapi", "sqlalchemy", "alembic", "limits", "redis")
    from .auth.device_tokens import DeviceTokens
    from .auth.either import EitherAuthenticator
    from .devices import Chain, Devices, Upkeep, UserStreams
    from .http.api.app import make_api, make_operator_api
    from .sessions.records import StreamRecords
    from .sessions.rows import StreamRows
    from .sessions.service import Sessions
    from .sessions.sweeper import Sweeper
    from .sessions.writer import Writer
    from .store import make_store
    from .store.devices import DeviceStore
    from .store.engine import START_WAIT_S, STOP_S

    metrics, seconds, wall = tools.metrics, tools.reactor.seconds, tools.wall_clock
    store = make_store(settings, metrics, tools.reactor)
    node = f"node_{secrets.token_urlsafe(16)}"
    redis_url = _cache_url(settings)
    archive, bus = _make_archive(settings, store, node, redis_url, tools)
    sessions = Sessions(archive, bus)
    writer = Writer(StreamRows(archive).write, metrics)
    sweeper = Sweeper(archive, writer, seconds)
    streams = UserStreams(settings, tools.reactor, tools.deadlines, metrics)
    tokens = DeviceTokens(settings, tools.read_settings)
    devices = Devices(
        DeviceStore(store), tokens, settings, wall, seconds, metrics, streams, _announcing(bus)
    )  # fmt: skip
    _hear_of_revocations(bus, devices)
    api = make_api(settings, devices, sessions, metrics, seconds, wall, redis_url)
    operators = make_operator_api(devices, sessions, metrics, seconds, wall)
    keeping = Keeping(store, writer, sweeper, bus, archive.cache, Upkeep(devices, seconds))
    grpc, reloads = _make_grpc(settings, devices, sessions, api.limits, store, tools)
    if settings.registration == "on" and settings.registration_secret is None:
        _log.warn(
            "REGISTRATION_SECRET is not set: whoever reaches the port may register a device",
            event="registration_open",
        )
    return Control(
        EitherAuthenticator(issuer, tokens.is_ours, devices),
        Chain(StreamRecords(archive.live, writer, wall), streams),
        api.pages,
        operators.pages,
        kept=(Child(keeping, START_WAIT_S + _MARGIN_S, FLUSH_S + STOP_S + 2 * _MARGIN_S),),
        asked=(*grpc, Child(Asking((api, operators)))),
        checks={"database": store},
        reloads={"device_key": tokens.reload, **reloads},
    )


class Keeping:
    """What is kept and who looks after it: a child of the service tree."""

    name = "store"

    def __init__(
        self, store: Store, writer: Writer, sweeper: Sweeper, bus: NoBus | RedisControlBus,
        cache: ISessionCache, upkeep: Upkeep,
    ) -> None:  # fmt: skip
        self._store = store
        self._writer = writer
        self._sweeper = sweeper
        self._bus = bus
        self._cache = cache
        self._upkeep = upkeep

    def start(self) -> Deferred[None]:
        """Bring the tables up to date and begin. Fails with ``StoreUnusable``."""
        return as_deferred(self._start())

    def stop(self) -> Deferred[None]:
        """Write what has ended, within ``FLUSH_S``, and leave the database."""
        return as_deferred(self._stop())

    async def _start(self) -> None:
        await self._store.start()
        self._bus.start()
        self._writer.start()
        self._sweeper.start()
        self._upkeep.start()

    async def _stop(self) -> None:
        async with AsyncExitStack() as ends:
            # Last in, first out; one that fails keeps none of the others open.
            for stop in (self._store.stop, self._cache.stop, self._bus.stop):
                ends.push_async_callback(stop)
            ends.push_async_callback(self._writer.stop, FLUSH_S)
            for stop in (self._sweeper.stop, self._upkeep.stop):
                ends.push_async_callback(stop)


class Asking:
    """What is asked over HTTP: a child of the service tree that ends before its database does."""

    name = "api"

    def __init__(self, apis: tuple[Api, ...]) -> None:
        self._apis = apis

    def start(self) -> None:
        """The sites listen."""

    def stop(self) -> Deferred[Any]:
        """Cancel what is asked."""
        return gatherResults([api.close() for api in self._apis])


def _make_archive(
    settings: Settings, store: Store, node: str, redis_url: str | None, tools: Tools
) -> tuple[Any, NoBus | RedisControlBus]:
    from .sessions.archive import Archive
    from .sessions.bus import NoBus, RedisControlBus
    from .sessions.cache import NoCache, RedisSessionCache
    from .sessions.live import LiveStreams
    from .store.sessions import SessionStore

    cache: NoCache | RedisSessionCache = NoCache()
    bus: NoBus | RedisControlBus = NoBus()
    if redis_url is not None:
        ca_path = settings.redis_ca_path
        cache = RedisSessionCache(redis_url, tools.metrics, tools.reactor.seconds, ca_path=ca_path)
        bus = RedisControlBus(redis_url, node, tools.metrics, ca_path=ca_path)
    live = LiveStreams()
    return Archive(SessionStore(store), cache, live, settings, tools.metrics, node, tools.wall_clock), bus


def _cache_url(settings: Settings) -> str | None:
    """The Redis that processes share, where there is one."""
    if settings.session_cache == "off":
        return None
    if settings.session_cache_url is not None:
        return settings.session_cache_url.get_secret_value()
    url = settings.bus_url
    return url if urlsplit(url).scheme in ("redis", "rediss") else None


def _announcing(bus: NoBus | RedisControlBus) -> Callable[[Revocation], None]:
    """How other processes are told what was revoked here: three ids as one subject."""

    def announce(revocation: Revocation) -> None:
        kind: Any = "device_revoked" if revocation.family_id is None else "family_revoked"
        ids = (revocation.user_id, revocation.device_id, revocation.family_id)
        bus.tell(kind, " ".join(one for one in ids if one is not None))

    return announce


def _hear_of_revocations(bus: NoBus | RedisControlBus, devices: Devices) -> None:
    from .devices import Revocation

    def hear(subject: str) -> None:
        devices.revoked_elsewhere(Revocation(*subject.split(" ")))

    bus.listen("device_revoked", hear)
    bus.listen("family_revoked", hear)


def _make_grpc(
    settings: Settings,
    devices: Devices,
    sessions: Sessions,
    limits: RateLimits,
    store: Store,
    tools: Tools,
) -> tuple[tuple[Child, ...], dict[str, Callable[[], None]]]:
    """The gRPC server, and how its certificate is read again; nothing where it is off."""
    if settings.grpc == "off":
        return (), {}
    if settings.grpc == "auto" and not all(find_spec(name) for name in _GRPC):
        _log.info("gRPC is off: pip install 'voiceingest[grpc]'", event="grpc_off")
        return (), {}
    _require("grpc", *_GRPC)
    from .http.api.cursor import read_cursor, write_cursor
    from .transports.grpc_api.credentials import ReloadingCredentials
    from .transports.grpc_api.limits import CallLimits
    from .transports.grpc_api.server import GRACE_S, GrpcServer
    from .transports.grpc_api.servicer import Pages, SessionServicer

    pair = own_pair(settings)
    credentials = ReloadingCredentials(pair) if pair is not None else None
    interface = settings.grpc_interface or ("[::]" if credentials is not None else "127.0.0.1")
    pages = Pages(read_cursor, lambda place: write_cursor(*place))
    servicer = SessionServicer(
        devices, sessions, CallLimits(limits), pages, tools.wall_clock, tools.metrics
    )  # fmt: skip
    address = f"{interface}:{settings.grpc_port}"
    server = GrpcServer(servicer, address, credentials, lambda: store.ready, tools.metrics)
    reloads = {"grpc_certificate": credentials.reload} if credentials is not None else {}
    return (Child(server, stop_deadline_s=GRACE_S + _MARGIN_S),), reloads


def _require(extra: str, *packages: str) -> None:
    """Raises: ``ExtraMissing`` for the first that is not there: some of an extra may be, for others' sake."""
    for package in packages:
        if find_spec(package) is None:
            raise ExtraMissing(f"{package} is not installed: pip install 'voiceingest[{extra}]'")
