"""What a bot says to Exotel, and whether it may. Pure.

The rules are Exotel's documented ones: JSON text; ``media``, ``mark`` and ``clear``; the payload valid
base64 of a multiple of 320 bytes, at most 100 000. What Exotel is known to take without documenting it
(``streamSid``, no id at all, chunks under the documented minimum of 3200 bytes) is odd, not illegal.
"""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass
from typing import Any, Final

from .outgoing import Leg

UNIT_BYTES: Final = 320
USUAL_MIN_BYTES: Final = 3200
PAYLOAD_MAX_BYTES: Final = 100_000
MARK_MAX_CHARS: Final = 256

# A chunk of the largest size in base64, its numbers, and room for what is refused by this module.
MESSAGE_MAX_BYTES: Final = 1 << 20

ILLEGAL: Final = {
    "binary": "a binary message; all of them are JSON text",
    "bad_json": "a message that is not a JSON object",
    "unknown_event": "an event that is not media, mark or clear",
    "unknown_key": "a key that no page of Exotel's knows",
    "wrong_stream": "the stream_sid of another stream",
    "no_payload": "media without a payload",
    "bad_base64": "a payload that is not base64",
    "empty": "a payload without audio",
    "not_320": "audio that is not a multiple of 320 bytes",
    "too_big": "audio of more than 100000 bytes in one message",
    "no_name": "a mark without a name of 1 to 256 characters",
    "too_far_ahead": "more audio or marks ahead of what was played than an hour of call can hold",
}
ODD: Final = {
    "short": "chunks under the documented minimum of 3200 bytes",
    "camel_case": "streamSid instead of stream_sid",
    "no_stream": "no stream_sid",
}

_TOP: Final = frozenset(
    ("event", "stream_sid", "streamSid", "sequence_number", "sequenceNumber", "media", "mark")
)
_MEDIA: Final = frozenset(("payload", "chunk", "timestamp", "sequence_number", "sequenceNumber"))


@dataclass(slots=True)
class Heard:
    """One message of the bot. ``audio`` and ``mark`` are empty where there is nothing to play or echo."""

    event: str = ""
    audio: bytes = b""
    mark: str = ""
    illegal: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()


class Incoming:
    """Reads the messages of one call."""

    def __init__(self, leg: Leg) -> None:
        self._stream_sid = leg.stream_sid
        self._sample_bytes = leg.sample_bytes

    def read(self, payload: bytes) -> Heard:
        """What a text message says, and what is wrong about it."""
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):
            return Heard(illegal=("bad_json",))
        if not isinstance(message, dict):
            return Heard(illegal=("bad_json",))
        event = message.get("event")
        if event not in ("media", "mark", "clear"):
            return Heard(illegal=("unknown_event",))
        heard = Heard(event)
        extra = _TOP - {"media", "mark"} | {event}
        if not message.keys() <= extra:
            heard.illegal = ("unknown_key",)
        if self._is_ours(message, heard):
            if event == "media":
                self._media(message.get("media"), heard)
            elif event == "mark":
                self._mark(message.get("mark"), heard)
        else:
            # Nothing of another stream is played, and least of all is this one cleared by it.
            heard.event = ""
        return heard

    def _is_ours(self, message: dict[str, Any], heard: Heard) -> bool:
        found = message.get("stream_sid")
        if found is None and "streamSid" in message:
            found = message["streamSid"]
            heard.odd = ("camel_case",)
        if found is None:
            heard.odd = ("no_stream",)
            return True
        if found != self._stream_sid:
            heard.illegal += ("wrong_stream",)
            return False
        return True

    def _media(self, media: object, heard: Heard) -> None:
        payload = media.get("payload") if isinstance(media, dict) else None
        if not isinstance(media, dict) or not isinstance(payload, str):
            heard.illegal += ("no_payload",)
            return
        if not media.keys() <= _MEDIA:
            heard.illegal += ("unknown_key",)
        try:
            audio = _decoded(payload)
        except ValueError:
            heard.illegal += ("bad_base64",)
            return
        if not audio or len(audio) > PAYLOAD_MAX_BYTES:
            heard.illegal += ("too_big" if audio else "empty",)
            return
        if len(audio) % UNIT_BYTES:
            heard.illegal += ("not_320",)
        elif len(audio) < USUAL_MIN_BYTES:
            heard.odd += ("short",)
        # A platform plays what it can; half a sample it cannot.
        heard.audio = audio[: len(audio) // self._sample_bytes * self._sample_bytes]

    def _mark(self, mark: object, heard: Heard) -> None:
        name = mark.get("name") if isinstance(mark, dict) else None
        if not isinstance(mark, dict) or not isinstance(name, str) or not 0 < len(name) <= MARK_MAX_CHARS:
            heard.illegal += ("no_name",)
            return
        if mark.keys() != {"name"}:
            heard.illegal += ("unknown_key",)
        heard.mark = name


def _decoded(payload: str) -> bytes:
    """What a payload holds. Raises: ``ValueError`` for what is not base64 to the last character."""
    audio = binascii.a2b_base64(payload, strict_mode=True)
    # The strict mode of Python 3.11 does not see padding where none is due.
    if len(payload) % 4 or len(audio) != len(payload) // 4 * 3 - payload[-2:].count("="):
        raise ValueError("the padding is wrong")
    return audio
