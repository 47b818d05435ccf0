"""Sessions and idempotency keys in the database (``ISessionStore``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import IdempotencyMismatch, TooManySessions
from ..session_interfaces import Idempotency, Session, SessionQuery
from ..stream import SessionState
from .engine import Store
from .rows import session_of, session_row
from .statements import DELETE_MAX_COUNT, insert_new, lock_user, parts
from .tables import idempotency_keys, sessions

_OPEN = tuple(state.value for state in SessionState if state.is_open)
_ACTIVE = SessionState.ACTIVE.value


class SessionStore:
    """What is known of sessions (``ISessionStore``). Raises everywhere: ``StoreUnavailable``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, session: Session, idempotency: Idempotency | None, open_max: int) -> Session:
        """Keep a new session; the one that was made before under the same key of the same user.

        A session that is there already, or that of the same stream, is given back as it is: whoever did
        not hear that it was kept may say it again.
        Raises: ``IdempotencyMismatch``; ``TooManySessions`` where the user has ``open_max`` open ones.
        """
        row = session_row(session)
        row["vouched_at"] = session.updated_at if session.status is SessionState.ACTIVE else None

        async def work(connection: AsyncConnection) -> Session:
            await lock_user(connection, session.user_id)
            before = await _before(connection, session, idempotency)
            if before is not None:
                return before
            if await _open_count(connection, session.user_id) >= open_max:
                raise TooManySessions
            if not await insert_new(connection, sessions, row):
                # Another user's session of this stream, since this user's transactions come one by one.
                return await _there(connection, session)
            if idempotency is not None:
                await connection.execute(
                    idempotency_keys.insert().values(
                        user_id=session.user_id,
                        key=idempotency.key,
                        request_digest=idempotency.request_digest,
                        session_id=session.session_id,
                        created_at=session.created_at,
                    )
                )
            return session

        return await self._store.write(work)

    async def session(self, session_id: str) -> Session | None:
        """One session."""
        found = await self._sessions(select(sessions).where(sessions.c.session_id == session_id))
        return found[0] if found else None

    async def update(self, session: Session, version: int) -> bool:
        """Write a session that was read as ``version``; ``False`` when it has been changed since.

        ``session.version`` is the new one.
        """
        row = session_row(session)
        del row["session_id"]
        vouched = func.coalesce(sessions.c.vouched_at, session.updated_at)
        row["vouched_at"] = vouched if session.status is SessionState.ACTIVE else None
        statement = (
            update(sessions)
            .where(sessions.c.session_id == session.session_id, sessions.c.version == version)
            .values(row)
        )

        async def work(connection: AsyncConnection) -> bool:
            try:
                return (await connection.execute(statement)).rowcount == 1
            except IntegrityError:
                # Another session is that of this stream by now.
                await connection.rollback()
                return False

        return await self._store.write(work)

    async def page(self, query: SessionQuery) -> Sequence[Session]:
        """The sessions that are asked for."""
        place = tuple_(sessions.c.created_at, sessions.c.session_id)
        statement = select(sessions).order_by(sessions.c.created_at.desc(), sessions.c.session_id.desc())
        if query.user_id is not None:
            statement = statement.where(sessions.c.user_id == query.user_id)
        if query.status is not None:
            statement = statement.where(sessions.c.status == query.status.value)
        if query.before is not None:
            statement = statement.where(place < tuple_(*query.before))
        return await self._sessions(statement.limit(query.limit))

    async def stream_session(self, tenant_id: str, interaction_id: str, epoch: int) -> Session | None:
        """The session a stream was the audio of."""
        found = await self._sessions(select(sessions).where(_of_stream(tenant_id, interaction_id, epoch)))
        return found[0] if found else None

    async def open_sessions(self, session_ids: Sequence[str]) -> set[str]:
        """Which of these are still open."""

        async def work(connection: AsyncConnection) -> set[str]:
            found: set[str] = set()
            for some in parts(session_ids):
                query = select(sessions.c.session_id).where(
                    sessions.c.session_id.in_(some), sessions.c.status.in_(_OPEN)
                )
                found.update((await connection.execute(query)).scalars())
            return found

        return await self._store.read(work)

    async def vouch(self, session_ids: Sequence[str], node: str, now: float, expires_at: float) -> None:
        """These are alive, here. It is no change of the session: its version stays."""
        mine = (sessions.c.status == _ACTIVE, sessions.c.node == node)
        for some in parts(session_ids):
            await self._changed(
                update(sessions)
                .where(sessions.c.session_id.in_(some), *mine)
                .values(vouched_at=now, expires_at=expires_at)
            )

    async def overdue(self, now: float, lost_before: float, limit: int) -> Sequence[Session]:
        """Open sessions past their time; and those of a stream nobody has vouched for since."""
        late = and_(sessions.c.status.in_(_OPEN), sessions.c.expires_at <= now)
        lost = and_(sessions.c.status == _ACTIVE, sessions.c.vouched_at < lost_before)
        query = select(sessions).where(or_(late, lost)).order_by(sessions.c.expires_at).limit(limit)
        return await self._sessions(query)

    async def forget_sessions(self, ended_before: float, keys_before: float) -> int:
        """Delete what has ended long ago, and old idempotency keys; how many sessions."""
        keys = select(idempotency_keys.c.user_id, idempotency_keys.c.key).where(
            idempotency_keys.c.created_at < keys_before
        )
        key = tuple_(idempotency_keys.c.user_id, idempotency_keys.c.key)
        await self._delete(lambda: delete(idempotency_keys).where(key.in_(keys.limit(DELETE_MAX_COUNT))))
        old = select(sessions.c.session_id).where(
            sessions.c.ended_at < ended_before, sessions.c.status.not_in(_OPEN)
        )
        return await self._delete(
            lambda: delete(sessions).where(sessions.c.session_id.in_(old.limit(DELETE_MAX_COUNT)))
        )

    async def _delete(self, statement: Any) -> int:
        """Delete in portions, each a transaction of its own."""
        count, last = 0, DELETE_MAX_COUNT
        while last == DELETE_MAX_COUNT:
            last = await self._changed(statement())
            count += last
        return count

    async def _changed(self, statement: Any) -> int:
        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self._store.write(work)

    async def _sessions(self, query: Any) -> list[Session]:
        async def work(connection: AsyncConnection) -> list[Session]:
            return [session_of(row) for row in await connection.execute(query)]

        return await self._store.read(work)


