"""What the APIs ask about sessions (``ISessions``): create, show, change, end, list.

Every change is conditional on the version that was read, and is tried again a few times where somebody
else was quicker. Reads may come from the cache; whatever decides is read from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from ..device_interfaces import Caller
from ..errors import EditConflict, SessionNotFound
from ..limits import SESSION_PAGE_MAX_COUNT
from ..session_interfaces import IControlBus, Session, SessionEdit, SessionQuery
from ..stream import SessionState, SessionStep, next_session_state
from .archive import Archive
from .bounds import idempotency, patched
from .live import new_session_id
from .outcomes import ENDED

# Somebody who is overtaken so often does not know what he changes any more.
ATTEMPTS_MAX_COUNT: Final = 5


class Sessions:
    """See the head of this file. What was ended at another process comes by ``bus``, or is found later."""

    def __init__(self, archive: Archive, bus: IControlBus) -> None:
        self._archive = archive
        self._store = archive.store
        self._cache = archive.cache
        self._settings = archive.settings
        self._wall_clock = archive.wall_clock
        self._bus = bus
        bus.listen("session_ended", archive.live.hang_up)

    async def create(
        self, caller: Caller, transport: str, edit: SessionEdit, idempotency_key: str | None
    ) -> tuple[Session, bool]:
        """A new session, ``pending``; and whether it had been made before under the same key.

        Raises: ``BadField``, ``ContextTooBig``, ``IdempotencyMismatch``, ``TooManySessions``.
        """
        now = self._wall_clock()
        new = Session(
            session_id=new_session_id(),
            user_id=caller.user_id,
            status=SessionState.PENDING,
            transport=transport,
            created_at=now,
            updated_at=now,
            expires_at=self._archive.lapses_at(now),
            device_id=caller.device_id,
            **patched(None, edit),
        )
        key = idempotency(idempotency_key, edit)
        kept = await self._store.add(new, key, self._settings.sessions_max_per_user)
        is_replay = kept.session_id != new.session_id
        if is_replay:
            self._archive.metrics.idempotent_replays += 1
        else:
            self._archive.count(None, kept)
        await self._cache.put(kept)
        return kept, is_replay

    async def get(self, user_id: str | None, session_id: str) -> Session:
        """One session. Raises: ``SessionNotFound``."""
        found = await self._cache.get(session_id)
        if found is None:
            found = await self._read(user_id, session_id)
            await self._cache.put(found)
        return _visible(found, user_id)

    async def edit(self, user_id: str | None, session_id: str, edit: SessionEdit) -> Session:
        """Change a session that is open.

        Raises: ``SessionNotFound``, ``IllegalMove``, ``ContextTooBig``, ``BadField``, ``EditConflict``.
        """

        def change(session: Session) -> Session:
            now = self._wall_clock()
            return replace(
                session,
                status=next_session_state(session.status, SessionStep.EDIT),
                updated_at=now,
                expires_at=self._archive.lapses_at(now),
                **patched(session, edit),
            )

        _, changed = await self._change(user_id, session_id, change)
        await self._cache.put(changed)
        return changed

    async def end(self, user_id: str | None, session_id: str) -> Session:
        """End a session and its stream. Raises: ``SessionNotFound``, ``IllegalMove``, ``EditConflict``."""

        def change(session: Session) -> Session:
            now = self._wall_clock()
            status = next_session_state(session.status, SessionStep.END)
            return replace(session, status=status, updated_at=now, ended_at=now, reason=ENDED)

        before, ended = await self._change(user_id, session_id, change)
        self._archive.live.hang_up(session_id)
        if before.status is SessionState.ACTIVE:
            # Also where it was here: it may go on elsewhere, while its client is waited for here.
            self._bus.tell("session_ended", session_id)
        # Last: whoever asked may have gone, and the stream has ended all the same.
        await self._cache.put(ended)
        return ended

    async def page(self, query: SessionQuery) -> Sequence[Session]:
        """A page of sessions, of ``SESSION_PAGE_MAX_COUNT`` at the most."""
        limit = min(max(query.limit, 1), SESSION_PAGE_MAX_COUNT)
        return await self._store.page(replace(query, limit=limit))

    async def _read(self, user_id: str | None, session_id: str) -> Session:
        found = await self._store.session(session_id)
        if found is None:
            raise SessionNotFound
        return _visible(found, user_id)

    async def _change(
        self, user_id: str | None, session_id: str, change: Callable[[Session], Session]
    ) -> tuple[Session, Session]:
        """The session before and after. Raises: whatever ``change`` does; ``EditConflict``."""
        for _ in range(ATTEMPTS_MAX_COUNT):
            session = await self._read(user_id, session_id)
            changed = await self._archive.write(session, change(session))
            if changed is not None:
                return session, changed
        raise EditConflict


def _visible(session: Session, user_id: str | None) -> Session:
    """A session of the one who asks. Raises: ``SessionNotFound``."""
    if user_id is not None and session.user_id != user_id:
        raise SessionNotFound
    return session
