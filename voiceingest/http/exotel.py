"""What Exotel asks over plain HTTP, and ``POST /call``, by which an operator has it call somebody.

Protocol reference sections 1.8 and 2. Numbers, call ids, tokens and queries are in no log and in no
error; what is counted is the outcome.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, cast

from pydantic import SecretStr
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import Request

from ..auth.calls import CallCredentials
from ..auth.refusal import refusal
from ..auth.tickets import Tickets
from ..config import Settings
from ..errors import BadField, BadJson, Draining, PeerError, Unauthenticated
from ..exotel.callbacks import STATUS_PATH, Callbacks
from ..exotel.urls import configured_base, is_loopback_address, requested_base, socket_url
from ..interfaces import Claims
from ..limits import IDENTIFIER_MAX_CHARS
from ..metrics import Metrics
from ..wire.exotel_api import PlacedCall, checked_call_id
from ..wire.exotel_callback import read_callback
from ..wire.exotel_fields import Fields, fold, one, read_fields
from ..wire.fields import is_identifier
from .admin import guarded, refuse_foreign_page
from .answers import Answer, request_id
from .channel import GuardedChannel
from .resource import ApiResource

CONNECT_PATH: Final = "/api/v1/exotel/voice/connect"
CALL_PATH: Final = "/call"

# The event on the bus, beside those of the call's own stream.
STATUS_EVENT: Final = "call_status"

# publish(tenant_id, call_id, event, fields)
Publish = Callable[[str, str, str, dict[str, Any]], object]

_CALL_FIELDS: Final = frozenset({"to", "tenant_id", "custom"})


class ICallPlacer(Protocol):
    """Who places calls: ``exotel.api.ExotelApi``."""

    def place(
        self, to: str, *, tenant_id: str | None = None, custom: str | None = None
    ) -> Deferred[PlacedCall]:
        """Have somebody called, once."""


class ConnectResource(ApiResource):
    """The URL of an applet: says, for one call, which WebSocket to bring it to.

    GET is what Exotel sends; POST is taken too, as a form or JSON. The answer is
    ``{"url": "wss://…"}`` with a ticket, so the socket's own credentials need not be in any URL. Whoever
    configures the applet may put a ``tenant`` into its URL: the call then belongs to that one. (Not
    ``tenant_id``: Exotel uses that word for something of its own, protocol reference section 1.8.)
    """

    def __init__(
        self,
        credentials: CallCredentials,
        tickets: Tickets,
        refuse_new: Callable[[], bool],
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        super().__init__(metrics, {"GET": self._connect, "POST": self._connect})
        self._refuse_new = refuse_new
        self._credentials = credentials
        self._tickets = tickets
        self._settings = settings

    def _connect(self, request: Request) -> Answer:
        counted = self._metrics.webhooks
        try:
            self._authorize(request)
            if self._refuse_new():
                # A URL of a daemon that will not take the call would be the end of it.
                raise Draining
            said = [*_query(request), *_body(request)]
            call_id, tenant_id = (one(said, name) or None for name in ("CallSid", "tenant"))
            if call_id is not None:
                checked_call_id(call_id)
            if tenant_id is not None and not is_identifier(tenant_id):
                raise BadField("tenant holds a character that is not allowed, or is too long")
            base = configured_base(self._settings) or _requested_base(request)
        except PeerError as error:
            counted[_refused(self._log, "webhook_refused", error, request)] += 1
            raise
        settings = self._settings
        claims = Claims("exotel", tenant_id, call_id, math.inf, any_tenant=tenant_id is None)
        ticket = self._tickets.mint(claims)
        url = socket_url(base, settings.ws_path, call_id, settings.voicebot_sample_rate, ticket)
        counted["answered"] += 1
        return Answer(200, {"url": url})

    def _authorize(self, request: Request) -> None:
        headers = request.requestHeaders
        channel = cast(GuardedChannel, request.channel)
        forwarded_for = _lines(headers.getRawHeaders(b"X-Forwarded-For", []))
        # The connection of a proxy carries many callers: it is not counted over to this one.
        address = channel.gate.client_address(channel.address, forwarded_for)
        authorization = _lines(headers.getRawHeaders(b"Authorization", []))
        self._credentials.check_webhook(address, authorization, _lines(request.args.get(b"token", [])))


class StatusResource(ApiResource):
    """Where Exotel tells what became of a call that was placed; each thing is published once."""

    def __init__(self, callbacks: Callbacks, publish: Publish, metrics: Metrics) -> None:
        super().__init__(metrics, {"POST": self._told})
        self._callbacks = callbacks
        self._publish = publish

    def _told(self, request: Request) -> Answer:
        counted = self._metrics.status_callbacks
        try:
            runs, signatures = (_lines(request.args.get(name, [])) for name in (b"run", b"sig"))
            if len(runs) != 1 or len(signatures) != 1:
                raise refusal("signature")
            tenant_id = self._callbacks.tenant_of(runs[0], signatures[0])
            callback = read_callback(_content_type(request), _content(request))
        except PeerError as error:
            counted[_refused(self._log, "status_callback_refused", error, request)] += 1
            raise
        told = (runs[0], callback.call_id, callback.event)
        if self._callbacks.was_told(*told):
            counted["repeated"] += 1
            return Answer(200, {"status": "ok"})
        fields: dict[str, Any] = {"call_event": callback.event, "status": callback.status}
        if callback.duration_s is not None:
            fields["duration_s"] = callback.duration_s
        if callback.answered_by:
            fields["answered_by"] = callback.answered_by
        # Remembered after it was handed on: a failure of ours is answered 500, and Exotel comes again.
        self._publish(tenant_id, callback.call_id, STATUS_EVENT, fields)
        self._callbacks.remember(*told)
        counted["new"] += 1
        return Answer(200, {"status": "ok"})


class CallResource(ApiResource):
    """``POST /call {"to": "+91…", "tenant_id"?, "custom"?}``: 202 when Exotel has taken the call."""

    def __init__(self, api: ICallPlacer, metrics: Metrics) -> None:
        super().__init__(metrics, {"POST": self._call_somebody})
        self._api = api

    def _call_somebody(self, request: Request) -> Deferred[Answer]:
        refuse_foreign_page(request)
        try:
            to, tenant_id, custom = _wanted(_content(request))
        except PeerError:
            self._metrics.outbound_calls["bad"] += 1
            raise
        placing = self._api.place(to, tenant_id=tenant_id, custom=custom)
        return placing.addCallback(
            lambda placed: Answer(202, {"call_id": placed.call_id, "status": placed.status})
        )


def exotel_routes(
    credentials: CallCredentials,
    tickets: Tickets,
    callbacks: Callbacks,
    publish: Publish,
    settings: Settings,
    metrics: Metrics,
    *,
    refuse_new: Callable[[], bool],
) -> dict[str, IResource]:
    """What Exotel asks for on the public site; ``tickets`` are those of calls."""
    return {
        CONNECT_PATH: ConnectResource(credentials, tickets, refuse_new, settings, metrics),
        STATUS_PATH: StatusResource(callbacks, publish, metrics),
    }


def call_routes(
    api: ICallPlacer, metrics: Metrics, admin_token: SecretStr | None = None
) -> dict[str, IResource]:
    """``/call``: as it is for the admin site, with a token for the public one."""
    routes: dict[str, IResource] = {CALL_PATH: CallResource(api, metrics)}
    return routes if admin_token is None else guarded(routes, admin_token, metrics)


def _refused(log: Logger, event: str, error: PeerError, request: Request) -> str:
    """Say in the log why Exotel was refused; returns what that is counted as."""
    is_stranger = isinstance(error, Unauthenticated)
    reason = error.reason if isinstance(error, Unauthenticated) else error.code
    log.info("Exotel was refused", event=event, reason=reason, request_id=request_id(request))
    return "refused" if is_stranger else "bad"


def _wanted(body: bytes) -> tuple[str, str | None, str | None]:
    """Who is to be called, for whom, with what. Raises: ``BadJson``, ``BadField``."""
    try:
        given = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise BadJson("the body is not a JSON object") from None
    if not isinstance(given, dict):
        raise BadJson("the body is not a JSON object")
    if not given.keys() <= _CALL_FIELDS:
        # A word that is misspelt must not put a call on somebody else's account.
        raise BadField("only to, tenant_id and custom may be given")
    to, tenant_id, custom = (_text(given, name) for name in ("to", "tenant_id", "custom"))
    if to is None:
        raise BadField("to is missing")
    if tenant_id is not None and not is_identifier(tenant_id):
        raise BadField("tenant_id holds a character that is not allowed")
    return to, tenant_id, custom


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not (isinstance(value, str) and 1 <= len(value) <= IDENTIFIER_MAX_CHARS):
        raise BadField(f"{name} is text of 1 to {IDENTIFIER_MAX_CHARS} characters")
    return value


def _requested_base(request: Request) -> str:
    channel = cast(GuardedChannel, request.channel)
    return requested_base(
        _lines(request.requestHeaders.getRawHeaders(b"Host", [])),
        is_plain=not request.isSecure(),
        from_loopback=is_loopback_address(channel.address),
    )


def _query(request: Request) -> Fields:
    return [
        (fold(name.decode("utf-8", "replace")), value.decode("utf-8", "replace"))
        for name, values in request.args.items()
        for value in values
    ]


def _body(request: Request) -> Fields:
    return read_fields(_content_type(request), _content(request)) if request.method == b"POST" else []


def _content_type(request: Request) -> str:
    lines = _lines(request.requestHeaders.getRawHeaders(b"Content-Type", []))
    return lines[0] if len(lines) == 1 else ""


def _content(request: Request) -> bytes:
    # BODY_MAX_BYTES at most: the channel and ApiResource have seen to that.
    return request.content.read() if request.content is not None else b""


def _lines(values: Any) -> list[str]:
    return [value.decode("latin-1") for value in values]
