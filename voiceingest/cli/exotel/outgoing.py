"""What Exotel says to a bot, message by message, in the documented spelling. Pure.

Events and fields are those of Exotel's Voicebot applet as documented (support article "Working with
the Stream and Voicebot Applet" and the AgentStream pages of developer.exotel.com): snake_case, and
every value a string, numbers too. ``connected`` carries nothing else; ``start`` has the first number.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ENCODINGS: Final = {"pcm16": "audio/x-raw", "mulaw": "audio/x-mulaw"}
SAMPLE_BYTES: Final = {"pcm16": 2, "mulaw": 1}

# What of a URL's query comes back in ``start``.
PARAMETERS_MAX_COUNT: Final = 3
PARAMETERS_MAX_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class Leg:
    """One call as ``start`` tells it: who calls whom, under which names, in what audio."""

    call_sid: str
    stream_sid: str
    account_sid: str = "simulated1"
    caller: str = "09876543210"
    called: str = "08012345678"
    sample_rate: int = 8000
    codec: str = "pcm16"
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample on the wire."""
        return SAMPLE_BYTES[self.codec]


class Outgoing:
    """The messages of one call, each as it goes onto the wire; numbers them as they are made."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg
        self._sequence = 0
        self._chunk = 0
        self._sent_bytes = 0
        self._stream_sid = json.dumps(leg.stream_sid)

    def connected(self) -> bytes:
        """The first message: there is a connection."""
        return b'{"event":"connected"}'

    def start(self) -> bytes:
        """The second one: what is about to come."""
        leg = self._leg
        told = {
            "stream_sid": leg.stream_sid,
            "call_sid": leg.call_sid,
            "account_sid": leg.account_sid,
            "from": leg.caller,
            "to": leg.called,
            "custom_parameters": dict(leg.parameters),
            "media_format": {
                "encoding": ENCODINGS[leg.codec],
                "sample_rate": str(leg.sample_rate),
                "bit_rate": str(leg.sample_bytes * 8),
            },
        }
        return self._message("start", start=told)

    def media(self, audio: bytes) -> bytes:
        """The next piece of audio; its timestamp is when it began, in ms since the stream did."""
        self._sequence += 1
        self._chunk += 1
        samples = self._sent_bytes // self._leg.sample_bytes
        self._sent_bytes += len(audio)
        # Hundreds of calls send ten of these a second each, and nothing in it needs an escape.
        return (
            f'{{"event":"media","sequence_number":"{self._sequence}","stream_sid":{self._stream_sid},'
            f'"media":{{"chunk":"{self._chunk}","timestamp":"{samples * 1000 // self._leg.sample_rate}",'
            f'"payload":"{b64encode(audio).decode()}"}}}}'
        ).encode()

    def dtmf(self, digit: str, duration_ms: int) -> bytes:
        """A key was pressed."""
        return self._message("dtmf", dtmf={"digit": digit, "duration": str(duration_ms)})

    def mark(self, name: str) -> bytes:
        """Everything before this mark of the bot's has been played."""
        return self._message("mark", mark={"name": name})

    def stop(self, reason: str = "callended") -> bytes:
        """The last message; the connection is closed after it."""
        leg = self._leg
        told = {"call_sid": leg.call_sid, "account_sid": leg.account_sid, "reason": reason}
        return self._message("stop", stop=told)

    def _message(self, event: str, **told: Any) -> bytes:
        self._sequence += 1
        head = {"event": event, "sequence_number": str(self._sequence), "stream_sid": self._leg.stream_sid}
        return json.dumps({**head, **told}).encode()
