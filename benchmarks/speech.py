"""What a client sends, made to cost the load generator as little as can be. Pure.

The audio of a frame begins with its mark, 24 bytes: run and stream, number, and when it was made
(nanoseconds of the machine's monotonic clock); the rest is the same for all. A frame is therefore
masked once, with a key of its own for each stream, and only the mark is masked anew.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any, Final, NamedTuple

from voiceingest.cli.wsframe import encode_binary, encode_text

_MARK: Final = struct.Struct("<QQQ")
MARK_BYTES: Final = _MARK.size
MARK_CHARS: Final = MARK_BYTES * 4 // 3
_HEAD_BYTES: Final = 8

# Exotel counts from 1; from here on every number has the same length.
_SEQUENCE_FROM: Final = 100_000


class Mark(NamedTuple):
    """What a frame says of itself; ``seq`` counts from 1 in each stream of each run."""

    run: int
    stream: int
    seq: int
    made_ns: int


def pack_mark(mark: Mark) -> bytes:
    """The first bytes of the audio."""
    return _MARK.pack(mark.run << 32 | mark.stream, mark.seq, mark.made_ns)


def read_mark(audio: bytes) -> Mark:
    """The mark of a frame; of its beginning, decoded, at least."""
    both, seq, made_ns = _MARK.unpack_from(audio)
    return Mark(both >> 32, both & 0xFFFFFFFF, seq, made_ns)


def filler(size: int) -> bytes:
    """All of the audio of ``size`` bytes that is not the mark."""
    return (bytes(range(1, 251)) * (size // 250 + 1))[: size - MARK_BYTES]


class IngestSpeech:
    """The frames of one stream of ``/v1/ingest``: binary, the audio as it is."""

    def __init__(self, run: int, stream: int, size: int, key: bytes) -> None:
        self._both = run << 32 | stream
        self._key = int.from_bytes(key * 2, "little")
        self._frame = bytearray(encode_binary(bytes(MARK_BYTES) + filler(size), key))
        self._both ^= self._key

    def frame(self, seq: int, made_ns: int) -> bytearray:
        """The next frame, whole. It is the same object every time: send or copy it at once."""
        _MARK.pack_into(self._frame, _HEAD_BYTES, self._both, seq ^ self._key, made_ns ^ self._key)
        return self._frame


class ExotelSpeech:
    """The messages of one call: JSON, the audio in base64."""

    def __init__(self, run: int, stream: int, size: int, key: bytes, per_s: float) -> None:
        self._run, self._stream, self._step_ms = run, stream, round(1000 / (per_s or 50))
        self._sid = f"b{run}-{stream}"
        tail = base64.b64encode(filler(size)).decode()
        whole = self._head(1, 0) + tail + '"}}'
        self._open_chars = len(whole) - len(tail) - 3
        self._frame = bytearray(encode_text(whole.encode(), key))
        mask = (key * (self._open_chars // 4 + 1))[: self._open_chars]
        self._mask = int.from_bytes(mask, "little")

    def _head(self, seq: int, made_ns: int) -> str:
        mark = base64.b64encode(pack_mark(Mark(self._run, self._stream, seq, made_ns))).decode()
        return (
            f'{{"event":"media","sequence_number":"{_SEQUENCE_FROM + seq}","stream_sid":"{self._sid}",'
            f'"media":{{"chunk":"{_SEQUENCE_FROM + seq}",'
            f'"timestamp":"{10_000_000 + seq * self._step_ms}","payload":"{mark}'
        )

    def frame(self, seq: int, made_ns: int) -> bytearray:
        """As that of ``IngestSpeech``."""
        head = int.from_bytes(self._head(seq, made_ns).encode(), "little") ^ self._mask
        self._frame[_HEAD_BYTES : _HEAD_BYTES + self._open_chars] = head.to_bytes(self._open_chars, "little")
        return self._frame


def upgrade_request(path: str, bearer: str) -> bytes:
    """What opens a connection."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Bearer {bearer}\r\n\r\n"
    ).encode()


def opening(dialect: str, run: int, stream: int, rate_hz: int, key: bytes, **more: Any) -> bytes:
    """All messages before the first audio; ``more`` is what else ``start`` of ingest says."""
    name = f"b{run}-{stream}"
    if dialect == "ingest":
        return _text(
            key,
            {
                "event": "start", "interaction_id": name, "tenant_id": "bench", "sample_rate": rate_hz,
                **more,
            },
        )  # fmt: skip
    form = {"encoding": "audio/x-raw", "sample_rate": str(rate_hz), "bit_rate": "16"}
    start = {"stream_sid": name, "call_sid": name, "account_sid": "bench", "from": "0987", "to": "0801"}
    message = {"event": "start", "sequence_number": str(_SEQUENCE_FROM), "stream_sid": name}
    connected = _text(key, {"event": "connected"})
    return connected + _text(key, {**message, "start": {**start, "media_format": form}})


def farewell(dialect: str, run: int, stream: int, key: bytes) -> bytes:
    """The last message."""
    if dialect == "ingest":
        return _text(key, {"event": "stop"})
    name = f"b{run}-{stream}"
    reason = {"call_sid": name, "reason": "callended"}
    return _text(key, {"event": "stop", "stream_sid": name, "stop": reason})


def _text(key: bytes, message: dict[str, Any]) -> bytes:
    return encode_text(json.dumps(message).encode(), key)
