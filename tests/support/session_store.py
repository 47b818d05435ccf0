"""A store of sessions in memory, exactly as ``ISessionStore`` says, for whoever stands above it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from voiceingest.errors import IdempotencyMismatch, StoreUnavailable, TooManySessions
from voiceingest.session_interfaces import Idempotency, Session, SessionQuery
from voiceingest.stream import SessionState


class MemorySessionStore:
    """See the head of this file. ``is_away``: it raises; ``forgets_to_answer``: it writes, and then raises.

    ``asked`` are the names of the methods that were called, in order.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Session] = {}
        self.vouched: dict[str, float] = {}
        self.keys: dict[tuple[str, str], tuple[bytes, str, float]] = {}
        self.asked: list[str] = []
        self.is_away = False
        self.forgets_to_answer = False

    async def add(self, session: Session, idempotency: Idempotency | None, open_max: int) -> Session:
        """Keep a new session, or give back the one there is."""
        self._ask("add")
        if idempotency is not None:
            before = self.keys.get((session.user_id, idempotency.key))
            if before is not None:
                if before[0] != idempotency.request_digest:
                    raise IdempotencyMismatch
                return self.rows[before[1]]
        same = self.rows.get(session.session_id) or self._of_stream(session)
        if same is not None:
            return same
        mine = [one for one in self.rows.values() if one.user_id == session.user_id and one.status.is_open]
        if len(mine) >= open_max:
            raise TooManySessions
        if idempotency is not None:
            kept = (idempotency.request_digest, session.session_id, session.created_at)
            self.keys[session.user_id, idempotency.key] = kept
        self._write(session)
        return session

    async def session(self, session_id: str) -> Session | None:
        """One session."""
        self._ask("session")
        return self.rows.get(session_id)

    async def update(self, session: Session, version: int) -> bool:
        """Write a session that was read as ``version``."""
        self._ask("update")
        before = self.rows.get(session.session_id)
        if before is None or before.version != version:
            return False
        same = self._of_stream(session)
        assert same is None or same.session_id == session.session_id, "a stream is the audio of one session"
        self._write(session)
        return True

    async def page(self, query: SessionQuery) -> Sequence[Session]:
        """The sessions that are asked for, newest first."""
        self._ask("page")
        found = [
            one
            for one in self.rows.values()
            if query.user_id in (None, one.user_id)
            and query.status in (None, one.status)
            and (query.before is None or (one.created_at, one.session_id) < query.before)
        ]
        found.sort(key=lambda one: (one.created_at, one.session_id), reverse=True)
        return found[: query.limit]

    async def stream_session(self, tenant_id: str, interaction_id: str, epoch: int) -> Session | None:
        """The session a stream was the audio of."""
        self._ask("stream_session")
        name = (tenant_id, interaction_id, epoch)
        return next(
            (one for one in self.rows.values() if (one.tenant_id, one.interaction_id, one.epoch) == name),
            None,
        )

    async def open_sessions(self, session_ids: Sequence[str]) -> set[str]:
        """Which of these are still open."""
        self._ask("open_sessions")
        return {name for name in session_ids if name in self.rows and self.rows[name].status.is_open}

    async def vouch(self, session_ids: Sequence[str], node: str, now: float, expires_at: float) -> None:
        """These are alive, here."""
        self._ask("vouch")
        for name in session_ids:
            one = self.rows.get(name)
            if one is not None and one.status is SessionState.ACTIVE and one.node == node:
                self.rows[name] = replace(one, expires_at=expires_at)
                self.vouched[name] = now

    async def overdue(self, now: float, lost_before: float, limit: int) -> Sequence[Session]:
        """Open sessions past their time; and those of a stream nobody has vouched for since."""
        self._ask("overdue")
        found = [
            one
            for one in self.rows.values()
            if one.status.is_open
            and (one.expires_at <= now or self.vouched.get(one.session_id, now) < lost_before)
        ]
        return sorted(found, key=lambda one: one.expires_at)[:limit]

    async def forget_sessions(self, ended_before: float, keys_before: float) -> int:
        """Delete what has ended long ago, and old idempotency keys."""
        self._ask("forget_sessions")
        self.keys = {name: kept for name, kept in self.keys.items() if kept[2] >= keys_before}
        old = [
            name
            for name, one in self.rows.items()
            if not one.status.is_open and one.ended_at is not None and one.ended_at < ended_before
        ]
        for name in old:
            del self.rows[name]
        self.keys = {name: kept for name, kept in self.keys.items() if kept[1] in self.rows}
        return len(old)

    # --- beneath

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.is_away:
            raise StoreUnavailable

    def _of_stream(self, session: Session) -> Session | None:
        name = (session.tenant_id, session.interaction_id, session.epoch)
        if None in name:
            return None
        return next(
            (one for one in self.rows.values() if (one.tenant_id, one.interaction_id, one.epoch) == name),
            None,
        )

    def _write(self, session: Session) -> None:
        # As a database would: what is kept is a copy, and plain JSON.
        for part in ("audio_config", "voice_config", "metadata", "context"):
            session = replace(session, **{part: json.loads(json.dumps(getattr(session, part)))})
        self.rows[session.session_id] = session
        if session.status is SessionState.ACTIVE:
            self.vouched.setdefault(session.session_id, session.updated_at)
        else:
            self.vouched.pop(session.session_id, None)
        if self.forgets_to_answer:
            raise StoreUnavailable
