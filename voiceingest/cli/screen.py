"""What a person or a program sees of a bus: frames, events, gaps; a live meter at a terminal."""

from __future__ import annotations

import json
from typing import Any, Final

from ..wire.envelope import FrameMessage
from .console import Console, printable
from .follow import Finding, Followed, Follower
from .meter import bar, peak_dbfs, rms_dbfs
from .reading import BusMessage, read_json
from .recorder import Recorder
from .terminal import Line, grid

ROWS_MAX_COUNT: Final = 12
REDRAWS_PER_S: Final = 8
METER_STEP: Final = 4

# A stream that has said nothing for so long is shown with an empty meter.
QUIET_S: Final = 1.0

_COMMON: Final = ("event", "tenant_id", "interaction_id")


class Screen:
    """Takes messages of a bus as they come; ``tenant_id`` and ``interaction_id`` filter them."""

    def __init__(
        self,
        console: Console,
        *,
        tenant_id: str | None = None,
        interaction_id: str | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._console = console
        self._tenant_id = tenant_id
        self._interaction_id = interaction_id
        self._recorder = recorder
        # Whether there is anything to redraw.
        self.is_live = console.is_terminal
        self.follower = Follower()
        self.events = 0
        self.unreadable = 0

    # --- what comes

    def message(self, payload: bytes, now_s: float) -> None:
        """One message as it is on pub/sub, frame or event."""
        self.heard(read_json(payload), now_s)

    def heard(self, message: BusMessage, now_s: float) -> None:
        """One message of any bus."""
        frame = message.frame
        if frame is not None:
            if self._wanted(frame.tenant_id, frame.interaction_id):
                self._frame(frame, now_s, message.epoch)
        elif message.event is not None:
            self._event(message.event)
        else:
            self._odd()

    def _wanted(self, tenant_id: str, interaction_id: str) -> bool:
        return self._tenant_id in (None, tenant_id) and self._interaction_id in (None, interaction_id)

    def _frame(self, frame: FrameMessage, now_s: float, epoch: int | None) -> None:
        finding = self.follower.frame(frame, now_s, epoch)
        if finding is not None:
            self._finding(frame, finding)
        if self._recorder is not None and (finding is None or finding.kind == "gap"):
            self._recorder.frame(frame)
        if self._console.json_output:
            self._console.document(_frame_document(frame, epoch))
        elif not self.is_live:
            self._console.say(_frame_line(frame))

    def _finding(self, frame: FrameMessage, finding: Finding) -> None:
        count = finding.to_seq - finding.from_seq + 1
        if finding.kind == "gap":
            text = f"gap     {_who(frame)} seq={finding.from_seq}..{finding.to_seq} missing={count}"
        else:
            text = f"{finding.kind:<7} {_who(frame)} seq={finding.from_seq}"
        self._line(text, "bold red")
        self._console.document(
            {
                "type": finding.kind,
                "tenant_id": frame.tenant_id,
                "interaction_id": frame.interaction_id,
                "from": finding.from_seq,
                "to": finding.to_seq,
            }
        )

    def _odd(self) -> None:
        self.unreadable += 1
        if self.unreadable == 1:
            self._console.note("a message is neither a frame nor an event; more of these are only counted")

    def _event(self, fields: dict[str, Any]) -> None:
        if not self._wanted(fields["tenant_id"], fields["interaction_id"]):
            return
        self.events += 1
        self.follower.event(fields)
        if self._recorder is not None and fields["event"] == "stopped":
            self._recorder.stopped(fields["tenant_id"], fields["interaction_id"])
        self._console.document({"type": "event", **fields})
        self._line(_event_line(fields), "cyan")

    def _line(self, text: str, style: str) -> None:
        # With JSON the document says it; people's lines would be as many again.
        if not self._console.json_output:
            self._console.say(text, style=style)

    # --- what is shown

    def redraw(self, now_s: float) -> None:
        """Draw the meters of the streams heard last."""
        if not self.is_live:
            return
        rows: list[Line] = [_row(stream, now_s) for stream in self.follower.newest(ROWS_MAX_COUNT)]
        hidden = len(self.follower) - ROWS_MAX_COUNT
        more: list[Line] = [[(f"and {hidden} more", "dim")]] if hidden > 0 else []
        self._console.draw([*grid(rows, self._console.width), *more])

    def close(self) -> None:
        """Take the live area off the screen; the last state of every stream stays as a line."""
        if self.is_live:
            self._console.draw([])
            self.is_live = False

    def summary(self) -> dict[str, Any]:
        """What has been seen in all."""
        return {
            "frames": self.follower.frames,
            "events": self.events,
            "streams": len(self.follower) + self.follower.forgotten,
            "missing": self.follower.missing,
            "repeated": self.follower.repeated,
            "late": self.follower.late,
            "declared": self.follower.declared,
            "unreadable": self.unreadable,
        }


def _who(frame: FrameMessage) -> str:
    return f"tenant={printable(frame.tenant_id)} interaction={printable(frame.interaction_id)}"


def _frame_line(frame: FrameMessage) -> str:
    return (
        f"frame   {_who(frame)} seq={frame.seq} t={frame.timestamp_ms} rate={frame.sample_rate}"
        f" bytes={len(frame.audio)} peak={peak_dbfs(frame.audio):.1f}dBFS"
    )


def _frame_document(frame: FrameMessage, epoch: int | None) -> dict[str, Any]:
    known = {} if epoch is None else {"epoch": epoch}
    return {
        "type": "frame",
        "tenant_id": frame.tenant_id,
        "interaction_id": frame.interaction_id,
        **known,
        "seq": frame.seq,
        "timestamp_ms": frame.timestamp_ms,
        "sample_rate": frame.sample_rate,
        "encoding": frame.encoding,
        "bytes": len(frame.audio),
        "peak_dbfs": round(peak_dbfs(frame.audio), 1),
    }


def _event_line(fields: dict[str, Any]) -> str:
    who = f"tenant={fields['tenant_id']} interaction={fields['interaction_id']}"
    rest = " ".join(f"{name}={json.dumps(value)}" for name, value in fields.items() if name not in _COMMON)
    return printable(f"event   {fields['event']} {who} {rest}")


def _row(stream: Followed, now_s: float) -> Line:
    quiet = stream.stopped or now_s - stream.last_s > QUIET_S
    level = rms_dbfs(b"" if quiet else stream.last_audio, METER_STEP)
    words = ((stream.stopped, "stopped"), (stream.away, "away"), (quiet, "quiet"))
    state = next((word for holds, word in words if holds), f"{level:5.1f} dBFS")
    odd = [f"{stream.missing} missing"] if stream.missing else []
    odd += [f"{stream.declared} declared lost"] if stream.declared else []
    odd += [f"{stream.repeated} repeated"] if stream.repeated else []
    return (
        (printable(stream.interaction_id), "bold"),
        (printable(stream.tenant_id), ""),
        (f"{stream.sample_rate} Hz", ""),
        (f"seq {stream.next_seq - 1}", ""),
        (f"{stream.seconds:7.1f} s", ""),
        (bar(level), "green"),
        (state, ""),
        (", ".join(odd), "red"),
    )
