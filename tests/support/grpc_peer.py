"""gRPC for tests: devices and sessions that answer as they are told, and a client of the server there is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import grpc

from voiceingest.device_interfaces import Caller
from voiceingest.errors import SessionNotFound, TooManyRequests, Unauthenticated
from voiceingest.session_interfaces import Session, SessionEdit, SessionQuery
from voiceingest.stream import SessionState
from voiceingest.transports.grpc_api.generated.session_pb2_grpc import SessionServiceStub

AT: Final = 1_700_000_000.0
TOKEN: Final = "token-of-usr_1"


class Devices:
    """Knows one token."""

    async def authenticate(self, access_token: str) -> Caller:
        """Who brings it."""
        if access_token != TOKEN:
            raise Unauthenticated(reason="unknown")
        return Caller("usr_1", "dev_1", "fam_1", AT + 60)


class Limits:
    """Lets everybody ask until it is told not to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.is_over = False

    async def check(self, route: str, address: str, user_id: str | None) -> None:
        """Note it."""
        self.asked.append((route, address, user_id))
        if self.is_over:
            raise TooManyRequests(retry_after_s=2.2)


class Sessions:
    """Keeps sessions in a list; ``fails`` is raised by whatever is asked, ``waits`` is waited for first."""

    def __init__(self) -> None:
        self.kept: list[Session] = []
        self.asked: list[Any] = []
        self.fails: Exception | None = None
        self.waits: asyncio.Event | None = None
        self.cancelled = 0

    async def _ask(self, *what: Any) -> None:
        self.asked.append(what)
        try:
            if self.waits is not None:
                await self.waits.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fails is not None:
            raise self.fails

    async def create(
        self, caller: Caller, transport: str, edit: SessionEdit, idempotency_key: str | None
    ) -> tuple[Session, bool]:
        """Keep one."""
        await self._ask("create", caller.user_id, transport, edit, idempotency_key)
        number = len(self.kept) + 1
        session = Session(
            f"ses_{number}", caller.user_id, SessionState.PENDING, transport, AT + number, AT, AT
        )
        self.kept.append(session)
        return session, False

    async def get(self, user_id: str | None, session_id: str) -> Session:
        """One of them."""
        await self._ask("get", user_id, session_id)
        for session in self.kept:
            if session.session_id == session_id:
                return session
        raise SessionNotFound

    async def edit(self, user_id: str | None, session_id: str, edit: SessionEdit) -> Session:
        """Take over its metadata."""
        await self._ask("edit", user_id, session_id, edit)
        session = await self.get(user_id, session_id)
        edited = replace(session, metadata=edit.metadata or {})
        self.kept[self.kept.index(session)] = edited
        return edited

    async def end(self, user_id: str | None, session_id: str) -> Session:
        """Note it."""
        await self._ask("end", user_id, session_id)
        return await self.get(user_id, session_id)

    async def page(self, query: SessionQuery) -> Sequence[Session]:
        """The newest first."""
        await self._ask("page", query)
        newest = sorted(self.kept, key=lambda session: -session.created_at)
        before = query.before
        return [one for one in newest if before is None or one.created_at < before[0]][: query.limit]


class Peer:
    """A client, with the token of ``usr_1`` unless told otherwise."""

    def __init__(self, channel: grpc.aio.Channel, token: str | None = TOKEN) -> None:
        self.channel = channel
        self.stub: Any = SessionServiceStub(channel)  # type: ignore[no-untyped-call]
        self.metadata = [("authorization", f"Bearer {token}")] if token is not None else []

    async def call(
        self, method: str, request: Any, *metadata: tuple[str, str], timeout_s: float = 60.0
    ) -> Any:
        """Ask, and give the answer."""
        ask = getattr(self.stub, method)
        return await ask(request, metadata=[*self.metadata, *metadata], timeout=timeout_s)

    async def refused(
        self, method: str, request: Any, *metadata: tuple[str, str], timeout_s: float = 60.0
    ) -> tuple[grpc.StatusCode, str, dict[str, str]]:
        """Ask, and give status, text and trailing metadata of the refusal."""
        try:
            await self.call(method, request, *metadata, timeout_s=timeout_s)
        except grpc.aio.AioRpcError as error:
            trailing = {str(key): str(value) for key, value in error.trailing_metadata() or ()}
            return error.code(), error.details() or "", trailing
        raise AssertionError(f"{method} was answered")