async def _before(
    connection: AsyncConnection, session: Session, idempotency: Idempotency | None
) -> Session | None:
    """What was made before: under the key, or of the same name or stream. Raises: ``IdempotencyMismatch``."""
    if idempotency is not None:
        query = (
            select(*sessions.c, idempotency_keys.c.request_digest)
            .join(idempotency_keys, idempotency_keys.c.session_id == sessions.c.session_id)
            .where(
                idempotency_keys.c.user_id == session.user_id, idempotency_keys.c.key == idempotency.key
            )
        )
        row = (await connection.execute(query)).one_or_none()
        if row is not None:
            if bytes(row.request_digest) != idempotency.request_digest:
                raise IdempotencyMismatch
            return session_of(row)
    row = (await connection.execute(_same(session))).first()
    return None if row is None else session_of(row)


async def _there(connection: AsyncConnection, session: Session) -> Session:
    return session_of((await connection.execute(_same(session))).one())


def _same(session: Session) -> Any:
    """The row of this name, or of this stream."""
    condition = sessions.c.session_id == session.session_id
    if session.tenant_id is not None and session.interaction_id is not None and session.epoch is not None:
        condition = or_(condition, _of_stream(session.tenant_id, session.interaction_id, session.epoch))
    return select(sessions).where(condition)


def _of_stream(tenant_id: str, interaction_id: str, epoch: int) -> Any:
    return and_(
        sessions.c.tenant_id == tenant_id,
        sessions.c.interaction_id == interaction_id,
        sessions.c.epoch == epoch,
    )


async def _open_count(connection: AsyncConnection, user_id: str) -> int:
    query = select(func.count()).where(sessions.c.user_id == user_id, sessions.c.status.in_(_OPEN))
    return int((await connection.execute(query)).scalar_one())
