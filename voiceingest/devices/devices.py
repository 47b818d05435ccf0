"""Devices and their tokens: registered, refreshed, recognised, revoked (``device_interfaces.IDevices``).

A device is one user. What it holds: a device token for good, an access token for a while, and a
refresh token that is good once. All that came of one registration is a family; a refresh token that
comes a second time is in two hands, so the family ends (RFC 9700 section 4.14.2).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ..auth.device_tokens import DeviceTokens
from ..auth.refusal import refusal
from ..config import Settings
from ..device_interfaces import Caller, Device, Family, IDeviceStore, RefreshToken, Tokens
from ..errors import (
    DeviceNotFound,
    DeviceRevoked,
    DeviceUnproven,
    RefreshReused,
    RegistrationRefused,
    TokenExpired,
    TokenRevoked,
    VoiceIngestError,
)
from ..limits import SESSION_PAGE_MAX_COUNT
from .access import REVOKED, Access
from .audit import audit
from .credentials import identifier_digest, new_id, new_secret, same_secret, secret_digest
from .revocation import IUserStreams, Revocation

if TYPE_CHECKING:
    from ..metrics import Metrics

# How ids of users begin; other subjects of streams are those of an issuer.
_USER: Final = "usr_"

# Users of one question to the store.
_USERS_MAX_COUNT: Final = 200


class Devices:
    """Beneath REST, gRPC and every transport (``IDevices``, ``auth.either.IDeviceAuthenticator``)."""

    def __init__(
        self,
        store: IDeviceStore,
        tokens: DeviceTokens,
        settings: Settings,
        wall_clock: Callable[[], float],
        monotonic: Callable[[], float],
        metrics: Metrics,
        streams: IUserStreams,
        announce: Callable[[Revocation], None] | None = None,
    ) -> None:
        """``announce`` tells other processes what was revoked here; they call ``revoked_elsewhere``."""
        self._store = store
        self._tokens = tokens
        self._now = wall_clock
        self._metrics = metrics
        self._streams = streams
        self._announce = announce
        self._is_open = settings.registration == "on"
        self._secret = settings.registration_secret
        self._refresh_token_s = settings.refresh_token_s
        self._access = Access(store, tokens, wall_clock, monotonic, metrics, streams)

    # --- registration

    async def register(self, identifier: str, device_token: str | None, secret: str | None) -> Tokens:
        """Register a device, or give a known one that proves itself new tokens.

        Raises: ``BadField``, ``RegistrationRefused``, ``DeviceUnproven``, ``DeviceRevoked``,
        ``StoreUnavailable``.
        """
        try:
            return await self._register(identifier, device_token, secret)
        except VoiceIngestError as error:
            self._metrics.devices_registered[error.code] += 1
            raise

    async def _register(self, identifier: str, device_token: str | None, secret: str | None) -> Tokens:
        digest = identifier_digest(identifier)
        may_register = self._is_open and self._has_secret(secret)
        if device_token is None and not may_register:
            # Before the store is asked: a stranger is not to learn which devices there are.
            audit("registration_refused")
            raise RegistrationRefused
        device = await self._store.device_by_identifier(digest)
        if device is not None:
            return await self._prove(device, device_token)
        if not may_register:
            audit("registration_refused")
            raise DeviceUnproven
        return await self._add(digest)

    def _has_secret(self, secret: str | None) -> bool:
        if self._secret is None:
            return True
        return secret is not None and same_secret(secret, self._secret.get_secret_value())

    async def _add(self, identifier: bytes) -> Tokens:
        """Register a device nobody knows. Raises: ``DeviceUnproven`` when another one was quicker."""
        now = self._now()
        device_token, token_digest = new_secret("vd_")
        device = Device(new_id("dev"), new_id("usr"), now, now, identifier, token_digest)
        family, refresh, refresh_token = self._new_family(device, now)
        if not await self._store.add_device(device, family, refresh):
            # It has a device token by now, and this one brought none that could be it.
            audit("registration_refused")
            raise DeviceUnproven
        self._metrics.devices_registered["new"] += 1
        audit("device_registered", device.device_id, family.family_id)
        return self._given(family, device_token, refresh_token, now)

    async def _prove(self, device: Device, device_token: str | None) -> Tokens:
        """Give a known device new tokens, if it is that one."""
        digest = None if device_token is None else secret_digest(device_token, "vd_")
        if device_token is None or digest is None or not hmac.compare_digest(digest, device.token_digest):
            audit("registration_refused", device.device_id)
            raise DeviceUnproven
        if device.revoked_at is not None:
            audit("registration_refused", device.device_id)
            raise DeviceRevoked
        now = self._now()
        family, refresh, refresh_token = self._new_family(device, now)
        await self._store.add_family(family, refresh, now)
        self._metrics.devices_registered["known"] += 1
        audit("device_proved", device.device_id, family.family_id)
        return self._given(family, device_token, refresh_token, now)

    def _new_family(self, device: Device, now: float) -> tuple[Family, RefreshToken, str]:
        family = Family(new_id("fam"), device.device_id, device.user_id, now)
        return family, *self._new_refresh(family, now)

    def _new_refresh(self, family: Family, now: float) -> tuple[RefreshToken, str]:
        text, digest = new_secret("vr_")
        lapses_at = now + self._refresh_token_s
        return RefreshToken(family.family_id, family.device_id, now, lapses_at, digest), text

    def _given(self, family: Family, device_token: str, refresh_token: str, now: float) -> Tokens:
        access = self._tokens.mint(family.user_id, family.device_id, family.family_id, now)
        return Tokens(family.user_id, device_token, access, refresh_token, self._tokens.life_s)

    # --- refresh

    async def refresh(self, refresh_token: str) -> Tokens:
        """A new access token and a new refresh token for an unused one.

        Raises: ``Unauthenticated``, ``TokenExpired``, ``RefreshReused``, ``TokenRevoked``,
        ``StoreUnavailable``.
        """
        try:
            tokens = await self._refresh(refresh_token)
        except VoiceIngestError as error:
            self._metrics.token_refreshes[error.code] += 1
            raise
        self._metrics.token_refreshes["ok"] += 1
        return tokens

    async def _refresh(self, refresh_token: str) -> Tokens:
        digest = secret_digest(refresh_token, "vr_")
        found = None if digest is None else await self._store.refresh_token(digest)
        if digest is None or found is None:
            raise refusal("refresh_token")
        token, family, device = found
        if family.revoked_at is not None or device.revoked_at is not None:
            raise TokenRevoked(reason=REVOKED)
        now = self._now()
        # Used goes before expired: it is in two hands however late it comes.
        if token.used_at is None and now >= token.expires_at:
            raise TokenExpired(reason="expired")
        refresh, text = self._new_refresh(family, now)
        if token.used_at is not None or not await self._store.rotate(digest, refresh, now):
            await self._end_family(family, now)
            raise RefreshReused(reason="reused")
        audit("tokens_refreshed", device.device_id, family.family_id)
        return self._given(family, "", text, now)

    async def _end_family(self, family: Family, now: float) -> None:
        await self._store.revoke_family(family.family_id, "reused", now)
        self._metrics.tokens_revoked["reused"] += 1
        audit("refresh_reused", family.device_id, family.family_id)
        self._revoked(Revocation(family.user_id, family.device_id, family.family_id))

    # --- access tokens

    def recognise(self, access_token: str) -> Caller | None:
        """Who brings this token, where that is known already; ``None``: ask ``authenticate``.

        Raises: ``Unauthenticated``, ``TokenExpired``, ``TokenRevoked``.
        """
        return self._access.recognise(access_token)

    async def authenticate(self, access_token: str) -> Caller:
        """Who brings this token.

        Raises: ``Unauthenticated``, ``TokenExpired``, ``TokenRevoked``, ``StoreUnavailable``.
        """
        return await self._access.authenticate(access_token)

    # --- revocation

    async def revoke(self, caller: Caller) -> None:
        """Revoke every token of the caller's device and end its streams: it logs out.

        Its device token stays good. Raises: ``StoreUnavailable``.
        """
        await self._store.revoke_device(caller.device_id, "logout", self._now(), for_good=False)
        self._metrics.tokens_revoked["logout"] += 1
        audit("tokens_revoked", caller.device_id, caller.family_id)
        self._revoked(Revocation(caller.user_id, caller.device_id))

    async def revoke_device(self, device_id: str) -> None:
        """The same by an operator, for good. Raises: ``DeviceNotFound``, ``StoreUnavailable``."""
        device = await self._store.device(device_id)
        if device is None:
            raise DeviceNotFound
        await self._store.revoke_device(device_id, "operator", self._now(), for_good=True)
        self._metrics.tokens_revoked["operator"] += 1
        audit("device_revoked", device_id)
        self._revoked(Revocation(device.user_id, device_id))

    def revoked_elsewhere(self, revocation: Revocation) -> None:
        """Another process has revoked these tokens: believe them no longer, end their streams."""
        if revocation.family_id is None:
            self.forget_device(revocation.device_id)
        else:
            self.forget(revocation.family_id)
        self._streams.end_streams(revocation.user_id, TokenRevoked(reason=REVOKED))

    async def end_revoked(self) -> None:
        """End the streams here of tokens that another process has revoked. To be called now and then.

        Those that tell one another are quicker; this is for messages that were lost.
        Raises: ``StoreUnavailable``.
        """
        users = [user_id for user_id in self._streams.users if user_id.startswith(_USER)]
        for first in range(0, len(users), _USERS_MAX_COUNT):
            found = await self._store.revocations(users[first : first + _USERS_MAX_COUNT])
            for user_id, revoked_at in found.items():
                # Who has been let in anew since keeps the streams that began since.
                age_s = self._now() - revoked_at
                self._streams.end_older(user_id, age_s, TokenRevoked(reason=REVOKED))

    def forget(self, family_id: str) -> None:
        """Ask the store about this family the next time."""
        self._access.families.forget(family_id)

    def forget_device(self, device_id: str) -> None:
        """Ask the store about every family of this device the next time."""
        self._access.families.forget_device(device_id)

    def _revoked(self, revocation: Revocation) -> None:
        self.revoked_elsewhere(revocation)
        if self._announce is not None:
            self._announce(revocation)

    # --- operators, and time

    async def devices(self, limit: int, after_id: str | None) -> Sequence[Device]:
        """A page of all devices, by id. Raises: ``StoreUnavailable``."""
        return await self._store.devices(min(limit, SESSION_PAGE_MAX_COUNT), after_id)

    async def forget_tokens(self) -> int:
        """Delete what nobody can use any more; how many. To be called now and then.

        Raises: ``StoreUnavailable``.
        """
        return await self._store.forget_tokens(self._now())
