"""Who is told of what was heard, and of what was not: the events channel, the listeners, the metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..call_interfaces import IListener, Transcript
from ..errors import UpstreamRefused
from ..metrics import Metrics
from ..stream.transcription import Unheard
from ..stream.turns import Heard


class Telling:
    """One stream's. ``to_ms`` turns its samples into milliseconds."""

    def __init__(
        self,
        publish_event: Callable[[str, dict[str, Any]], None],
        listeners: tuple[IListener, ...],
        metrics: Metrics,
        to_ms: Callable[[int], int],
    ) -> None:
        self._publish_event = publish_event
        self._listeners = listeners
        self._metrics = metrics
        self._to_ms = to_ms

    def heard(self, heard: Heard) -> None:
        """Words, or the end of a turn."""
        start_ms, end_ms = self._to_ms(heard.start), self._to_ms(heard.end)
        fields = {
            "text": heard.text,
            "start_ms": start_ms,
            "end_ms": end_ms,
            "is_final": heard.is_final,
            "ends_turn": heard.ends_turn,
            "confidence": heard.confidence,
        }
        self._metrics.transcripts["final" if heard.is_final else "interim"] += 1
        self._publish_event("transcript", fields)
        transcript = Transcript(
            heard.text, start_ms, end_ms, heard.is_final, heard.ends_turn, heard.confidence
        )
        for listener in self._listeners:
            listener.transcript(transcript)

    def speech_started(self) -> None:
        """Somebody began to speak; only listeners have a use for that."""
        for listener in self._listeners:
            listener.speech_started()

    def unheard(self, gap: Unheard) -> None:
        """A stretch that will not be transcribed."""
        self._metrics.transcriber_samples["dropped"] += gap.samples
        self._metrics.transcript_gaps[gap.reason] += 1
        fields = {"from_ms": gap.from_ms, "to_ms": gap.to_ms, "reason": gap.reason}
        self._publish_event("transcript_gap", fields)

    def refused(self) -> None:
        """Deepgram will not hear this stream."""
        self._publish_event("error", {"code": UpstreamRefused.code})
