"""What one client session has sent, and what it has heard about it. Pure: times are arguments."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from .meanings import Meaning, explain
from .percentiles import Latencies

# Frames sent and not yet acknowledged whose time is remembered; older ones are not measured.
UNACKED_MAX_COUNT: Final = 65_536
ERRORS_MAX_COUNT: Final = 100


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended; each field is ``None`` where it does not apply."""

    close_code: int | None = None
    http_status: int | None = None
    failure: BaseException | None = None


@dataclass(slots=True)
class Tally:
    """The counts of one stream."""

    sent_frames: int = 0
    sent_bytes: int = 0
    acked: int = 0
    acks: int = 0
    last_sent_s: float = 0.0
    late_max_s: float = 0.0
    started: dict[str, Any] | None = None
    stopped: dict[str, Any] | None = None
    gaps: int = 0
    renewals: int = 0
    error_count: int = 0
    errors: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=ERRORS_MAX_COUNT))
    latencies: Latencies = field(default_factory=Latencies)
    _sent_at: deque[float] = field(default_factory=lambda: deque(maxlen=UNACKED_MAX_COUNT))

    def sent(self, size_bytes: int, now_s: float) -> None:
        """A frame has been handed to the connection."""
        self.sent_frames += 1
        self.sent_bytes += size_bytes
        self.last_sent_s = now_s
        self._sent_at.append(now_s)

    def ack(self, seq: int, now_s: float) -> None:
        """Frames up to ``seq`` are acknowledged; one that was never sent is the server's error."""
        if seq > self.sent_frames:
            self.error("ack_unsent", "A frame was acknowledged that was never sent")
            return
        self.acks += 1
        oldest = self.sent_frames - len(self._sent_at) + 1
        sent_at: float | None = None
        for _ in range(seq - oldest + 1):
            sent_at = self._sent_at.popleft()
        if sent_at is not None:
            self.latencies.observe(now_s - sent_at)
        self.acked = max(self.acked, seq)

    def error(self, code: str, message: str) -> None:
        """The server has said that something is wrong."""
        self.error_count += 1
        self.errors.append((code, message))

    def finish(self, fields: dict[str, Any]) -> None:
        """The server has said ``stopped``: its last word on how many frames got through."""
        self.stopped = fields
        published = fields.get("published", fields.get("seq"))
        if isinstance(published, int) and not isinstance(published, bool):
            self.acked = min(published, self.sent_frames)

    @property
    def complete(self) -> bool:
        """Whether the server has stopped the stream and confirmed every frame of it."""
        if self.stopped is None or self.acked != self.sent_frames:
            return False
        return not self.stopped.get("dropped") and not self.stopped.get("pending")

    def problem(self, ending: Ending | None) -> Meaning | None:
        """What went wrong, ``None`` when nothing did."""
        if self.complete:
            return None
        http_status = ending.http_status if ending else None
        close_code = ending.close_code if ending else None
        code = self.errors[-1][0] if self.errors else None
        # An error that did not close the stream is not the reason for a later break of the line.
        if code is not None and close_code == 1006 and http_status is None:
            code = None
        if self.stopped is not None:
            lost = self.sent_frames - self.acked
            text = f"{lost} of {self.sent_frames} frames were not confirmed"
            return Meaning(text, "look at the daemon's log and its metrics for drops", True)
        if ending is None:
            awaited = "started" if self.started is None else "stopped"
            return Meaning(f"The server did not say {awaited} in time", "look at /readyz of the daemon", True)
        if close_code == 1000 and code is None:
            return Meaning("The server closed before it said stopped", "", True)
        return explain(code, close_code, http_status)
