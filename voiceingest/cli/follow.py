"""Following streams on a bus: which frames came, which are missing, which came twice. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from ..wire.envelope import FrameMessage

# Streams remembered at once; the one that was silent longest is forgotten first.
STREAMS_MAX_COUNT: Final = 10_000

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is odd about a frame: ``gap`` (from..to are missing) or ``repeat`` (seen before)."""

    kind: str
    from_seq: int
    to_seq: int


@dataclass(slots=True)
class Followed:
    """One stream as it has been seen; ``first_seq`` is above 1 when it was joined on the way."""

    tenant_id: str
    interaction_id: str
    sample_rate: int
    first_seq: int
    next_seq: int
    frames: int = 0
    audio_bytes: int = 0
    missing: int = 0
    repeated: int = 0
    last_s: float = 0.0
    last_audio: bytes = b""
    stopped: bool = False

    @property
    def seconds(self) -> float:
        """Audio seen, in seconds."""
        return self.audio_bytes / 2 / self.sample_rate if self.sample_rate else 0.0


class Follower:
    """All streams seen on a bus."""

    def __init__(self) -> None:
        self._streams: OrderedDict[Key, Followed] = OrderedDict()
        self.frames = 0
        self.missing = 0
        self.repeated = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._streams)

    def newest(self, count: int) -> list[Followed]:
        """The ``count`` streams heard last, the newest first."""
        found: list[Followed] = []
        for stream in reversed(self._streams.values()):
            if len(found) == count:
                break
            found.append(stream)
        return found

    def frame(self, message: FrameMessage, now_s: float) -> Finding | None:
        """Take a frame. A repeat is reported and counted, and is not audio a second time."""
        self.frames += 1
        stream = self._stream(message)
        stream.last_s, stream.last_audio, stream.stopped = now_s, message.audio, False
        if message.seq < stream.next_seq:
            stream.repeated += 1
            self.repeated += 1
            return Finding("repeat", message.seq, message.seq)
        finding = None
        if message.seq > stream.next_seq:
            finding = Finding("gap", stream.next_seq, message.seq - 1)
            stream.missing += message.seq - stream.next_seq
            self.missing += message.seq - stream.next_seq
        stream.frames += 1
        stream.audio_bytes += len(message.audio)
        stream.next_seq = message.seq + 1
        return finding

    def event(self, fields: dict[str, Any]) -> None:
        """Take an event: a start begins the count anew, a stop ends the stream."""
        key = (fields["tenant_id"], fields["interaction_id"])
        if fields["event"] == "started":
            self._streams.pop(key, None)
        elif fields["event"] == "stopped" and key in self._streams:
            self._streams[key].stopped = True

    def _stream(self, message: FrameMessage) -> Followed:
        key = (message.tenant_id, message.interaction_id)
        stream = self._streams.get(key)
        # After a stop the interaction may begin again, and its start may have been missed.
        if stream is None or (stream.stopped and message.seq == 1):
            stream = Followed(*key, message.sample_rate, message.seq, message.seq)
            self._streams[key] = stream
            if len(self._streams) > STREAMS_MAX_COUNT:
                self._streams.popitem(last=False)
                self.forgotten += 1
        self._streams.move_to_end(key)
        return stream
