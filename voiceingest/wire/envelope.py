"""What is put on the bus: one JSON object for a frame, one for an event. Pure; remembers nothing.

A frame is ``{"tenant_id","interaction_id","seq","timestamp_ms","sample_rate","encoding","audio"}``
in this order and without spaces, ``audio`` in base64 (RFC 4648 section 4); an event is
``{"event","tenant_id","interaction_id","timestamp_ms",...}`` (contract section 1). What is the same
for every frame of a stream is encoded once: a frame costs one base64 call and one ``%``.

Text is written as ASCII with ``\\u`` escapes: it is then valid whatever the identifiers hold.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pybase64 import b64decode, b64encode

from ..errors import BadField, BadJson

# (all up to the seq, all between the time stamp and the base64): what one stream's frames share.
FrameParts = tuple[bytes, bytes]

FRAME_END: Final = b'"}'

_RESERVED: Final = ("event", "tenant_id", "interaction_id", "timestamp_ms")
_PLACEHOLDER: Final = re.compile(r"{(tenant_id|interaction_id)}")


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """One frame as a consumer of the bus sees it; ``audio`` is decoded."""

    tenant_id: str
    interaction_id: str
    seq: int
    timestamp_ms: int
    sample_rate: int
    encoding: str
    audio: bytes


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def frame_parts(tenant_id: str, interaction_id: str, sample_rate: int, encoding: str) -> FrameParts:
    """Encode once what every frame of a stream has in common."""
    prefix = b'{"tenant_id":%b,"interaction_id":%b,"seq":' % (_json(tenant_id), _json(interaction_id))
    middle = b',"sample_rate":%d,"encoding":%b,"audio":"' % (sample_rate, _json(encoding))
    return prefix, middle


def encode_frame(parts: FrameParts, seq: int, timestamp_ms: int, audio: bytes) -> bytes:
    """Encode one frame of the stream ``parts`` were made for."""
    prefix, middle = parts
    return b'%b%d,"timestamp_ms":%d%b%b"}' % (prefix, seq, timestamp_ms, middle, b64encode(audio))


def encode_halves(parts: FrameParts, seq: int, timestamp_ms: int, audio: bytes) -> tuple[bytes, bytes]:
    """One frame as what stands before its base64 and the base64; ``FRAME_END`` stands behind.

    For who joins many frames into one write: the audio is then copied once less.
    """
    prefix, middle = parts
    return b'%b%d,"timestamp_ms":%d%b' % (prefix, seq, timestamp_ms, middle), b64encode(audio)


def decode_frame(payload: bytes) -> FrameMessage:
    """Decode one frame. Raises: ``BadJson``, ``BadField``, and nothing else for any bytes."""
    fields = _decode_object(payload)
    try:
        return FrameMessage(
            tenant_id=_typed(fields, "tenant_id", str),
            interaction_id=_typed(fields, "interaction_id", str),
            seq=_typed(fields, "seq", int),
            timestamp_ms=_typed(fields, "timestamp_ms", int),
            sample_rate=_typed(fields, "sample_rate", int),
            encoding=_typed(fields, "encoding", str),
            audio=b64decode(_typed(fields, "audio", str), validate=True),
        )
    except (binascii.Error, ValueError) as error:
        raise BadField("audio is not base64") from error


def encode_event(
    event: str, tenant_id: str, interaction_id: str, timestamp_ms: int, fields: Mapping[str, Any]
) -> bytes:
    """Encode one event; ``fields`` come after the four common ones and cannot replace them.

    Raises: ``TypeError``, ``ValueError`` for fields that JSON cannot hold: that is our own mistake.
    """
    common = dict(zip(_RESERVED, (event, tenant_id, interaction_id, timestamp_ms), strict=True))
    return _json({**common, **{name: value for name, value in fields.items() if name not in common}})


def decode_event(payload: bytes) -> dict[str, Any]:
    """Decode one event. Raises: ``BadJson``, ``BadField``, and nothing else for any bytes."""
    fields = _decode_object(payload)
    for name, kind in zip(_RESERVED, (str, str, str, int), strict=True):
        _typed(fields, name, kind)
    return fields


def channel_name(template: str, tenant_id: str, interaction_id: str) -> bytes:
    """Fill a channel template such as ``audio:frames:{tenant_id}``.

    ``:`` and ``%`` inside an identifier are percent-encoded, so that no identifier can reach into
    the channels of another tenant (``{tenant_id}:{interaction_id}`` stays unambiguous).
    """
    values = {"tenant_id": tenant_id, "interaction_id": interaction_id}

    def fill(found: re.Match[str]) -> str:
        return values[found[1]].replace("%", "%25").replace(":", "%3A")

    # One pass: an identifier that looks like a placeholder is not filled again.
    # surrogatepass: JSON may carry lone surrogates, and two names must not become one.
    return _PLACEHOLDER.sub(fill, template).encode("utf-8", "surrogatepass")


def _decode_object(payload: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadJson from error
    if not isinstance(decoded, dict):
        raise BadJson
    return decoded


def _typed(fields: Mapping[str, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    # bool is an int to isinstance and is not one on the wire.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadField(f"{name} is missing or of the wrong type")
    return value
