"""The dialect of Exotel's Voicebot applet: JSON text both ways, PCM16LE in base64 inside it.

Exotel to daemon: ``connected``, ``start``, ``media``, ``dtmf``, ``mark``, ``stop``. Daemon to Exotel:
``media``, ``mark``, ``clear``. Its own pages disagree on spellings and on numbers, so every one of
them is read, and the documented one is written.
Sources: protocols.md sections 1.1 (fields), 1.2 (what is sent), 1.3 (what really arrives); Exotel's
support article 3000108630 "Working with the Stream and Voicebot applet" and github exotel/Agent-Stream.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from pybase64 import b64decode, b64encode

from ..errors import BadAudio, BadField, FrameTooBig
from ..limits import CALL_PARAMETER_MAX_CHARS, CALL_PARAMETERS_MAX_COUNT, EXOTEL_MESSAGE_MAX_BYTES
from .fields import identifier, is_identifier, json_object

# Samples per second Exotel can be asked for (protocols.md section 1.4).
EXOTEL_RATES: Final = (8000, 16000, 24000)

_DIGITS: Final = frozenset("0123456789*#ABCD")
_MULAW: Final = ("mulaw", "ulaw", "pcmu")

# Numbers a message may carry: what JSON can carry exactly (RFC 8259 section 6), in this many digits.
_NUMBER_MAX: Final = 2**53
_NUMBER_MAX_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class Connected:
    """The socket is up; nothing is said of the call yet."""


@dataclass(frozen=True, slots=True)
class Start:
    """The call begins. ``""`` and 0 stand for what was not said, or not in a way that is usable."""

    stream_sid: str
    call_id: str
    account_sid: str
    caller: str
    callee: str
    parameters: Mapping[str, str]
    encoding: str
    sample_rate: int
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Media:
    """The caller's voice, in the encoding of the ``start``; any number of bytes.

    Its ``chunk`` and ``timestamp`` say nothing that the order of arrival does not, and are not read.
    """

    payload: bytes
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Dtmf:
    """The caller pressed a key."""

    digit: str
    duration_ms: int | None
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Mark:
    """What was sent before our mark of this name has been played."""

    name: str
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Stop:
    """The call is over."""

    reason: str
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Clear:
    """Named among the events, but only ever documented the other way: nothing follows from it."""

    sequence: int | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """An event of tomorrow."""

    sequence: int | None


Message = Connected | Start | Media | Dtmf | Mark | Stop | Clear | Unknown


def decode(payload: bytes) -> Message:
    """Read one message of Exotel.

    Raises: ``BadJson``, ``BadField``, ``BadAudio``, ``FrameTooBig``; nothing else escapes, whatever
    the bytes are.
    """
    if len(payload) > EXOTEL_MESSAGE_MAX_BYTES:
        raise FrameTooBig
    fields = json_object(payload)
    event = fields.get("event")
    sequence = whole_number(_first(fields, "sequence_number", "sequenceNumber"))
    if event == "media":
        return _media(fields, sequence)
    if not isinstance(event, str):
        raise BadField("event is missing or is not text")
    match event:
        case "connected":
            return Connected()
        case "start":
            return _start(fields, sequence)
        case "dtmf":
            return _dtmf(_part(fields, "dtmf"), sequence)
        case "mark":
            return Mark(identifier(_part(fields, "mark"), "name"), sequence)
        case "stop":
            return Stop(_text(_part(fields, "stop"), "reason"), sequence)
        case "clear":
            return Clear(sequence)
        case _:
            return Unknown(sequence)


def whole_number(value: object) -> int | None:
    """A number, whether it was sent as one or as text of digits; ``None`` when it is not usable."""
    if isinstance(value, str):
        digits = value.strip()
        # int() takes signs, underscores and the digits of every script, and refuses 4301 of them.
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _NUMBER_MAX_CHARS):
            return None
        number = int(digits)
        return number if number <= _NUMBER_MAX else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # An infinity (1e400) is beyond the bound like any number too large.
    return int(value) if 0 <= value <= _NUMBER_MAX else None


# --- one event each ------------------------------------------------------------------------


def _media(fields: dict[str, Any], sequence: int | None) -> Media:
    media = fields.get("media")
    encoded = media.get("payload") if isinstance(media, dict) else None
    if not isinstance(media, dict) or not isinstance(encoded, str):
        raise BadField("media.payload is missing or is not text")
    try:
        payload = b64decode(encoded, validate=True)
    except ValueError:
        raise BadAudio from None
    return Media(payload, sequence)


def _start(fields: dict[str, Any], sequence: int | None) -> Start:
    start = _part(fields, "start")
    audio = _first(start, "media_format", "mediaFormat", "MediaFormat")
    audio = audio if isinstance(audio, dict) else {}
    encoding = _text(audio, "encoding").lower().replace("-", "").replace("_", "")
    rate = whole_number(_first(audio, "sample_rate", "sampleRate"))
    return Start(
        _sid(start, fields, "stream_sid", "streamSid"),
        _sid(start, fields, "call_sid", "callSid"),
        _text(start, "account_sid", "accountSid"),
        _text(start, "from"),
        _text(start, "to"),
        _parameters(_first(start, "custom_parameters", "customParameters")),
        "mulaw" if any(name in encoding for name in _MULAW) else "pcm16",
        rate if rate in EXOTEL_RATES else 0,
        sequence,
    )


def _dtmf(dtmf: dict[str, Any], sequence: int | None) -> Dtmf:
    digit = dtmf.get("digit")
    digit = str(digit) if isinstance(digit, int) else digit
    if not isinstance(digit, str) or digit not in _DIGITS:
        raise BadField("dtmf.digit is one of 0-9 * # A-D")
    return Dtmf(digit, whole_number(dtmf.get("duration")), sequence)


# --- fields --------------------------------------------------------------------------------


def _part(fields: dict[str, Any], name: str) -> dict[str, Any]:
    part = fields.get(name)
    return part if isinstance(part, dict) else {}


def _first(fields: Mapping[str, Any], *names: str) -> Any:
    """The first that was said; null and "" are as good as not said."""
    for name in names:
        value = fields.get(name)
        if value is not None and value != "":
            return value
    return None


def _sid(start: dict[str, Any], fields: dict[str, Any], *names: str) -> str:
    """An id of the start, else of the envelope; "" where neither can be a name: the URL has one, or we do."""
    return _text(start, *names) or _text(fields, *names)


def _text(fields: dict[str, Any], *names: str) -> str:
    """Something that is only passed on: no call is refused for it."""
    value = _first(fields, *names)
    return value if isinstance(value, str) and is_identifier(value) else ""


def _parameters(said: object) -> Mapping[str, str]:
    kept: dict[str, str] = {}
    if isinstance(said, dict):
        for name, value in said.items():
            if len(kept) < CALL_PARAMETERS_MAX_COUNT and _is_parameter(name) and _is_parameter(value):
                kept[name] = value
    return MappingProxyType(kept)


def _is_parameter(value: object) -> bool:
    return isinstance(value, str) and len(value) <= CALL_PARAMETER_MAX_CHARS and value.isprintable()


# --- writing -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parts:
    """How every message to one stream begins."""

    media: bytes
    mark: bytes
    clear: bytes


def parts(stream_sid: str) -> Parts:
    """Encode once what all messages to a stream have in common."""
    begin = b'{"event":"%b","stream_sid":' + json.dumps(stream_sid).encode().replace(b"%", b"%%")
    begin += b',"sequence_number":"'
    return Parts(begin % b"media", begin % b"mark", begin % b"clear")


def encode_media(parts: Parts, payload: bytes, sequence: int, chunk: int, timestamp_ms: int) -> bytes:
    """Write a chunk of audio. Its numbers are text, as Exotel's field table has them."""
    return b'%b%d","media":{"chunk":"%d","timestamp":"%d","payload":"%b"}}' % (
        parts.media, sequence, chunk, timestamp_ms, b64encode(payload),
    )


def encode_mark(parts: Parts, name: str, sequence: int) -> bytes:
    """Write a mark, which comes back when everything before it has been played."""
    return b'%b%d","mark":{"name":%b}}' % (parts.mark, sequence, json.dumps(name).encode())


def encode_clear(parts: Parts, sequence: int) -> bytes:
    """Write the order to forget what is queued."""
    return b'%b%d"}' % (parts.clear, sequence)
