"""When each frame is due. Pure: the time is an argument, so nothing drifts and nothing sleeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Frames of ``frame_s`` seconds from ``start_s`` on; ``frame_s`` 0 means as fast as possible.

    Every frame is due at ``start + n * length``, never at "the last one plus a bit": a late timer
    delays one frame and not all that follow.
    """

    start_s: float
    frame_s: float

    def due_s(self, index: int) -> float:
        """When frame ``index`` (from 0) is to be sent: at the end of the time it was spoken in."""
        if self.frame_s == 0:
            return self.start_s
        return self.start_s + (index + 1) * self.frame_s

    def wait_s(self, index: int, now_s: float) -> float:
        """Seconds until frame ``index`` is due; 0 when it is late."""
        return max(0.0, self.due_s(index) - now_s)

    def late_s(self, index: int, now_s: float) -> float:
        """How late frame ``index`` is, in seconds; always 0 when there is no pace to keep."""
        return 0.0 if self.frame_s == 0 else max(0.0, now_s - self.due_s(index))


def frame_bytes(sample_rate: int, frame_ms: float, sample_bytes: int = 2) -> int:
    """Bytes of a frame of about ``frame_ms`` milliseconds: whole samples, at least one."""
    return max(1, round(sample_rate * frame_ms / 1000)) * sample_bytes
