"""Devices, families of tokens and refresh tokens in the database (``IDeviceStore``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..device_interfaces import Device, Family, RefreshToken
from .engine import Store
from .rows import columns, device_of, family_of, token_of
from .statements import DELETE_MAX_COUNT, insert_new
from .tables import devices, families, refresh_tokens

# How long a token is remembered that can no longer be used: whoever brings it late is told why.
FORGET_AFTER_S: Final = 24 * 3600.0


class DeviceStore:
    """What is known of devices (``IDeviceStore``). Raises everywhere: ``StoreUnavailable``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def device_by_identifier(self, identifier_digest: bytes) -> Device | None:
        """The device that calls itself so."""
        return await self._device(devices.c.identifier_digest == identifier_digest)

    async def device(self, device_id: str) -> Device | None:
        """One device."""
        return await self._device(devices.c.device_id == device_id)

    async def devices(self, limit: int, after_id: str | None) -> Sequence[Device]:
        """A page of all, by id."""
        query = select(devices).order_by(devices.c.device_id).limit(limit)
        if after_id is not None:
            query = query.where(devices.c.device_id > after_id)

        async def work(connection: AsyncConnection) -> list[Device]:
            return [device_of(row) for row in await connection.execute(query)]

        return await self._store.read(work)

    async def add_device(self, device: Device, family: Family, token: RefreshToken) -> bool:
        """Keep a new device with its first family and token, all or nothing.

        ``False`` when another one with this identifier came first.
        """

        async def work(connection: AsyncConnection) -> bool:
            if not await insert_new(connection, devices, columns(device)):
                return False
            await _add_family(connection, family, token)
            return True

        return await self._store.write(work)

    async def add_family(self, family: Family, token: RefreshToken, seen_at: float) -> None:
        """Keep a new family of a known device."""

        async def work(connection: AsyncConnection) -> None:
            await _seen(connection, family.device_id, seen_at)
            await _add_family(connection, family, token)

        await self._store.write(work)

    async def refresh_token(self, digest: bytes) -> tuple[RefreshToken, Family, Device] | None:
        """A refresh token, with its family and its device."""
        query = (
            select(refresh_tokens, families, devices)
            .join(families, families.c.family_id == refresh_tokens.c.family_id)
            .join(devices, devices.c.device_id == families.c.device_id)
            .where(refresh_tokens.c.digest == digest)
        )

        async def work(connection: AsyncConnection) -> tuple[RefreshToken, Family, Device] | None:
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                return None
            return token_of(row), family_of(row, 6), device_of(row, 12)

        return await self._store.read(work)

    async def rotate(self, digest: bytes, new: RefreshToken, now: float) -> bool:
        """Mark a token used and keep its successor, all or nothing.

        ``False`` when it had been used, whoever else was quicker: the row is marked by the one statement
        that still finds it unmarked.
        """
        mark = (
            update(refresh_tokens)
            .where(refresh_tokens.c.digest == digest, refresh_tokens.c.used_at.is_(None))
            .values(used_at=now)
        )

        async def work(connection: AsyncConnection) -> bool:
            if (await connection.execute(mark)).rowcount != 1:
                return False
            await connection.execute(refresh_tokens.insert().values(columns(new)))
            await _seen(connection, new.device_id, now)
            return True

        return await self._store.write(work)

    async def family(self, family_id: str) -> tuple[Family, Device] | None:
        """A family and its device: whether its access tokens still hold."""
        query = (
            select(families, devices)
            .join(devices, devices.c.device_id == families.c.device_id)
            .where(families.c.family_id == family_id)
        )

        async def work(connection: AsyncConnection) -> tuple[Family, Device] | None:
            row = (await connection.execute(query)).one_or_none()
            return None if row is None else (family_of(row), device_of(row, 6))

        return await self._store.read(work)

    async def revoke_family(self, family_id: str, reason: str, now: float) -> None:
        """Revoke one family; one that is revoked keeps its reason."""

        async def work(connection: AsyncConnection) -> None:
            await _revoke(connection, families.c.family_id == family_id, reason, now)

        await self._store.write(work)

    async def revoke_device(self, device_id: str, reason: str, now: float, *, for_good: bool) -> int:
        """Revoke every family of a device, and itself where ``for_good``; how many families there were."""

        async def work(connection: AsyncConnection) -> int:
            if for_good:
                await connection.execute(
                    update(devices)
                    .where(devices.c.device_id == device_id)
                    .values(revoked_at=func.coalesce(devices.c.revoked_at, now))
                )
            return await _revoke(connection, families.c.device_id == device_id, reason, now)

        return await self._store.write(work)

    async def revocations(self, user_ids: Sequence[str]) -> Mapping[str, float]:
        """When tokens of these users were last revoked: infinity where none of theirs holds any more.

        Those of whom none was revoked are left out.
        """
        last, holding = func.max(families.c.revoked_at), func.count() - func.count(families.c.revoked_at)
        # By way of the devices: they are found by their users.
        query = (
            select(devices.c.user_id, last, holding, devices.c.revoked_at)
            .join(families, families.c.device_id == devices.c.device_id)
            .where(devices.c.user_id.in_(user_ids))
            .group_by(devices.c.user_id, devices.c.revoked_at)
            .having(last.is_not(None) | devices.c.revoked_at.is_not(None))
        )

        async def work(connection: AsyncConnection) -> dict[str, float]:
            return {
                user_id: at if count and device_at is None else math.inf
                for user_id, at, count, device_at in await connection.execute(query)
            }

        return await self._store.read(work)

    async def forget_tokens(self, now: float) -> int:
        """Delete refresh tokens and families that have been of no use for a while; how many.

        A used token stays until it would have expired, since it is known by that when it is brought
        again; a family until the last access token of it has expired.
        """
        before = now - FORGET_AFTER_S - self._store.access_outlives_s
        old = select(refresh_tokens.c.digest).where(refresh_tokens.c.expires_at < before)
        empty = select(families.c.family_id).where(
            families.c.created_at < before,
            ~exists().where(refresh_tokens.c.family_id == families.c.family_id),
        )
        count = 0
        for column, found in ((refresh_tokens.c.digest, old), (families.c.family_id, empty)):
            last = DELETE_MAX_COUNT
            while last == DELETE_MAX_COUNT:
                statement = delete(column.table).where(column.in_(found.limit(DELETE_MAX_COUNT)))
                last = await self._deleted(statement)
                count += last
        return count

    async def _deleted(self, statement: Any) -> int:
        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self._store.write(work)

    async def _device(self, condition: Any) -> Device | None:
        async def work(connection: AsyncConnection) -> Device | None:
            row = (await connection.execute(select(devices).where(condition))).one_or_none()
            return None if row is None else device_of(row)

        return await self._store.read(work)


async def _add_family(connection: AsyncConnection, family: Family, token: RefreshToken) -> None:
    await connection.execute(families.insert().values(columns(family)))
    await connection.execute(refresh_tokens.insert().values(columns(token)))


async def _seen(connection: AsyncConnection, device_id: str, now: float) -> None:
    await connection.execute(update(devices).where(devices.c.device_id == device_id).values(last_seen_at=now))


async def _revoke(connection: AsyncConnection, condition: Any, reason: str, now: float) -> int:
    """Revoke the families that are not; how many."""
    statement = update(families).where(condition, families.c.revoked_at.is_(None))
    return (await connection.execute(statement.values(revoked_at=now, reason=reason))).rowcount
