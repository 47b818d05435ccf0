"""How a stream becomes the row of a session, and what its end makes of that.

* Its (tenant, interaction, epoch) has a row that is open: it was resumed here, and the row goes on.
* Its interaction is the id of a session of the same user that is open: that becomes active; who begins such
  an interaction anew goes on with the session.
* Else a new row is made.

Where the user has ended the session meanwhile the stream is hung up. What was closed for another reason,
lost perhaps while the store was away, gives up its stream, which gets a new row.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from ..errors import EditConflict
from ..session_interfaces import Session
from ..stream import SessionState, SessionStep, next_session_state
from .archive import Archive
from .live import Ending, Live, new_session_id
from .outcomes import ENDED, step_for

# A row that others change more often than this while it is written: nobody does.
ATTEMPTS_MAX_COUNT: Final = 8

# How many sessions a user may have is no reason to refuse audio that flows already.
_NO_BOUND: Final = 2**31 - 1

_SESSION_ID: Final = re.compile(r"ses_[A-Za-z0-9_-]{22}")


class StreamRows:
    """See the head of this file."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._store = archive.store
        self._cache = archive.cache
        self._live = archive.live
        self._node = archive.node
        self._wall_clock = archive.wall_clock

    async def write(self, one: Live) -> None:
        """Put a stream into the store, as it stands. Raises: ``StoreUnavailable``, ``EditConflict``."""
        ending = one.ending
        if one.session is None:
            await self._begin(one, ending)
        elif ending is not None:
            await self._end(one, one.session, ending)

    # --- its beginning

    async def _begin(self, one: Live, ending: Ending | None) -> None:
        for _ in range(ATTEMPTS_MAX_COUNT):
            found = await self._found(one)
            if found is None:
                kept = await self._make(one, ending)
                if kept is None:
                    continue
            elif not found.status.is_open:
                if not self._is_ended_by_user(found, one):
                    await self._part_from(found, one)
                    continue
                kept = found
            elif ending is not None and self._goes_on_elsewhere(found, one):
                kept = found
            else:
                kept = await self._archive.write(found, self._taken(found, one, ending))
                if kept is None:
                    continue
                if kept.status is SessionState.ACTIVE:
                    # Nobody may have vouched for it for a while: it was on its way from another process.
                    await self._store.vouch([kept.session_id], self._node, kept.updated_at, kept.expires_at)
            await self._know(one, kept)
            return
        raise EditConflict

    def _goes_on_elsewhere(self, found: Session, one: Live) -> bool:
        """Whether the row is that of another process, to which the same stream has come."""
        return found.node not in ("", self._node) and found.epoch == one.facts.epoch

    async def _found(self, one: Live) -> Session | None:
        """The row it goes on with, or that has to do with it."""
        facts = one.facts
        found = await self._store.stream_session(facts.tenant_id, facts.interaction_id, facts.epoch)
        if found is not None or not _SESSION_ID.fullmatch(facts.interaction_id):
            return found
        found = await self._store.session(facts.interaction_id)
        if found is None or found.user_id != one.user_id:
            return None
        if found.status.is_open:
            is_older = found.epoch is not None and found.epoch > facts.epoch
            return None if is_older else found
        return found if self._is_ended_by_user(found, one) else None

    async def _make(self, one: Live, ending: Ending | None) -> Session | None:
        """A row of its own; ``None`` where there is one of its stream after all."""
        facts, now = one.facts, self._wall_clock()
        new = Session(
            session_id=one.fresh_id,
            user_id=one.user_id,
            status=SessionState.ACTIVE,
            transport=one.transport,
            created_at=one.began_at,
            updated_at=now,
            expires_at=self._archive.lapses_at(now),
            tenant_id=facts.tenant_id,
            interaction_id=facts.interaction_id,
            epoch=facts.epoch,
            started_at=one.began_at,
            node=self._node,
        )
        if ending is not None:
            new = _with_end(new, one, ending)
        kept = await self._store.add(new, None, _NO_BOUND)
        if kept is not new and kept != new:
            return None
        self._archive.count(None, replace(new, status=SessionState.ACTIVE))
        self._archive.count(SessionState.ACTIVE, new)
        return new

    def _taken(self, found: Session, one: Live, ending: Ending | None) -> Session:
        now = self._wall_clock()
        step = SessionStep.START if found.status is SessionState.PENDING else SessionStep.EDIT
        taken = replace(
            found,
            status=next_session_state(found.status, step),
            transport=one.transport,
            tenant_id=one.facts.tenant_id,
            interaction_id=one.facts.interaction_id,
            epoch=one.facts.epoch,
            started_at=one.began_at if found.started_at is None else found.started_at,
            updated_at=now,
            expires_at=self._archive.lapses_at(now),
            node=self._node,
        )
        return taken if ending is None else _with_end(taken, one, ending)

    async def _part_from(self, found: Session, one: Live) -> None:
        """A row that is closed is no more that of the stream."""
        if found.session_id == one.fresh_id:
            one.fresh_id = new_session_id()
        await self._archive.write(found, replace(found, epoch=None))
        await self._cache.drop(found.session_id)

    @staticmethod
    def _is_ended_by_user(found: Session, one: Live) -> bool:
        """Whether it is over because that was asked for: of this stream, or while it had begun already."""
        if found.status is not SessionState.COMPLETED or found.reason != ENDED:
            return False
        is_same = found.epoch == one.facts.epoch
        return is_same or (found.ended_at is not None and found.ended_at >= one.began_at)

    async def _know(self, one: Live, session: Session) -> None:
        self._live.name(one, session)
        if not session.status.is_open:
            # Nothing, where the stream is over by itself.
            self._live.hang_up(session.session_id)
        await self._cache.put(session)

    # --- its end

    async def _end(self, one: Live, session: Session, ending: Ending) -> None:
        """Nothing, where the row goes on at another process, or with another stream."""
        for _ in range(ATTEMPTS_MAX_COUNT):
            if session.node not in ("", self._node) or session.epoch not in (None, one.facts.epoch):
                return
            over = replace(_with_end(session, one, ending), updated_at=self._wall_clock())
            written = await self._archive.write(session, over)
            if written is not None:
                one.session = written
                await self._cache.put(written)
                return
            found = await self._store.session(session.session_id)
            if found is None:
                return
            session = found
        raise EditConflict


def _with_end(session: Session, one: Live, ending: Ending) -> Session:
    """The row with what came of the stream; one that was closed meanwhile stays as it was closed."""
    counted = replace(session, frames=ending.frames)
    step = step_for(ending.reason, is_its_name=session.session_id == one.facts.interaction_id)
    if step is None or not session.status.is_open:
        return counted
    status = next_session_state(session.status, step)
    return replace(counted, status=status, ended_at=ending.at, reason=ending.reason)
