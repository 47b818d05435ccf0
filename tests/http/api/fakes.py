"""Devices and sessions in memory, as simple as the seams allow."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from voiceingest.device_interfaces import Caller, Device, Tokens
from voiceingest.errors import (
    DeviceNotFound,
    DeviceUnproven,
    IdempotencyMismatch,
    RefreshReused,
    RegistrationRefused,
    SessionNotFound,
    TokenRevoked,
    Unauthenticated,
)
from voiceingest.session_interfaces import Session, SessionEdit, SessionQuery
from voiceingest.stream import SessionState
from voiceingest.stream.session_states import SessionStep, next_session_state

NOW = 1_764_360_900.0
SECRET = "registration-secret"


class FakeDevices:
    """``IDevices``: access tokens are ``at.user.number``; ``error`` is raised by everything."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.waits: asyncio.Event | None = None
        self.secret: str | None = None
        self.known: dict[str, tuple[str, str]] = {}
        self.refreshable: dict[str, str] = {}
        self.used: set[str] = set()
        self.revoked: list[str] = []
        self.listed: list[Device] = []
        self._numbers = itertools.count(1)

    def _begin(self) -> None:
        if self.error is not None:
            raise self.error

    def _tokens(self, user_id: str, device_token: str) -> Tokens:
        number = next(self._numbers)
        self.refreshable[f"vr_{number}"] = user_id
        return Tokens(user_id, device_token, f"at.{user_id}.{number}", f"vr_{number}", 604800)

    async def register(self, identifier: str, device_token: str | None, secret: str | None) -> Tokens:
        """A user for each identifier."""
        self._begin()
        if self.secret is not None and secret != self.secret:
            raise RegistrationRefused
        known = self.known.get(identifier)
        if known is not None and device_token != known[1]:
            raise DeviceUnproven
        number = len(self.known) + 1
        user_id, token = known or (f"usr_{number}", f"vd_{number}")
        self.known[identifier] = (user_id, token)
        return self._tokens(user_id, token)

    async def refresh(self, refresh_token: str) -> Tokens:
        """Each is good once."""
        self._begin()
        if refresh_token in self.used:
            raise RefreshReused
        user_id = self.refreshable.get(refresh_token)
        if user_id is None:
            raise Unauthenticated
        self.used.add(refresh_token)
        return self._tokens(user_id, "")

    async def authenticate(self, access_token: str) -> Caller:
        """Who says so."""
        self._begin()
        parts = access_token.split(".")
        if len(parts) != 3 or parts[0] != "at":
            raise Unauthenticated
        if parts[1] in self.revoked:
            raise TokenRevoked
        return Caller(parts[1], f"dev_{parts[1]}", "fam_1", NOW + 60)

    async def revoke(self, caller: Caller) -> None:
        """Note it."""
        self._begin()
        if self.waits is not None:
            await self.waits.wait()
        self.revoked.append(caller.user_id)

    async def revoke_device(self, device_id: str) -> None:
        """Note it."""
        self._begin()
        if device_id not in [device.device_id for device in self.listed]:
            raise DeviceNotFound
        self.revoked.append(device_id)

    async def devices(self, limit: int, after_id: str | None) -> Sequence[Device]:
        """Those that are listed."""
        self._begin()
        return [device for device in self.listed if device.device_id > (after_id or "")][:limit]


class FakeSessions:
    """``ISessions``."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.kept: dict[str, Session] = {}
        self.keys: dict[tuple[str, str], tuple[SessionEdit, str]] = {}
        self.now = NOW

    def _begin(self) -> None:
        if self.error is not None:
            raise self.error

    def _own(self, user_id: str | None, session_id: str) -> Session:
        self._begin()
        found = self.kept.get(session_id)
        if found is None or user_id not in (None, found.user_id):
            raise SessionNotFound
        return found

    async def create(
        self, caller: Caller, transport: str, edit: SessionEdit, idempotency_key: str | None
    ) -> tuple[Session, bool]:
        """One more, unless the key is known."""
        self._begin()
        key = (caller.user_id, idempotency_key or "")
        if idempotency_key is not None and key in self.keys:
            asked, session_id = self.keys[key]
            if asked != edit:
                raise IdempotencyMismatch
            return self.kept[session_id], True
        self.now += 1
        session = Session(
            f"ses_{len(self.kept) + 1}",
            caller.user_id,
            SessionState.PENDING,
            transport,
            self.now,
            self.now,
            self.now + 3600,
            caller.device_id,
            audio_config=edit.audio_config or {},
            voice_config=edit.voice_config or {},
            metadata=edit.metadata or {},
            context=edit.context or {},
        )
        self.kept[session.session_id] = session
        if idempotency_key is not None:
            self.keys[key] = (edit, session.session_id)
        return session, False

    async def get(self, user_id: str | None, session_id: str) -> Session:
        """One."""
        return self._own(user_id, session_id)

    async def edit(self, user_id: str | None, session_id: str, edit: SessionEdit) -> Session:
        """Patch it."""
        found = self._own(user_id, session_id)
        next_session_state(found.status, SessionStep.EDIT)
        self.kept[session_id] = replace(
            found,
            audio_config=patched(found.audio_config, edit.audio_config),
            voice_config=patched(found.voice_config, edit.voice_config),
            metadata=patched(found.metadata, edit.metadata),
            context=patched(found.context, edit.context),
        )
        return self.kept[session_id]

    async def end(self, user_id: str | None, session_id: str) -> Session:
        """End it."""
        found = self._own(user_id, session_id)
        status = next_session_state(found.status, SessionStep.END)
        self.kept[session_id] = replace(found, status=status, ended_at=self.now, reason="ended")
        return self.kept[session_id]

    async def page(self, query: SessionQuery) -> Sequence[Session]:
        """Newest first."""
        self._begin()
        found = [
            one
            for one in self.kept.values()
            if query.user_id in (None, one.user_id)
            and query.status in (None, one.status)
            and (query.before is None or (one.created_at, one.session_id) < query.before)
        ]
        found.sort(key=lambda one: (one.created_at, one.session_id), reverse=True)
        return found[: query.limit]


def patched(kept: Any, patch: Any) -> Any:
    """RFC 7396."""
    if patch is None:
        return kept
    result = dict(kept) if isinstance(kept, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = patched(result.get(name), value) if isinstance(value, dict) else value
    return result
