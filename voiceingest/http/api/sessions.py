"""Routes of a caller's own sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Response

from ...errors import (
    ContextTooBig,
    EditConflict,
    IdempotencyMismatch,
    IllegalMove,
    MethodNotAllowed,
    SessionNotFound,
    TooManySessions,
)
from ...limits import SESSION_PAGE_MAX_COUNT
from ...session_interfaces import Session, SessionQuery
from ...stream import SessionState
from .cursor import CURSOR_PATTERN, read_cursor, write_cursor
from .document import KEY_PARAMETER, REPLAYED, refused
from .routes import CallerRoute, Parts, WhoAsks, idempotency_key
from .session_models import Changes, Created, SessionPage, SessionRow, SessionShown, Wishes, row_of, whole_of
from .shapes import Done

own_sessions: Final = APIRouter(route_class=CallerRoute, tags=["Sessions"])

SessionId = Annotated[str, Path(alias="id", description="The id of a session.", max_length=128)]
Limit = Annotated[int, Query(ge=1, le=SESSION_PAGE_MAX_COUNT, description="How many at the most.")]
Cursor = Annotated[
    str | None,
    Query(
        pattern=CURSOR_PATTERN,
        description="`nextCursor` of the page before; the page then begins after it.",
    ),
]
Status = Annotated[SessionState | None, Query(description="Only those that stand there.")]
Key = Annotated[str | None, Depends(idempotency_key)]


@own_sessions.post(
    "/api/session/create",
    status_code=201,
    operation_id="createSession",
    summary="Make a session",
    responses={200: REPLAYED, **refused(IdempotencyMismatch, TooManySessions, ContextTooBig)},
    openapi_extra=KEY_PARAMETER,
)
async def create(parts: Parts, caller: WhoAsks, key: Key, body: Wishes, response: Response) -> Created:
    """The session is `pending` until a stream carries it, and expires when nothing happens to it.

    With an `Idempotency-Key` the same request gives the same session again, for a day: 200 and
    `Idempotency-Replayed: true`.
    """
    session, is_replay = await parts.sessions.create(caller, "rest", body.edit(), key)
    if is_replay:
        response.status_code = 200
        response.headers["Idempotency-Replayed"] = "true"
    return Created.of(session)


@own_sessions.api_route("/api/session/create", methods=["GET", "PATCH", "DELETE"], include_in_schema=False)
async def create_only() -> None:
    """Else it would be taken for the session of this id."""
    raise MethodNotAllowed


@own_sessions.get("/api/session", operation_id="listSessions", summary="List your sessions")
async def page(
    parts: Parts, caller: WhoAsks, limit: Limit = 50, cursor: Cursor = None, status: Status = None
) -> SessionPage:
    """Newest first, without configuration and context."""
    query = query_of(caller.user_id, limit, cursor, status)
    found, following = page_of(await parts.sessions.page(query), limit)
    now = parts.wall_clock()
    rows = [SessionRow.model_validate(row_of(session, now)) for session in found]
    return SessionPage(sessions=rows, next_cursor=following)


@own_sessions.get(
    "/api/session/{id}",
    operation_id="getSession",
    summary="Look at a session",
    responses=refused(SessionNotFound),
)
async def show(parts: Parts, caller: WhoAsks, session_id: SessionId) -> SessionShown:
    """Everything that is known of it. A session of another user is not there."""
    session = await parts.sessions.get(caller.user_id, session_id)
    return SessionShown.model_validate(whole_of(session, parts.wall_clock()))


@own_sessions.patch(
    "/api/session/{id}",
    operation_id="editSession",
    summary="Change a session",
    responses=refused(SessionNotFound, IllegalMove, EditConflict, ContextTooBig),
)
async def edit(parts: Parts, caller: WhoAsks, session_id: SessionId, body: Changes) -> SessionShown:
    """Configuration, metadata and context of a session that has not ended. It also lives longer for it."""
    session = await parts.sessions.edit(caller.user_id, session_id, body.edit())
    return SessionShown.model_validate(whole_of(session, parts.wall_clock()))


@own_sessions.delete(
    "/api/session/{id}",
    operation_id="endSession",
    summary="End a session",
    responses=refused(SessionNotFound, IllegalMove, EditConflict),
)
async def end(parts: Parts, caller: WhoAsks, session_id: SessionId) -> Done:
    """The session is `completed`, and its stream ends: what has come is published first."""
    await parts.sessions.end(caller.user_id, session_id)
    return Done(success=True, message="the session has ended")


def query_of(
    user_id: str | None, limit: int, cursor: str | None, status: SessionState | None
) -> SessionQuery:
    """What is asked of the list: one more than is shown. Raises: ``BadField``."""
    return SessionQuery(user_id, status, limit + 1, None if cursor is None else read_cursor(cursor))


def page_of(found: Sequence[Session], limit: int) -> tuple[Sequence[Session], str | None]:
    """What is shown, and the cursor of the next page where there is one."""
    if len(found) <= limit:
        return found, None
    last = found[limit - 1]
    return found[:limit], write_cursor(last.created_at, last.session_id)
