"""The far end of the bus: compares what arrives there with what was sent, byte for byte. Pure."""

from __future__ import annotations

from typing import Any

from ..errors import PeerError
from ..wire.envelope import FrameMessage, decode_event, decode_frame
from .percentiles import Latencies


class Witness:
    """Hears one interaction on the bus. The sender tells it each frame before it is sent."""

    def __init__(self, tenant_id: str, interaction_id: str, sample_rate: int) -> None:
        self._tenant_id = tenant_id
        self._interaction_id = interaction_id
        self._sample_rate = sample_rate
        self._sent: list[tuple[bytes, float]] = []
        self._heard: dict[int, bytes] = {}
        self._last_seq = 0
        self.received = 0
        self.out_of_order = 0
        self.repeated = 0
        self.foreign = 0
        self.events: list[str] = []
        self.latencies = Latencies()

    @property
    def sent(self) -> int:
        """Frames that were sent."""
        return len(self._sent)

    def sending(self, frame: bytes, now_s: float) -> None:
        """The next frame goes out now."""
        self._sent.append((frame, now_s))

    def message(self, payload: bytes, now_s: float) -> None:
        """A message has arrived at the other end of the bus."""
        try:
            frame = decode_frame(payload)
        except PeerError:
            self._event(payload)
            return
        if self._is_ours(frame):
            self._frame(frame, now_s)
        else:
            self.foreign += 1

    def _is_ours(self, frame: FrameMessage) -> bool:
        named = (frame.tenant_id, frame.interaction_id, frame.sample_rate, frame.encoding)
        return named == (self._tenant_id, self._interaction_id, self._sample_rate, "pcm16")

    def _frame(self, frame: FrameMessage, now_s: float) -> None:
        self.received += 1
        if frame.seq in self._heard:
            self.repeated += 1
            return
        if frame.seq != self._last_seq + 1:
            self.out_of_order += 1
        self._last_seq = frame.seq
        self._heard[frame.seq] = frame.audio
        if frame.seq <= len(self._sent):
            self.latencies.observe(now_s - self._sent[frame.seq - 1][1])

    def _event(self, payload: bytes) -> None:
        try:
            self.events.append(str(decode_event(payload)["event"]))
        except PeerError:
            self.foreign += 1

    @property
    def identical(self) -> int:
        """Frames that arrived exactly as they were sent."""
        return sum(self._heard.get(seq) == frame for seq, (frame, _) in enumerate(self._sent, 1))

    def _awaited(self) -> list[str]:
        return [event for event in ("started", "stopped") if event not in self.events]

    @property
    def complete(self) -> bool:
        """Whether all that was sent, and the events around it, have arrived."""
        return not self._awaited() and len(self._heard) >= self.sent

    def problems(self) -> list[str]:
        """What differs, in words; empty when nothing does."""
        missing = sum(seq not in self._heard for seq in range(1, self.sent + 1))
        different = self.sent - missing - self.identical
        invented = sum(seq > self.sent or seq < 1 for seq in self._heard)
        counted = {
            "frames did not arrive": missing,
            "frames arrived changed": different,
            "frames arrived that were never sent": invented,
            "frames arrived out of order": self.out_of_order,
            "frames arrived twice": self.repeated,
            "messages were of another stream or unreadable": self.foreign,
        }
        found = [f"{count} {text}" for text, count in counted.items() if count]
        found += [f"the event {event} did not arrive" for event in self._awaited()]
        if not self.sent:
            found.append("no frame was sent")
        return found

    def document(self) -> dict[str, Any]:
        """The comparison, for programs."""
        return {
            "sent_frames": self.sent,
            "received_frames": self.received,
            "identical_frames": self.identical,
            "in_order": self.out_of_order == 0 and self.repeated == 0,
            "events": self.events,
            "latency_ms": self.latencies.summary_ms(),
        }
