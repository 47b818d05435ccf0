"""The wiring of calls: what ``service`` adds to the daemon when Exotel may bring them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.web.resource import IResource

from . import catalog
from .audio import AudioFormat
from .auth.admission import CallAdmission
from .auth.calls import CallCredentials
from .auth.tickets import Tickets
from .call_interfaces import AgentContext, IHttpClient
from .config import Settings
from .errors import Forbidden, SettingsError
from .exotel.api import ExotelApi
from .exotel.callbacks import Callbacks
from .flow import Flow
from .house import House
from .http.calls import SESSIONS_PATH, session_routes
from .http.exotel import call_routes, exotel_routes
from .http.tickets import TICKET_PATH
from .http.upgrade import UpgradeResource
from .interfaces import IPublisher, StreamFacts
from .limits import EXOTEL_MESSAGE_MAX_BYTES
from .metrics import Metrics
from .websocket import HardenedFactory, SocketRules

# What answers and what transcribes is imported where the settings ask for it (tests/test_imports.py).
if TYPE_CHECKING:
    from .calls.switchboard import Desk
    from .transcribing.publisher import Transcribing

_log = Logger()

# Paths of ours that a call must not take the place of.
_TAKEN: Final = (
    *("/v1/ingest", "/livez", "/readyz", "/healthz", "/metrics", "/drain", "/docs", "/openapi.json"),
    *(TICKET_PATH, SESSIONS_PATH),
)

# Exotel tries a handshake that failed once more, with the same URL (``protocols.md`` section 1.6).
TICKET_USES: Final = 2


@dataclass(frozen=True, slots=True)
class CallPages:
    """What calls bring to the sites: for everybody, and for operators."""

    public: dict[str, IResource] = field(default_factory=dict)
    operators: dict[str, IResource] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transcription:
    """How what is published is transcribed. ``bare`` publishes, and does not transcribe."""

    bare: IPublisher
    transcribing: Transcribing | None
    is_for_all: bool
    stop_s: float = 0.0

    @property
    def publisher(self) -> IPublisher:
        """What every stream publishes to."""
        if self.is_for_all and self.transcribing is not None:
            return self.transcribing.around(self.bare)
        return self.bare

    def stop(self) -> Deferred[None]:
        """Let every transcript be finished, within a moment."""
        return self.transcribing.stop() if self.transcribing is not None else succeed(None)


def make_transcription(
    publisher: IPublisher, settings: Settings, reactor: Any, metrics: Metrics
) -> Transcription:
    """What hears along: with every stream where the settings say so, with a call where its agent wants it."""
    if settings.deepgram_api_key is None:
        return Transcription(publisher, None, settings.exo_bridge_enabled)
    from .transcribing.publisher import STOP_S, Transcribing

    transcribing = Transcribing(settings, reactor, metrics)
    return Transcription(publisher, transcribing, settings.exo_bridge_enabled, STOP_S)


def needs_keys(settings: Settings) -> bool:
    """Whether the daemon is of no use without a key for tokens: one that takes calls is."""
    has_keys = settings.jwt_public_key or settings.jwt_public_key_file or settings.jwt_jwks_url
    return bool(has_keys) or not settings.takes_calls


def make_calls(
    settings: Settings, house: House, reactor: Any, transcription: Transcription, http: IHttpClient
) -> CallPages:
    """Build what answers calls; nothing where the settings let nobody bring one.

    Raises: ``UnknownAgent``, ``ExtraMissing``, ``SettingsError`` for an agent that lacks something.
    """
    tickets = Tickets(settings.exotel_ticket_ttl_s, reactor, house.metrics, uses=TICKET_USES)
    secret = settings.exotel_callback_secret
    callbacks = Callbacks(secret.get_secret_value() if secret else None, reactor, house.metrics)
    operators = call_routes(ExotelApi(settings, http, tickets, callbacks, house.metrics), house.metrics)
    if not settings.takes_calls:
        return CallPages(operators=operators)
    from .calls.switchboard import Switchboard
    from .transports.voicebot_ws import VoicebotTransport

    context = AgentContext(settings, house.clock, house.metrics, http)
    board = Switchboard(house, _desk(settings, context, transcription))
    credentials = CallCredentials(settings, tickets, house.metrics)
    transport = VoicebotTransport(board, settings.ws_path, tickets.spend)
    sockets = HardenedFactory(_socket_rules(settings), reactor, house.deadlines, house.metrics)
    upgrade = UpgradeResource(transport, sockets, CallAdmission(credentials), settings, house.metrics)
    # Not by the lane of a stream that is transcribed: one more of that name would cut its last words off.
    publish = partial(publish_status, replace(house, publisher=transcription.bare))
    public = exotel_routes(
        credentials, tickets, callbacks, publish, settings, house.metrics, refuse_new=transport.refuse_new
    )
    if settings.ws_path in {*public, *operators, *_TAKEN} or settings.ws_path.startswith("/api/"):
        raise SettingsError([f"ws_path: {settings.ws_path} is the path of something else"])
    if settings.exotel_ws_auth == "none":
        _log.warn("EXOTEL_WS_AUTH=none: whoever reaches the port may bring calls", event="calls_open")
    return CallPages(
        {**public, settings.ws_path: upgrade},
        {**operators, **session_routes(board.sessions.shown, house.metrics)},
    )


def _socket_rules(settings: Settings) -> SocketRules:
    """What a connection of Exotel lives by: its messages are larger, its audio no faster."""
    return SocketRules(
        max_message_bytes=EXOTEL_MESSAGE_MAX_BYTES,
        ping_interval_s=settings.ping_interval_s,
        ping_timeout_s=settings.ping_timeout_s,
        write_timeout_s=settings.write_timeout_s,
        realtime_factor=settings.ingest_max_realtime_factor,
    )


def _desk(settings: Settings, context: AgentContext, transcription: Transcription) -> Desk:
    from .calls.call import CallRules
    from .calls.switchboard import Desk
    from .stream.resampler import Resampler

    entry = catalog.agent_entry(settings.voicebot_agent)
    look = getattr(import_module(entry.partition(":")[0]), "problems", None)
    problems = look(settings) if look is not None else []
    make_agent = catalog.load(entry)
    wants_key = getattr(make_agent, "wants_transcripts", False) and transcription.transcribing is None
    if wants_key and not any(problem.startswith("deepgram_api_key:") for problem in problems):
        problems.append(f"deepgram_api_key: the agent {settings.voicebot_agent} wants its calls transcribed")
    if problems:
        raise SettingsError(problems)
    if rate := getattr(make_agent, "sample_rate", 0):
        # Said here, and not by the first call. Raises: ExtraMissing.
        Resampler(8000 if rate != 8000 else 16000, rate)
    rules = CallRules(
        chunk_bytes=settings.voicebot_chunk_bytes,
        lead_s=settings.voicebot_lead_ms / 1000,
        playback_max_s=settings.voicebot_playback_max_s,
        barge_in=settings.voicebot_barge_in,
        vad_threshold_db=settings.voicebot_vad_threshold_db,
        vad_start_ms=settings.voicebot_vad_start_ms,
    )
    return Desk(
        rules,
        settings.voicebot_agent,
        make_agent,
        context,
        transcription.bare,
        transcription.transcribing,
        transcription.is_for_all,
        settings.exotel_tenant_id,
        settings.max_frame_bytes,
    )


class _Nobody:
    """The sink of a lane that carries events only."""

    def confirmed(self, seq: int, size_bytes: int) -> None:
        """There are no frames."""

    def dropped(self, first_seq: int, last_seq: int, reason: str, size_bytes: int) -> None:
        """There are no frames."""


def publish_status(
    house: House, tenant_id: str, call_id: str, event: str, fields: dict[str, Any]
) -> None:
    """Put what became of a call on the events channel: among the events of its stream while that lives.

    Raises: ``Draining``: nothing new is taken then, and Exotel comes again.
    """
    try:
        live = house.registry.holder(tenant_id, call_id)
    except Forbidden:
        # Another tenant's call has this id: an event of ours goes its own way.
        live = None
    if live is not None:
        cast("Flow", live).lane.publish_event(event, fields)
        return
    facts = StreamFacts(tenant_id, call_id, AudioFormat(8000))
    lane = house.publisher.open_lane(facts, _Nobody())
    lane.publish_event(event, fields)
    lane.close()
