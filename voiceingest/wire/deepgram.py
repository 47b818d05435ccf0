"""Deepgram's live transcription, ``/v1/listen``: what it is asked, told, and what it answers.

Sources: developers.deepgram.com (listen-streaming reference, "Audio keep alive", "Finalize", "Close
stream", "Recovering from connection errors"), and the message types of ``deepgram-sdk`` 7.17 on PyPI,
against which ``tests/wire/test_deepgram.py`` checks both directions. The reference names four answers
(``Results``, ``SpeechStarted``, ``UtteranceEnd``, ``Metadata``); the SDK knows ``Error`` as well.

To Deepgram go binary messages of raw audio, never an empty one (that would end the stream), and three
texts. All its answers are text. Times are seconds of the connection's own audio: a new connection
begins at 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from ..errors import BadField, BadJson
from ..limits import TRANSCRIPT_MAX_CHARS

KEEP_ALIVE: Final = b'{"type":"KeepAlive"}'
FINALIZE: Final = b'{"type":"Finalize"}'
CLOSE_STREAM: Final = b'{"type":"CloseStream"}'

# No call lasts ten years; what claims more would only make large numbers of ours.
_TIME_MAX_S: Final = 10 * 365 * 86400.0

# Of the statuses that say "not like this", these say "not now".
_BUSY: Final = (408, 429)
_POLICY_VIOLATION: Final = 1008


@dataclass(frozen=True, slots=True)
class Results:
    """What was understood of ``start_s`` to ``start_s + duration_s``; silence has no text."""

    text: str
    start_s: float
    duration_s: float
    is_final: bool
    speech_final: bool
    from_finalize: bool
    confidence: float


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody began to speak."""

    at_s: float


@dataclass(frozen=True, slots=True)
class UtteranceEnd:
    """Nobody has spoken since the word that ended then, by the words."""

    last_word_end_s: float


@dataclass(frozen=True, slots=True)
class Metadata:
    """The account that follows ``CloseStream``: every result there is has been sent."""

    request_id: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """An error, in Deepgram's words."""

    description: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message that means nothing to us."""

    kind: str


Answer = Results | SpeechStarted | UtteranceEnd | Metadata | Failed | Unknown


def decode(payload: bytes) -> Answer:
    """Read one answer. Raises: ``BadJson``, ``BadField``, and nothing else for any bytes."""
    fields = _object(payload)
    kind = _text(fields, "type")
    if kind == "Results":
        return _results(fields)
    if kind == "SpeechStarted":
        return SpeechStarted(_time(fields, "timestamp"))
    if kind == "UtteranceEnd":
        # Where no word was heard it is -1.
        return UtteranceEnd(max(0.0, _number(fields, "last_word_end")))
    if kind == "Metadata":
        return Metadata(_text(fields, "request_id"), _time(fields, "duration"))
    if kind == "Error":
        return Failed(_text(fields, "description"))
    return Unknown(kind)


class IListenSettings(Protocol):
    """What of the settings goes into the address; this floor does not know the rest."""

    @property
    def deepgram_url(self) -> str:
        """Without a query."""

    @property
    def deepgram_model(self) -> str:
        """Model that transcribes."""

    @property
    def deepgram_language(self) -> str:
        """Language that is spoken."""

    @property
    def deepgram_endpointing_ms(self) -> int:
        """Silence that ends a turn."""

    @property
    def deepgram_utterance_end_ms(self) -> int:
        """The same by the words."""


def listen_url(settings: IListenSettings, sample_rate: int) -> str:
    """Where a stream of that rate is transcribed, as the settings want it: ``ws:`` or ``wss:``."""
    # An operator may well write the address as it stands on Deepgram's pages for whole files.
    scheme, separator, rest = settings.deepgram_url.partition("://")
    url = f"{scheme.replace('http', 'ws')}{separator}{rest}"
    query = {
        "model": settings.deepgram_model,
        "language": settings.deepgram_language,
        "encoding": "linear16",
        "sample_rate": sample_rate,
        "channels": 1,
        "interim_results": "true",
        "endpointing": settings.deepgram_endpointing_ms,
        "utterance_end_ms": settings.deepgram_utterance_end_ms,
        "vad_events": "true",
        "smart_format": "true",
        "punctuate": "true",
    }
    return f"{url}?{urlencode(query)}"


def is_refusal(http_status: int | None, close_code: int | None) -> bool:
    """Whether it is of no use to ask again: a wrong key, no money, a model there is not, bad audio."""
    if http_status is not None:
        return 400 <= http_status < 500 and http_status not in _BUSY
    return close_code == _POLICY_VIOLATION


def _results(fields: Mapping[str, Any]) -> Results:
    channel = fields.get("channel")
    alternatives = channel.get("alternatives") if isinstance(channel, dict) else None
    if not isinstance(alternatives, list):
        raise BadField("channel.alternatives is missing or is no list")
    best: Any = alternatives[0] if alternatives else {"transcript": "", "confidence": 0.0}
    if not isinstance(best, dict):
        raise BadField("channel.alternatives holds something else than objects")
    return Results(
        text=_text(best, "transcript", TRANSCRIPT_MAX_CHARS),
        start_s=_time(fields, "start"),
        duration_s=_time(fields, "duration"),
        is_final=_flag(fields, "is_final"),
        speech_final=_flag(fields, "speech_final"),
        from_finalize=_flag(fields, "from_finalize"),
        confidence=min(1.0, max(0.0, _number(best, "confidence"))),
    )


def _object(payload: bytes) -> Mapping[str, Any]:
    try:
        decoded = json.loads(payload.decode())
    except (ValueError, RecursionError):
        raise BadJson from None
    if not isinstance(decoded, dict):
        raise BadJson
    return decoded


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    # NaN fails every comparison; a whole number may have more digits than a float can take.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _TIME_MAX_S:
        raise BadField(f"{name} is a number")
    return float(value)


def _time(fields: Mapping[str, Any], name: str) -> float:
    value = _number(fields, name)
    if value < 0:
        raise BadField(f"{name} is a time from 0 on, in seconds")
    return value


def _text(fields: Mapping[str, Any], name: str, max_chars: int = 1024) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > max_chars:
        raise BadField(f"{name} is text of at most {max_chars} characters")
    return value


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    # Absent is no, and so is null: the types say "optional".
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadField(f"{name} is true or false")
    return bool(value)
