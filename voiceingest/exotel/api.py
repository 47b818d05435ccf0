"""Placing calls through Exotel's API (protocol reference section 2).

The API knows no idempotency key: a request that was not answered may have placed the call all the
same. So nothing is asked twice here, and whoever asks again does it knowingly.
"""

from __future__ import annotations

import math
from base64 import b64encode
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import SecretStr
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from .. import __version__
from ..auth.tickets import Tickets
from ..call_interfaces import IHttpClient
from ..config import Settings
from ..errors import BadField, NotFound, UpstreamBusy, UpstreamFailed, UpstreamRefused, VoiceIngestError
from ..interfaces import Claims
from ..limits import BODY_MAX_BYTES
from ..metrics import Metrics
from ..wire.exotel_api import (
    STREAM_URL_MAX_CHARS,
    CallRequest,
    PlacedCall,
    flow_url,
    form,
    normalise_number,
    read_answer,
)
from .callbacks import Callbacks
from .urls import configured_base, socket_url

# What a failure is counted as; anything else is "failed".
_RESULTS: Final[dict[type[BaseException], str]] = {
    BadField: "bad",
    UpstreamRefused: "refused",
    UpstreamBusy: "busy",
    CancelledError: "cancelled",
}

# A ticket in base64url takes 43.
_TICKET_CHARS: Final = 64


def problems(settings: Settings) -> list[str]:
    """The settings that are missing, or of no use, for outbound calls."""
    needed = ("exotel_account_sid", "exotel_api_key", "exotel_api_token", "exotel_caller_id")
    missing = [name for name in needed if not _text(getattr(settings, name))]
    base = configured_base(settings)
    longest = socket_url(base or "", settings.ws_path, None, 24000, "t" * _TICKET_CHARS)
    if base is None or len(longest) > STREAM_URL_MAX_CHARS:
        missing.append("webhook_base_url")
    if not settings.takes_calls:
        # Exotel would be sent to paths that are not there: the socket's, and that of its callbacks.
        missing.append("voicebot")
    return missing


class ExotelApi:
    """Places calls. ``tickets`` are those of calls, ``callbacks`` sign where their status is told."""

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        http: IHttpClient,
        tickets: Tickets,
        callbacks: Callbacks,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._http = http
        self._tickets = tickets
        self._callbacks = callbacks
        self._metrics = metrics
        self._problems = problems(settings)

    def place(
        self, to: str, *, tenant_id: str | None = None, custom: str | None = None
    ) -> Deferred[PlacedCall]:
        """Ask Exotel, once, to call ``to`` and connect whoever answers to this daemon.

        It fires when the call has been taken, not when it is answered. Raises: ``BadField``,
        ``NotFound`` (the settings do not allow it), ``UpstreamRefused``, ``UpstreamBusy``;
        ``UpstreamFailed``: whether the call was placed is not known.
        """
        return Deferred.fromCoroutine(self._place(to, tenant_id, custom or ""))

    async def _place(self, to: str, tenant_id: str | None, custom: str) -> PlacedCall:
        ticket: str | None = None
        try:
            call, ticket = self._request(to, tenant_id or self._settings.exotel_tenant_id, custom)
            placed = await self._ask(call)
        except (VoiceIngestError, CancelledError) as error:
            self._failed(error, ticket)
            raise
        self._metrics.outbound_calls["placed"] += 1
        self._log.info("a call was placed", event="call_placed", status=placed.status)
        return placed

    def _failed(self, error: VoiceIngestError | CancelledError, ticket: str | None) -> None:
        result = _RESULTS.get(type(error), "failed")
        self._metrics.outbound_calls[result] += 1
        # After a timeout the call may come all the same: its ticket is left to expire.
        if ticket is not None and not isinstance(error, UpstreamFailed | CancelledError):
            self._tickets.spend(ticket)
        if isinstance(error, UpstreamRefused | UpstreamBusy | UpstreamFailed):
            # These texts are our own; of what Exotel wrote they hold numbers at most.
            self._log.warn(
                "a call was not placed", event="call_not_placed", result=result, reason=error.message
            )

    def _request(self, to: str, tenant_id: str, custom: str) -> tuple[CallRequest, str | None]:
        """What to ask for, and the ticket in it. Raises: ``BadField``, ``NotFound``."""
        if self._problems:
            raise NotFound(f"these settings are missing: {', '.join(self._problems)}")
        settings, base = self._settings, configured_base(self._settings) or ""
        number = normalise_number(to, settings.exotel_number_format)
        caller_id = _text(settings.exotel_caller_id)
        callback = self._callbacks.url(base, tenant_id)
        if settings.exotel_app_id is not None:
            flow = flow_url(settings.exotel_account_sid or "", settings.exotel_app_id)
            flowing = CallRequest(number, caller_id, "", flow, callback, custom)
            return flowing, None
        ticket = self._tickets.mint(Claims("exotel", tenant_id, None, math.inf))
        url = socket_url(base, settings.ws_path, None, settings.voicebot_sample_rate, ticket)
        return CallRequest(number, caller_id, url, "", callback, custom), ticket

    async def _ask(self, call: CallRequest) -> PlacedCall:
        settings = self._settings
        pair = f"{_text(settings.exotel_api_key)}:{_text(settings.exotel_api_token)}"
        headers = {
            "Authorization": "Basic " + b64encode(pair.encode()).decode(),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "User-Agent": f"voiceingest/{__version__}",
        }
        account = quote(settings.exotel_account_sid or "", safe="")
        url = f"{settings.exotel_api_url.rstrip('/')}/v1/Accounts/{account}/Calls/connect.json"
        body = urlencode(form(call)).encode()
        answer = await self._http.request(
            "POST", url, headers=headers, body=body, timeout_s=settings.exotel_api_timeout_s
        )
        return read_answer(answer.status, answer.headers, await answer.read(BODY_MAX_BYTES))


def _text(value: SecretStr | str | None) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value or ""
