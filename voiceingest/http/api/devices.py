"""Routes of devices and their tokens."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from ...errors import (
    DeviceRevoked,
    DeviceUnproven,
    RefreshReused,
    RegistrationRefused,
    TokenExpired,
    TokenRevoked,
    Unauthenticated,
)
from .device_models import Refreshed, Refreshing, Registered, Registration
from .document import refused
from .routes import CallerRoute, OpenRoute, Parts, WhoAsks
from .shapes import Done

open_devices: Final = APIRouter(route_class=OpenRoute, tags=["Devices"])
own_devices: Final = APIRouter(route_class=CallerRoute, tags=["Devices"])


@open_devices.post(
    "/api/auth/register",
    status_code=201,
    operation_id="registerDevice",
    summary="Register a device",
    responses=refused(DeviceUnproven, RegistrationRefused, DeviceRevoked),
)
async def register(parts: Parts, body: Registration) -> Registered:
    """A device that is not known becomes a user with tokens of its own.

    One that is known has to bring its `deviceToken`, and gets new tokens; the old ones stay good.
    """
    tokens = await parts.devices.register(body.device_identifier, body.device_token, body.registration_secret)
    return Registered.of(tokens)


@open_devices.post(
    "/api/auth/refresh",
    operation_id="refreshTokens",
    summary="Take new tokens",
    responses=refused(Unauthenticated, TokenExpired, RefreshReused, TokenRevoked),
)
async def refresh(parts: Parts, body: Refreshing) -> Refreshed:
    """Gives a new access token and a new refresh token for a refresh token that was not used yet.

    One that was used before is taken for stolen: every token that came of the same registration is
    revoked, and the device registers again.
    """
    tokens = await parts.devices.refresh(body.refresh_token)
    return Refreshed(
        access_token=tokens.access_token, refresh_token=tokens.refresh_token, expires_in=tokens.expires_in
    )


@own_devices.post("/api/auth/revoke", operation_id="revokeTokens", summary="Log a device out")
async def revoke(parts: Parts, caller: WhoAsks) -> Done:
    """Every access and refresh token of this device is revoked, and its live streams end.

    Its `deviceToken` stays good: with it the device can register again.
    """
    await parts.devices.revoke(caller)
    return Done(success=True, message="every token of this device is revoked")
