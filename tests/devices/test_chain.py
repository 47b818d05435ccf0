from __future__ import annotations

from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.audio import AudioFormat
from voiceingest.devices import Chain
from voiceingest.errors import VoiceIngestError
from voiceingest.interfaces import StreamFacts
from voiceingest.session_interfaces import ILiveStream, IStreamRecords

FACTS = StreamFacts("acme", "call", AudioFormat())


class Line:
    """A live stream nobody ends."""

    def hang_up(self, error: VoiceIngestError | None) -> None:
        """ILiveStream."""


class Notes:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def began(self, stream: ILiveStream, facts: StreamFacts, subject: str, transport: str) -> None:
        """IStreamRecords."""
        self.heard.append((stream, facts, subject, transport))

    def ended(self, stream: ILiveStream, reason: str, frames: int) -> None:
        """IStreamRecords."""
        self.heard.append((stream, reason, frames))


class Broken:
    """Fails at everything."""

    def began(self, stream: ILiveStream, facts: StreamFacts, subject: str, transport: str) -> None:
        """IStreamRecords."""
        raise KeyError("began")

    def ended(self, stream: ILiveStream, reason: str, frames: int) -> None:
        """IStreamRecords."""
        raise KeyError("ended")


class ChainTests(SynchronousTestCase):
    def test_everybody_hears(self) -> None:
        first, second, line = Notes(), Notes(), Line()
        chain: IStreamRecords = Chain(first, second)
        chain.began(line, FACTS, "s", "ingest")
        chain.ended(line, "stopped", 3)
        expected = [(line, FACTS, "s", "ingest"), (line, "stopped", 3)]
        self.assertEqual((first.heard, second.heard), (expected, expected))

    def test_a_failure_is_logged_and_goes_no_further(self) -> None:
        notes, line = Notes(), Line()
        chain = Chain(Broken(), notes)
        chain.began(line, FACTS, "s", "ingest")
        chain.ended(line, "stopped", 3)
        self.assertEqual(len(notes.heard), 2)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
