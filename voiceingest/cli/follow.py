"""Following streams on a bus: which frames came, which are missing, which came twice. Pure.

A frame is known by (interaction, epoch, seq): the epoch names one numbering, which a resumed stream
keeps and one that begins anew does not. JetStream and Redis Streams say it with each frame; pub/sub
says it in the events alone, which come on the same connection and in order.
"""

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
    """What is odd about a frame: ``gap`` (from..to are missing), ``repeat`` (seen before), or ``late``
    (of a numbering that another has followed)."""

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
    declared: int = 0
    epoch: int | None = None
    last_s: float = 0.0
    last_audio: bytes = b""
    stopped: bool = False
    away: bool = False

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
        self.late = 0
        self.declared = 0
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

    def frame(self, message: FrameMessage, now_s: float, epoch: int | None = None) -> Finding | None:
        """Take a frame. A repeat is reported and counted, and is not audio a second time."""
        self.frames += 1
        stream = self._stream(message, epoch)
        if epoch is not None and stream.epoch is not None and epoch < stream.epoch:
            self.late += 1
            return Finding("late", message.seq, message.seq)
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
        """Take an event: a start begins the count anew, a stop ends the stream, a gap declares a loss."""
        key = (fields["tenant_id"], fields["interaction_id"])
        name, epoch, stream = fields["event"], fields.get("epoch"), self._streams.get(key)
        if name == "started":
            # The same start may come twice, and on some buses after its first frames.
            if stream is None or epoch is None or stream.epoch is None or epoch > stream.epoch:
                rate = fields.get("sample_rate")
                self._put(Followed(*key, rate if isinstance(rate, int) else 0, 1, 1, epoch=epoch))
            return
        if stream is None:
            return
        if isinstance(epoch, int) and stream.epoch is None:
            stream.epoch = epoch
        if name in ("detached", "moved", "resumed"):
            stream.away = name != "resumed"
        elif name == "stopped":
            stream.stopped, stream.away = True, False
        elif name == "gap":
            self._declare(stream, fields.get("from"), fields.get("to"))

    def _declare(self, stream: Followed, first: Any, last: Any) -> None:
        if isinstance(first, int) and isinstance(last, int) and last >= first:
            stream.declared += last - first + 1
            self.declared += last - first + 1

    def _stream(self, message: FrameMessage, epoch: int | None) -> Followed:
        key = (message.tenant_id, message.interaction_id)
        stream, rate = self._streams.get(key), message.sample_rate
        if stream is not None and stream.epoch is None:
            stream.epoch = epoch
        if stream is None:
            stream = self._put(Followed(*key, rate, message.seq, message.seq, epoch=epoch))
        elif epoch is not None and epoch > (stream.epoch or 0):
            # It was heard from before: of the new numbering nothing is missed unless it is lost.
            stream = self._put(Followed(*key, rate, 1, 1, epoch=epoch))
        elif epoch is None and stream.stopped and message.seq == 1:
            # After a stop the interaction may begin again, and its start may have been missed.
            stream = self._put(Followed(*key, rate, 1, 1))
        stream.sample_rate = rate
        self._streams.move_to_end(key)
        return stream

    def _put(self, stream: Followed) -> Followed:
        key = (stream.tenant_id, stream.interaction_id)
        self._streams.pop(key, None)
        self._streams[key] = stream
        if len(self._streams) > STREAMS_MAX_COUNT:
            self._streams.popitem(last=False)
            self.forgotten += 1
        return stream
