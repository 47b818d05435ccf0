"""What one client session has sent, and what it has heard about it. Pure: times are arguments.

A session is one stream from its ``start`` to its ``stopped``, over as many connections as it takes.
Frames are counted from 1 over the whole session. Where a stream could not be resumed and began
anew, the daemon counts from 1 again: ``base`` frames were before those of the present numbering.
"""

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
    """The counts of one stream. ``sent_frames`` counts a frame that was sent twice once."""

    sent_frames: int = 0
    sent_bytes: int = 0
    acked: int = 0
    acks: int = 0
    last_sent_s: float = 0.0
    late_max_s: float = 0.0
    started: dict[str, Any] | None = None
    stopped: dict[str, Any] | None = None
    gaps: int = 0
    gap_frames: int = 0
    renewals: int = 0
    resumes: int = 0
    restarts: int = 0
    base: int = 0
    acked_seq: int = 0
    last_code: str | None = None
    # The stream was stopped as asked, and the connection that was to say so was lost.
    unanswered: bool = False
    error_count: int = 0
    errors: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=ERRORS_MAX_COUNT))
    latencies: Latencies = field(default_factory=Latencies)
    _sent_at: deque[float] = field(default_factory=lambda: deque(maxlen=UNACKED_MAX_COUNT))
    _confirmed_before: int = 0
    _gap_frames_before: int = 0

    def sent(self, size_bytes: int, now_s: float) -> None:
        """A frame has been handed to the connection."""
        self.sent_frames += 1
        self.sent_bytes += size_bytes
        self.last_sent_s = now_s
        self._sent_at.append(now_s)

    def ack(self, seq: int, now_s: float) -> bool:
        """Frames up to ``seq`` are acknowledged; one that was never sent is the server's error."""
        number = self.base + seq
        if number > self.sent_frames:
            self.error("ack_unsent", "A frame was acknowledged that was never sent")
            return False
        self.acks += 1
        oldest = self.sent_frames - len(self._sent_at) + 1
        sent_at: float | None = None
        for _ in range(number - oldest + 1):
            sent_at = self._sent_at.popleft()
        if sent_at is not None:
            self.latencies.observe(now_s - sent_at)
        self.acked_seq = max(self.acked_seq, seq)
        self.acked = max(self.acked, self._confirmed_before + seq)
        return True

    def gap(self, first: Any, last: Any) -> None:
        """The server has declared frames lost."""
        self.gaps += 1
        if isinstance(first, int) and isinstance(last, int):
            self.gap_frames += max(0, last - first + 1)

    def connected(self) -> None:
        """A new connection: what was complained about on the last one does not explain its end."""
        self.last_code = None

    def began_anew(self, base: int) -> None:
        """The daemon counts from 1 again, with the frame after ``base`` of ours.

        An acknowledgement covers frames that were declared lost; these were not confirmed.
        """
        self.restarts += 1
        self._confirmed_before = max(0, self.acked - (self.gap_frames - self._gap_frames_before))
        self._gap_frames_before = self.gap_frames
        self.acked = self._confirmed_before
        self.acked_seq = 0
        self.base = base

    def error(self, code: str, message: str) -> None:
        """The server has said that something is wrong."""
        self.error_count += 1
        self.errors.append((code, message))
        self.last_code = code

    def finish(self, fields: dict[str, Any]) -> None:
        """The server has said ``stopped``: its last word on how many frames got through.

        Its counts are those of one process. Of a stream that was resumed, maybe at another one, the
        last number counts, less what was declared lost.
        """
        self.stopped = fields
        published = _count(fields.get("published", fields.get("seq")))
        if self.resumes and _count(fields.get("seq")) is not None:
            lost = max(self.gap_frames - self._gap_frames_before, _count(fields.get("dropped")) or 0)
            published = max(0, fields["seq"] - lost - (_count(fields.get("pending")) or 0))
        if published is not None:
            self.acked = self._confirmed_before + min(published, self.sent_frames - self.base)

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
        code = self.last_code
        # An error that did not close the stream is not the reason for a later break of the line.
        if code is not None and close_code == 1006 and http_status is None:
            code = None
        if self.unanswered:
            lost = self.sent_frames - self.acked
            text = f"{lost} of {self.sent_frames} frames are not confirmed: the daemon's last word was lost"
            return Meaning(text, "", True) if lost else None
        if self.stopped is not None:
            lost = self.sent_frames - self.acked
            text = f"{lost} of {self.sent_frames} frames were not confirmed"
            return Meaning(text, "look at the daemon's log and its metrics for drops", True)
        if ending is None and code is not None and self.started is None:
            # `start` was refused and the connection left open: the server's own words say the most.
            known = explain(code)
            return Meaning(f"{self.errors[-1][1]} ({code})", known.hint, known.retryable)
        if ending is None:
            awaited = "started" if self.started is None else "stopped"
            return Meaning(f"The server did not say {awaited} in time", "look at /readyz of the daemon", True)
        if close_code == 1000 and code is None:
            return Meaning("The server closed before it said stopped", "", True)
        return explain(code, close_code, http_status)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
