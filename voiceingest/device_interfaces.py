"""The seams of devices and their tokens: what a part may be asked, never how it does it.

What is a coroutine here is asyncio's, and is reached from Twisted by ``aio`` only.
Times are seconds since the epoch, as everybody's clock has them, since they are kept and shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Device:
    """One device, which is one user. What it proves itself with is kept as a SHA-256 digest only.

    ``identifier_digest`` is that of what the device calls itself, which may be personal.
    """

    device_id: str
    user_id: str
    created_at: float
    last_seen_at: float
    identifier_digest: bytes = field(repr=False)
    token_digest: bytes = field(repr=False)
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One refresh token that was given out; ``family_id`` is that of all that came of one registration."""

    family_id: str
    device_id: str
    issued_at: float
    expires_at: float
    digest: bytes = field(repr=False)
    used_at: float | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """The tokens that came of one registration: they are revoked together."""

    family_id: str
    device_id: str
    user_id: str
    created_at: float
    revoked_at: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a device is given; ``expires_in`` is that of the access token, in seconds."""

    user_id: str
    device_token: str = field(repr=False)
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, once that is known from an access token."""

    user_id: str
    device_id: str
    family_id: str
    expires_at: float


class IDeviceStore(Protocol):
    """Where devices and refresh tokens are kept. Raises everywhere: ``StoreUnavailable``."""

    async def device_by_identifier(self, identifier_digest: bytes) -> Device | None:
        """The device that calls itself so."""

    async def device(self, device_id: str) -> Device | None:
        """One device."""

    async def devices(self, limit: int, after_id: str | None) -> Sequence[Device]:
        """A page of all, by id."""

    async def add_device(self, device: Device, family: Family, token: RefreshToken) -> bool:
        """Keep a new device with its first family and token, all or nothing.

        ``False`` when another one with this identifier came first.
        """

    async def add_family(self, family: Family, token: RefreshToken, seen_at: float) -> None:
        """Keep a new family of a known device."""

    async def refresh_token(self, digest: bytes) -> tuple[RefreshToken, Family, Device] | None:
        """A refresh token, with its family and its device."""

    async def rotate(self, digest: bytes, new: RefreshToken, now: float) -> bool:
        """Mark a token used and keep its successor, all or nothing.

        ``False`` when it had been used, whoever else was quicker: of two at once one gets ``True``.
        """

    async def family(self, family_id: str) -> tuple[Family, Device] | None:
        """A family and its device: whether its access tokens still hold."""

    async def revoke_family(self, family_id: str, reason: str, now: float) -> None:
        """Revoke one family."""

    async def revoke_device(self, device_id: str, reason: str, now: float, *, for_good: bool) -> int:
        """Revoke every family of a device, and itself where ``for_good``; how many families there were."""

    async def revocations(self, user_ids: Sequence[str]) -> Mapping[str, float]:
        """When tokens of these users were last revoked: infinity where none of theirs holds any more.

        Those of whom none was revoked are left out.
        """

    async def forget_tokens(self, now: float) -> int:
        """Delete refresh tokens and families that have been of no use for a while; how many.

        A used token stays until it would have expired: it is known by that when it comes again. A
        family stays as long as an access token of it may live.
        """


class IDevices(Protocol):
    """Devices and their tokens, beneath REST, gRPC and every transport."""

    async def register(self, identifier: str, device_token: str | None, secret: str | None) -> Tokens:
        """Register a device, or give a known one that proves itself new tokens.

        Raises: ``BadField``, ``RegistrationRefused``, ``DeviceUnproven``, ``DeviceRevoked``,
        ``StoreUnavailable``.
        """

    async def refresh(self, refresh_token: str) -> Tokens:
        """A new access token and a new refresh token for an unused one.

        ``Tokens.device_token`` is empty. Raises: ``Unauthenticated``, ``TokenExpired``,
        ``RefreshReused``, ``TokenRevoked``, ``StoreUnavailable``.
        """

    async def authenticate(self, access_token: str) -> Caller:
        """Who brings this token.

        Raises: ``Unauthenticated``, ``TokenExpired``, ``TokenRevoked``, ``StoreUnavailable``.
        """

    async def revoke(self, caller: Caller) -> None:
        """Revoke every token of the caller's device and end its streams. Raises: ``StoreUnavailable``."""

    async def revoke_device(self, device_id: str) -> None:
        """The same by an operator, for good. Raises: ``DeviceNotFound``, ``StoreUnavailable``."""

    async def devices(self, limit: int, after_id: str | None) -> Sequence[Device]:
        """A page of all devices, for operators. Raises: ``StoreUnavailable``."""
