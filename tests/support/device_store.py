"""Devices and refresh tokens in memory, exactly as the seam says: for tests of whoever stands on it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from voiceingest.device_interfaces import Device, Family, RefreshToken
from voiceingest.errors import StoreUnavailable

# How long what can no longer be used is remembered.
FORGET_AFTER_S: Final = 86400.0


class MemoryDeviceStore:
    """An ``IDeviceStore``. Every call waits a turn of the loop first, then does all of its work at once.

    ``calls`` are the names of what was asked. ``is_away``: nothing is answered but
    ``StoreUnavailable``. ``gates`` holds calls back: by name, an event to wait for once the work is
    done and before it is answered. ``access_outlives_s`` is how much longer an access token may live
    than the refresh token it was given out with.
    """

    def __init__(self, access_outlives_s: float = 0.0) -> None:
        self.access_outlives_s = access_outlives_s
        self.by_id: dict[str, Device] = {}
        self.families: dict[str, Family] = {}
        self.tokens: dict[bytes, RefreshToken] = {}
        self.calls: list[str] = []
        self.is_away = False
        self.gates: dict[str, asyncio.Event] = {}

    async def device_by_identifier(self, identifier_digest: bytes) -> Device | None:
        """The device that calls itself so."""
        await self._begin("device_by_identifier")
        found = self._by_identifier(identifier_digest)
        await self._answer("device_by_identifier")
        return found

    async def device(self, device_id: str) -> Device | None:
        """One device."""
        await self._begin("device")
        return self.by_id.get(device_id)

    async def devices(self, limit: int, after_id: str | None) -> Sequence[Device]:
        """A page of all, by id."""
        await self._begin("devices")
        return [self.by_id[key] for key in sorted(self.by_id) if after_id is None or key > after_id][:limit]

    async def add_device(self, device: Device, family: Family, token: RefreshToken) -> bool:
        """Keep all three or nothing; ``False`` when the identifier is taken."""
        await self._begin("add_device")
        is_first = self._by_identifier(device.identifier_digest) is None
        if is_first:
            self.by_id[device.device_id] = device
            self._add(family, token)
        await self._answer("add_device")
        return is_first

    async def add_family(self, family: Family, token: RefreshToken, seen_at: float) -> None:
        """Keep a new family of a known device."""
        await self._begin("add_family")
        self.by_id[family.device_id] = replace(self.by_id[family.device_id], last_seen_at=seen_at)
        self._add(family, token)

    async def refresh_token(self, digest: bytes) -> tuple[RefreshToken, Family, Device] | None:
        """A refresh token, with its family and its device."""
        await self._begin("refresh_token")
        token = self.tokens.get(digest)
        found = (
            None if token is None else (token, self.families[token.family_id], self.by_id[token.device_id])
        )
        await self._answer("refresh_token")
        return found

    async def rotate(self, digest: bytes, new: RefreshToken, now: float) -> bool:
        """Use one up and keep its successor; ``False`` when it had been used, or is not there."""
        await self._begin("rotate")
        token = self.tokens.get(digest)
        is_first = token is not None and token.used_at is None
        if token is not None and is_first:
            if new.digest in self.tokens:
                raise StoreUnavailable
            self.tokens[digest] = replace(token, used_at=now)
            self.tokens[new.digest] = new
            self.by_id[new.device_id] = replace(self.by_id[new.device_id], last_seen_at=now)
        await self._answer("rotate")
        return is_first

    async def family(self, family_id: str) -> tuple[Family, Device] | None:
        """A family and its device."""
        await self._begin("family")
        family = self.families.get(family_id)
        found = None if family is None else (family, self.by_id[family.device_id])
        await self._answer("family")
        return found

    async def revoke_family(self, family_id: str, reason: str, now: float) -> None:
        """Revoke one family; one that was revoked stays as it is."""
        await self._begin("revoke_family")
        self._revoke(family_id, reason, now)

    async def revoke_device(self, device_id: str, reason: str, now: float, *, for_good: bool) -> int:
        """Revoke every family of a device that still held, and itself where ``for_good``."""
        await self._begin("revoke_device")
        device = self.by_id.get(device_id)
        if device is not None and for_good and device.revoked_at is None:
            self.by_id[device_id] = replace(device, revoked_at=now)
        held = [key for key, family in self.families.items() if family.device_id == device_id]
        return sum(self._revoke(family_id, reason, now) for family_id in held)

    async def revocations(self, user_ids: Sequence[str]) -> Mapping[str, float]:
        """When tokens of these users were last revoked: infinity where none of theirs holds any more."""
        await self._begin("revocations")
        found: dict[str, float] = {}
        for device in self.by_id.values():
            times = [one.revoked_at for one in self.families.values() if one.device_id == device.device_id]
            revoked = [at for at in times if at is not None]
            if device.user_id in user_ids and revoked:
                found[device.user_id] = max(revoked) if None in times else math.inf
        return found

    async def forget_tokens(self, now: float) -> int:
        """Delete refresh tokens that expired long ago, and families that have none left."""
        await self._begin("forget_tokens")
        before = now - FORGET_AFTER_S - self.access_outlives_s
        old = [digest for digest, token in self.tokens.items() if token.expires_at < before]
        for digest in old:
            del self.tokens[digest]
        alive = {token.family_id for token in self.tokens.values()}
        lost = [
            family_id
            for family_id, family in self.families.items()
            if family.created_at < before and family_id not in alive
        ]
        for family_id in lost:
            del self.families[family_id]
        return len(old) + len(lost)

    # --- for tests

    async def _begin(self, name: str) -> None:
        self.calls.append(name)
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailable

    async def _answer(self, name: str) -> None:
        if name in self.gates:
            await self.gates[name].wait()

    def _by_identifier(self, digest: bytes) -> Device | None:
        return next((of for of in self.by_id.values() if of.identifier_digest == digest), None)

    def _add(self, family: Family, token: RefreshToken) -> None:
        self.families[family.family_id] = family
        self.tokens[token.digest] = token

    def _revoke(self, family_id: str, reason: str, now: float) -> bool:
        family = self.families.get(family_id)
        if family is None or family.revoked_at is not None:
            return False
        self.families[family_id] = replace(family, revoked_at=now, reason=reason)
        return True
