"""The ingest dialect of ``/v1/ingest``: JSON control text beside binary PCM16LE frames.

Client to daemon: ``start``, ``stop``, ``auth``. Daemon to client: ``started``, ``ack``,
``stopped``, ``moved``, ``gap``, ``auth_expiring``, ``authenticated``, ``goaway``, ``error``.
Source: the contract of this project, section 1; ``docs/reference/wire.md`` is written from it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..audio import SAMPLE_BYTES, SAMPLE_RATES, AudioFormat
from ..errors import BadField, FrameTooBig, UnknownEvent, UnsupportedAudio, VoiceIngestError
from ..limits import CONTROL_MAX_BYTES, RESUME_TOKEN_MAX_BYTES, SEQ_MAX_COUNT, TOKEN_MAX_BYTES
from .fields import identifier, json_object


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a stream, or with a ``resume_token`` go on with one; 0 and 1 stand for what was not said."""

    tenant_id: str
    interaction_id: str
    audio: AudioFormat
    resume_token: str | None = None
    acked: int = 0
    from_seq: int = 1
    resumable: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """No more audio will come."""


@dataclass(frozen=True, slots=True)
class Auth:
    """A fresh token for a stream that goes on."""

    token: str


def decode(payload: bytes) -> Start | Stop | Auth:
    """Read one control message.

    Raises: ``BadJson``, ``BadField``, ``UnknownEvent``, ``UnsupportedAudio``, ``FrameTooBig``;
    nothing else escapes, whatever the bytes are.
    """
    if len(payload) > CONTROL_MAX_BYTES:
        raise FrameTooBig
    fields = json_object(payload)
    event = fields.get("event")
    if event == "start":
        return _start(fields)
    if event == "stop":
        return Stop()
    if event == "auth":
        return Auth(_text(fields, "token", TOKEN_MAX_BYTES))
    if not isinstance(event, str):
        raise BadField("event is missing or is not text")
    raise UnknownEvent


def encode(event: str, **fields: Any) -> bytes:
    """Write one message of the daemon, compact, in the order of the arguments."""
    return json.dumps({"event": event, **fields}, separators=(",", ":")).encode()


def encode_ack(seq: int) -> bytes:
    """Write an ``ack``: the one message that is sent often."""
    return b'{"event":"ack","seq":%d}' % seq


def encode_error(error: VoiceIngestError) -> bytes:
    """Write an error with its stable code."""
    return encode("error", code=error.code, message=error.message)


def _start(fields: dict[str, Any]) -> Start:
    resumable = fields.get("resumable", False)
    if not isinstance(resumable, bool):
        raise BadField("resumable is true or false")
    return Start(
        identifier(fields, "tenant_id"),
        identifier(fields, "interaction_id"),
        _audio(fields),
        _text(fields, "resume_token", RESUME_TOKEN_MAX_BYTES) if "resume_token" in fields else None,
        _seq(fields, "acked", 0),
        _seq(fields, "from_seq", 1),
        resumable,
    )


def _audio(fields: dict[str, Any]) -> AudioFormat:
    rate = fields.get("sample_rate", AudioFormat().sample_rate)
    encoding = fields.get("encoding", AudioFormat().encoding)
    if isinstance(rate, bool) or not isinstance(rate, int) or not isinstance(encoding, str):
        raise BadField("sample_rate is a whole number, encoding is text")
    if rate not in SAMPLE_RATES or encoding not in SAMPLE_BYTES:
        raise UnsupportedAudio
    return AudioFormat(rate, encoding)


def _seq(fields: dict[str, Any], name: str, least: int) -> int:
    value = fields.get(name, least)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= SEQ_MAX_COUNT:
        raise BadField(f"{name} is a whole number from {least} on")
    return value


def _text(fields: dict[str, Any], name: str, max_chars: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= max_chars:
        raise BadField(f"{name} is text of 1 to {max_chars} characters")
    return value
