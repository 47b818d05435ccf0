"""A transcriber's neighbours in memory: connections that do what the test says, and a clock."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock

from voiceingest.audio import AudioFormat
from voiceingest.call_interfaces import Transcript
from voiceingest.config import Settings
from voiceingest.deadlines import Deadlines
from voiceingest.metrics import Metrics
from voiceingest.transcribing.notices import Notices
from voiceingest.transcribing.socket import DeepgramSocket, Ending
from voiceingest.transcribing.transcriber import Means, Transcriber

AUDIO = AudioFormat(8000)
# 20 ms.
FRAME = b"\1\0" * 160


def results(start: float, duration: float, text: str = "words", **flags: bool) -> bytes:
    """A ``Results`` message; final unless told otherwise."""
    alternative = {"transcript": text, "confidence": 0.5, "words": []}
    fields = {"start": start, "duration": duration, "channel": {"alternatives": [alternative]}}
    return json.dumps({"type": "Results", **fields, "is_final": True, **flags}).encode()


class Connection:
    """One that was dialled: what was written to it, and how it ends."""

    def __init__(self, link: DeepgramSocket, rate: int) -> None:
        self.link = link
        self.rate = rate
        self.audio = b""
        self.texts: list[str] = []
        self.aborted = False
        link.send, link.say, link.abort = self.send, self.say, self.abort  # type: ignore[method-assign]

    def send(self, audio: bytes) -> None:
        assert audio and not self.aborted
        self.audio += audio

    def say(self, text: bytes) -> None:
        assert not self.aborted
        self.texts.append(json.loads(text)["type"])

    def abort(self) -> None:
        self.aborted = True

    def open(self) -> None:
        self.link.opened("r1")

    def end(self, reason: str, http_status: int | None = None, close_code: int | None = None) -> None:
        self.link.ended(Ending(reason, http_status, close_code))


class Listener:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[Transcript] = []
        self.started = 0

    def transcript(self, transcript: Transcript) -> None:
        self.heard.append(transcript)

    def speech_started(self) -> None:
        self.started += 1


class World:
    """Provides ``Dial``, and all that a transcriber asks for."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.metrics = Metrics()
        self.deadlines = Deadlines(self.clock)
        self.connections: list[Connection] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        # What every attempt ends with before ``connect`` returns.
        self.fails_at_once: Ending | None = None
        self.means = Means(
            Settings(**settings),
            self,  # type: ignore[arg-type]
            self.clock,
            self.deadlines,
            self.metrics,
            Notices(self.clock),
            lambda: 1.0,
        )

    def connect(self, link: DeepgramSocket, sample_rate: int) -> None:
        """``Dial``."""
        self.connections.append(Connection(link, sample_rate))
        if self.fails_at_once is not None:
            link.ended(self.fails_at_once)

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        """Take an event of a stream."""
        self.events.append((event, fields))

    def transcriber(self, *listeners: Listener) -> Transcriber:
        """One for a stream of ``AUDIO``."""
        return Transcriber(AUDIO, self.means, self.publish_event, listeners)

    def pump(self, seconds: float) -> None:
        """Let time go by in steps too short to be taken for a stall."""
        self.clock.pump([0.05] * round(seconds / 0.05))

    def named(self, event: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [fields for name, fields in self.events if name == event]
