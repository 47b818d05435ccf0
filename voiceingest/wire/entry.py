"""What is put on a Redis stream: one entry for a frame, one for an event. Pure; remembers nothing.

A frame is ``XADD <stream> MAXLEN ~ <n> * tenant_id .. interaction_id .. epoch .. seq .. timestamp_ms ..
sample_rate .. encoding .. audio <bytes>``, the fields in this order: the same ones in each entry are
what lets Redis keep their names once per node. The audio is the bytes as they came, not base64. An
event is ``XADD <stream> MAXLEN ~ <n> * event <JSON>`` (redis.io/docs/latest/commands/xadd, read
2026-11-20). What is the same for every frame of a stream is encoded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..errors import BadField
from .envelope import FrameMessage
from .resp import encode_bulk

# (all up to the length of the seq, all between the time stamp and the length of the audio)
EntryParts = tuple[bytes, bytes]

# XADD, stream, MAXLEN, ~, n, *: before the fields; then eight of them, each a name and a value.
_FRAME_WORDS: Final = 6 + 2 * 8
_EVENT_WORDS: Final = 6 + 2


def entry_parts(
    stream: bytes,
    max_entries: int,
    identity: tuple[str, str, int],
    sample_rate: int,
    encoding: str,
) -> EntryParts:
    """Encode once what every frame has in common; ``identity`` is tenant, interaction and epoch."""
    tenant_id, interaction_id, epoch = identity
    head = _xadd(_FRAME_WORDS, stream, max_entries)
    head += _field(b"tenant_id", _text(tenant_id)) + _field(b"interaction_id", _text(interaction_id))
    head += _field(b"epoch", b"%d" % epoch) + encode_bulk(b"seq") + b"$"
    middle = _field(b"sample_rate", b"%d" % sample_rate) + _field(b"encoding", _text(encoding))
    return head, middle + encode_bulk(b"audio") + b"$"


def entry_head(parts: EntryParts, seq: int, timestamp_ms: int, audio_bytes: int) -> bytes:
    """All of a frame's command up to its audio; the audio and an end of line come after it."""
    head, middle = parts
    number, moment = b"%d" % seq, b"%d" % timestamp_ms
    return b"%b%d\r\n%b\r\n$12\r\ntimestamp_ms\r\n$%d\r\n%b\r\n%b%d\r\n" % (
        head, len(number), number, len(moment), moment, middle, audio_bytes,
    )  # fmt: skip


def event_entry_prefix(stream: bytes, max_entries: int) -> bytes:
    """All of an event's command up to the length of its JSON."""
    return _xadd(_EVENT_WORDS, stream, max_entries) + encode_bulk(b"event") + b"$"


def decode_entry(fields: Mapping[bytes, bytes]) -> tuple[FrameMessage, int]:
    """The frame in one entry, and its epoch. Raises: ``BadField``, and nothing else for any bytes."""
    try:
        frame = FrameMessage(
            tenant_id=fields[b"tenant_id"].decode("utf-8", "surrogatepass"),
            interaction_id=fields[b"interaction_id"].decode("utf-8", "surrogatepass"),
            seq=int(fields[b"seq"]),
            timestamp_ms=int(fields[b"timestamp_ms"]),
            sample_rate=int(fields[b"sample_rate"]),
            encoding=fields[b"encoding"].decode("utf-8", "surrogatepass"),
            audio=fields[b"audio"],
        )
        return frame, int(fields[b"epoch"])
    except (KeyError, ValueError) as error:
        raise BadField("the entry is not one of a frame") from error


def _xadd(words: int, stream: bytes, max_entries: int) -> bytes:
    arguments = (b"XADD", stream, b"MAXLEN", b"~", b"%d" % max_entries, b"*")
    return b"*%d\r\n%b" % (words, b"".join(map(encode_bulk, arguments)))


def _field(name: bytes, value: bytes) -> bytes:
    return encode_bulk(name) + encode_bulk(value)


def _text(text: str) -> bytes:
    # surrogatepass: JSON may carry lone surrogates, and two names must not become one.
    return text.encode("utf-8", "surrogatepass")
