"""The shapes of devices and their tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from ...device_interfaces import Device, Tokens
from .shapes import MOMENT, Asked, Shown, Token, iso, moment


class Registration(Asked):
    """A device, and what it proves itself with where it is known."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"deviceIdentifier": "kiosk-7"}]},
    )
    device_identifier: str = Field(
        min_length=1,
        max_length=256,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="What the device calls itself, the same each time. It is kept as a digest only.",
    )
    device_token: Token | None = Field(
        None, description="For a device that has registered before: the `deviceToken` it got then."
    )
    registration_secret: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        None, description="Where the daemon has a `REGISTRATION_SECRET`: that."
    )


class Refreshing(Asked):
    """A refresh token that has not been used."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"refreshToken": "vr_q8Zb1mYc0w2Jx5Rk7Ns4Tf6Vh3Lp9Dg"}]},
    )
    refresh_token: Token = Field(description="The newest refresh token of this device.")


class Registered(Shown):
    """The tokens of a device. None of them is shown again."""

    user_id: str = Field(examples=["usr_0bT3mPq8wXz5Jd7Rk1Ns4A"])
    """The user that this device is."""
    device_token: str = Field(examples=["vd_m3Kq9wYb1Zc7Jx5Rk0Ns4Tf6Vh2Lp8Dg"])
    """Proves the device when it registers again. Keep it as you keep a password."""
    access_token: str = Field(examples=["eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2ln"])
    """For `Authorization: Bearer`."""
    refresh_token: str = Field(examples=["vr_q8Zb1mYc0w2Jx5Rk7Ns4Tf6Vh3Lp9Dg"])
    """Good once, for new tokens."""
    expires_in: int = Field(examples=[604800])
    """Seconds until the access token expires."""

    @classmethod
    def of(cls, tokens: Tokens) -> Registered:
        """What is answered."""
        return cls(
            user_id=tokens.user_id,
            device_token=tokens.device_token,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in=tokens.expires_in,
        )


class Refreshed(Shown):
    """New tokens. The refresh token that was sent is used up."""

    access_token: str = Field(examples=["eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2ln"])
    """For `Authorization: Bearer`."""
    refresh_token: str = Field(examples=["vr_Tf6Vh3Lp9Dgq8Zb1mYc0w2Jx5Rk7Ns4"])
    """Good once, for the next time."""
    expires_in: int = Field(examples=[604800])
    """Seconds until the access token expires."""


class DeviceShown(Shown):
    """A device. What it calls itself is not kept."""

    device_id: str = Field(examples=["dev_9sWk2LqTz0Yb4Mx7Rv1Nc6"])
    """Its id."""
    user_id: str = Field(examples=["usr_0bT3mPq8wXz5Jd7Rk1Ns4A"])
    """The user that it is."""
    created_at: str = Field(examples=[MOMENT])
    """When it registered first."""
    last_seen_at: str = Field(examples=[MOMENT])
    """When it registered last, or took new tokens."""
    revoked_at: str | None = Field(examples=[None])
    """When an operator revoked it for good."""

    @classmethod
    def of(cls, device: Device) -> DeviceShown:
        """What is answered."""
        return cls(
            device_id=device.device_id,
            user_id=device.user_id,
            created_at=iso(device.created_at),
            last_seen_at=iso(device.last_seen_at),
            revoked_at=moment(device.revoked_at),
        )


class DevicePage(Shown):
    """Some devices, by id."""

    devices: list[DeviceShown]
    """As many as were asked for, unless there are no more."""
    next_cursor: str | None = Field(examples=["dev_9sWk2LqTz0Yb4Mx7Rv1Nc6"])
    """`cursor` of the next page; null where this is the last."""
