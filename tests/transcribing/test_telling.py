"""Who is told what."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.call_interfaces import Transcript
from voiceingest.metrics import Metrics
from voiceingest.stream.transcription import Unheard
from voiceingest.stream.turns import Heard
from voiceingest.transcribing.telling import Telling

from .world import Listener


class TellingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[tuple[str, object]] = []
        self.metrics = Metrics()
        self.listeners = (Listener(), Listener())

        def publish(event: str, fields: object) -> None:
            self.events.append((event, fields))

        self.telling = Telling(publish, self.listeners, self.metrics, lambda position: position // 8)

    def test_words(self) -> None:
        self.telling.heard(Heard("a", 800, 1600, False, False, 0.5))
        fields = {"text": "a", "start_ms": 100, "end_ms": 200, "is_final": False, "ends_turn": False}
        self.assertEqual(self.events, [("transcript", {**fields, "confidence": 0.5})])
        for listener in self.listeners:
            self.assertEqual(listener.heard, [Transcript("a", 100, 200, False, False, 0.5)])
        self.assertEqual(dict(self.metrics.transcripts), {"interim": 1})

    def test_speech(self) -> None:
        self.telling.speech_started()
        self.assertEqual(([listener.started for listener in self.listeners], self.events), ([1, 1], []))

    def test_a_gap(self) -> None:
        self.telling.unheard(Unheard(10, 20, "lost", 80))
        self.assertEqual(self.events, [("transcript_gap", {"from_ms": 10, "to_ms": 20, "reason": "lost"})])
        self.assertEqual(dict(self.metrics.transcript_gaps), {"lost": 1})
        self.assertEqual(dict(self.metrics.transcriber_samples), {"dropped": 80})

    def test_a_refusal(self) -> None:
        self.telling.refused()
        self.assertEqual(self.events, [("error", {"code": "upstream_refused"})])
