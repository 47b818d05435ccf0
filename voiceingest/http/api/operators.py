"""Routes of operators: everybody's sessions and devices. Who may ask is decided around them."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query

from ...errors import DeviceNotFound, EditConflict, IllegalMove, SessionNotFound
from .device_models import DevicePage, DeviceShown
from .document import refused
from .routes import OpenRoute, Parts
from .session_models import OwnedPage, OwnedRow, OwnedSession, row_of, whole_of
from .sessions import Cursor, Limit, SessionId, Status, page_of, query_of
from .shapes import Done

operator_routes: Final = APIRouter(route_class=OpenRoute, tags=["Operators"])

DeviceId = Annotated[str, Path(alias="id", description="The id of a device.", max_length=128)]
DeviceCursor = Annotated[
    str | None,
    Query(max_length=64, pattern="^[A-Za-z0-9_-]+$", description="`nextCursor` of the page before this one."),
]
UserId = Annotated[str | None, Query(alias="userId", max_length=128, description="Only those of this user.")]


@operator_routes.get(
    "/api/admin/sessions", operation_id="listEverySession", summary="List the sessions of everybody"
)
async def sessions(
    parts: Parts, limit: Limit = 50, cursor: Cursor = None, status: Status = None, user_id: UserId = None
) -> OwnedPage:
    """Newest first, without configuration and context."""
    query = query_of(user_id, limit, cursor, status)
    found, following = page_of(await parts.sessions.page(query), limit)
    now = parts.wall_clock()
    rows = [OwnedRow.model_validate(row_of(session, now)) for session in found]
    return OwnedPage(sessions=rows, next_cursor=following)


@operator_routes.get(
    "/api/admin/sessions/{id}",
    operation_id="getAnySession",
    summary="Look at a session of anybody",
    responses=refused(SessionNotFound),
)
async def session(parts: Parts, session_id: SessionId) -> OwnedSession:
    """Everything that is known of it, and whose it is."""
    found = await parts.sessions.get(None, session_id)
    return OwnedSession.model_validate(whole_of(found, parts.wall_clock()))


@operator_routes.delete(
    "/api/admin/sessions/{id}",
    operation_id="endAnySession",
    summary="End a session of anybody",
    responses=refused(SessionNotFound, IllegalMove, EditConflict),
)
async def end_session(parts: Parts, session_id: SessionId) -> Done:
    """The session is `completed`, and its stream ends: what has come is published first."""
    await parts.sessions.end(None, session_id)
    return Done(success=True, message="the session has ended")


@operator_routes.get("/api/admin/devices", operation_id="listDevices", summary="List the devices")
async def devices(parts: Parts, limit: Limit = 50, cursor: DeviceCursor = None) -> DevicePage:
    """By id. What they call themselves is not kept."""
    found = await parts.devices.devices(limit, cursor)
    following = found[-1].device_id if len(found) >= limit else None
    return DevicePage(devices=[DeviceShown.of(device) for device in found], next_cursor=following)


@operator_routes.post(
    "/api/admin/devices/{id}/revoke",
    operation_id="revokeDevice",
    summary="Revoke a device for good",
    responses=refused(DeviceNotFound),
)
async def revoke_device(parts: Parts, device_id: DeviceId) -> Done:
    """Its tokens are revoked, its streams end, and it cannot register again."""
    await parts.devices.revoke_device(device_id)
    return Done(success=True, message="the device is revoked for good")
