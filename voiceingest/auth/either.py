"""Tokens of an issuer and tokens of devices at the same doors.

What an unverified token says of itself decides which verifier is asked. Only that one is: a token
that one of them refuses is never tried with the other's keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, fail, succeed

from ..aio import as_deferred
from ..device_interfaces import Caller
from ..errors import VoiceIngestError
from ..interfaces import Claims, IAuthenticator
from .pinned import NO_KEY


class IDeviceAuthenticator(Protocol):
    """Who brings a device's token; of ``devices.Devices``."""

    def recognise(self, access_token: str) -> Caller | None:
        """Who brings it, where that is known without asking anybody; ``None``: ask ``authenticate``.

        Raises: as ``authenticate``.
        """

    async def authenticate(self, access_token: str) -> Caller:
        """Who brings it.

        Raises: ``Unauthenticated``, ``TokenExpired``, ``TokenRevoked``, ``StoreUnavailable``.
        """


class EitherAuthenticator:
    """Asks whoever issued a token (:class:`voiceingest.interfaces.IAuthenticator`).

    A device's user is a tenant of its own: it can open no stream of anybody else's. Of a device's
    token that was good the refusal says so (``TokenExpired``, ``TokenRevoked``); its store may be away
    (``StoreUnavailable``).
    """

    def __init__(
        self, issuer: IAuthenticator, is_device: Callable[[str], bool], devices: IDeviceAuthenticator
    ) -> None:
        """``is_device`` says whether a token claims to be of a device (``DeviceTokens.is_ours``)."""
        self._issuer = issuer
        self._is_device = is_device
        self._devices = devices

    @property
    def ready(self) -> str | None:
        """The issuer's; without one there are still the keys of devices."""
        ready = self._issuer.ready
        return None if ready == NO_KEY else ready

    def reload(self) -> None:
        """Read the issuer's key again; ``DeviceTokens.reload`` reads those of devices. Raises: ``BadKey``."""
        self._issuer.reload()

    def verify(self, token: str) -> Deferred[Claims]:
        """Check one token."""
        # Where there is no issuer its verifier knows no key and could not say "refused".
        if self._issuer.ready != NO_KEY and not self._is_device(token):
            return self._issuer.verify(token)
        try:
            caller = self._devices.recognise(token)
        except VoiceIngestError as error:
            return fail(error)
        if caller is not None:
            return succeed(_claims(caller))
        return as_deferred(self._devices.authenticate(token)).addCallback(_claims)


def _claims(caller: Caller) -> Claims:
    return Claims(caller.user_id, caller.user_id, None, caller.expires_at)
