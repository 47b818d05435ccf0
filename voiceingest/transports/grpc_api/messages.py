"""Sessions as gRPC tells them, and what its callers say of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from ...errors import BadField
from ...limits import SESSION_JSON_MAX_DEPTH_COUNT
from ...session_interfaces import Session, SessionEdit
from ...stream import SessionState
from .generated import session_pb2 as pb

_STATUS: Final = {
    SessionState.PENDING: pb.SESSION_STATUS_PENDING,
    SessionState.ACTIVE: pb.SESSION_STATUS_ACTIVE,
    SessionState.COMPLETED: pb.SESSION_STATUS_COMPLETED,
    SessionState.ERROR: pb.SESSION_STATUS_ERROR,
    SessionState.EXPIRED: pb.SESSION_STATUS_EXPIRED,
}
_STATES: Final = {number: state for state, number in _STATUS.items()}

# The fields of a request that are merged into what is kept.
_EDITABLE: Final = ("audio_config", "voice_config", "metadata", "context")


def told(session: Session, now: float) -> pb.Session:
    """The message of a session; ``now`` is in seconds since the epoch."""
    end = now if session.ended_at is None else session.ended_at
    return pb.Session(
        session_id=session.session_id,
        status=_STATUS[session.status],
        transport=session.transport,
        audio_config=_struct(session.audio_config),
        voice_config=_struct(session.voice_config),
        metadata=_struct(session.metadata),
        context=_struct(session.context),
        created_at=_timestamp(session.created_at),
        updated_at=_timestamp(session.updated_at),
        expires_at=_timestamp(session.expires_at),
        started_at=_timestamp(session.started_at),
        ended_at=_timestamp(session.ended_at),
        duration_s=0.0 if session.started_at is None else max(0.0, round(end - session.started_at, 3)),
        reason=session.reason,
        frames=session.frames,
    )


def state_of(number: pb.SessionStatus) -> SessionState | None:
    """The state a request asks for; ``None`` for any. Raises: ``BadField``."""
    if number == pb.SESSION_STATUS_UNSPECIFIED:
        return None
    if number not in _STATES:
        raise BadField("status is none of the SessionStatus")
    return _STATES[number]


def edit_of(request: pb.StartSessionRequest | pb.UpdateSessionConfigRequest) -> SessionEdit:
    """What a request wants to be kept. Raises: ``BadField``."""
    there = {field.name for field, _ in request.ListFields()}
    return SessionEdit(**{
        name: _mapping(getattr(request, name)) for name in _EDITABLE if name in there
    })


def _struct(mapping: Mapping[str, Any]) -> Struct:
    struct = Struct()
    struct.update(mapping)
    return struct


def _timestamp(seconds: float | None) -> Timestamp | None:
    if seconds is None:
        return None
    whole = math.floor(seconds)
    return Timestamp(seconds=whole, nanos=min(999_999_999, round((seconds - whole) * 1e9)))


def _mapping(struct: Struct, depth: int = 0) -> dict[str, Any]:
    if depth > SESSION_JSON_MAX_DEPTH_COUNT:
        raise BadField("a field is nested too deeply")
    return {name: _plain(value, depth) for name, value in struct.fields.items()}


def _plain(value: Value, depth: int) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _mapping(value.struct_value, depth + 1)
    if kind == "list_value":
        return _list(value.list_value, depth + 1)
    if kind == "number_value":
        return _number(value.number_value)
    # A value of no kind is null, as its JSON is.
    return None if kind in (None, "null_value") else getattr(value, kind)


def _list(values: ListValue, depth: int) -> list[Any]:
    if depth > SESSION_JSON_MAX_DEPTH_COUNT:
        raise BadField("a field is nested too deeply")
    return [_plain(value, depth) for value in values.values]


def _number(number: float) -> int | float:
    """Structs know doubles only: 24000 came as 24000.0."""
    if not math.isfinite(number):
        raise BadField("a number is not finite")
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
