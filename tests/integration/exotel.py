"""Exotel, by hand: a caller that speaks its dialect over a WebSocket and keeps what the bot says."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.support.sockets import TEXT, frame

from .callers import Caller


class ExotelCaller(Caller):
    """One call. What it sends is written out here, and not by the code that reads it."""

    def __init__(self, call_id: str = "call-1", stream_sid: str = "sid-1") -> None:
        super().__init__()
        self.call_id, self.stream_sid = call_id, stream_sid
        self._sequence = self._chunk = 0

    def tell(self, event: str, **fields: Any) -> None:
        """Send one message; the numbers are text, as they come from Exotel."""
        self._sequence += 1
        message = {"event": event, "sequence_number": str(self._sequence), "stream_sid": self.stream_sid}
        self.send(frame(TEXT, json.dumps({**message, **fields}).encode()))

    def begin(self, rate: int = 8000, **parameters: str) -> None:
        """``connected`` and ``start``."""
        self.send(frame(TEXT, b'{"event":"connected"}'))
        self.tell(
            "start",
            start={
                "stream_sid": self.stream_sid,
                "call_sid": self.call_id,
                "account_sid": "acme1",
                "from": "09876543210",
                "to": "08012345678",
                "custom_parameters": parameters,
                "media_format": {"encoding": "audio/x-raw", "sample_rate": str(rate), "bit_rate": "16"},
            },
        )

    def speak(self, pcm: bytes) -> None:
        """One ``media``."""
        self._chunk += 1
        payload = base64.b64encode(pcm).decode()
        self.tell("media", media={"chunk": str(self._chunk), "timestamp": "0", "payload": payload})

    def hang_up(self) -> None:
        """``stop``."""
        self.tell("stop", stop={"call_sid": self.call_id, "account_sid": "acme1", "reason": "callended"})

    def heard_chunks(self) -> list[bytes]:
        """The audio of the bot, a message each."""
        return [base64.b64decode(one["media"]["payload"], validate=True) for one in self.events("media")]

    def heard(self) -> bytes:
        """All of it."""
        return b"".join(self.heard_chunks())
