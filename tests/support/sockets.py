"""A WebSocket client by hand: frames as bytes, so that a test can also send what is wrong."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


def handshake(path: str = "/v1/ingest", **headers: str) -> bytes:
    """An opening request; ``headers`` replace or add, an empty value takes one away."""
    fields = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, rsv: int = 0) -> bytes:
    """One client frame (RFC 6455 section 5.2)."""
    first = (0x80 if fin else 0) | (rsv << 4) | opcode
    size = len(payload)
    flag = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first, flag | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))


@dataclass(frozen=True, slots=True)
class ServerFrame:
    """One frame of the daemon."""

    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int:
        """The code of a close frame."""
        return int(struct.unpack("!H", self.payload[:2])[0])


def server_frames(data: bytes) -> Iterator[ServerFrame]:
    """The whole frames in what the daemon has written after its 101."""
    at = 0
    while at + 2 <= len(data):
        size, body = data[at + 1], at + 2
        if size == 126:
            size, body = struct.unpack("!H", data[at + 2 : at + 4])[0], at + 4
        elif size == 127:
            size, body = struct.unpack("!Q", data[at + 2 : at + 10])[0], at + 10
        yield ServerFrame(data[at] & 15, data[body : body + size])
        at = body + size


def split_head(written: bytes) -> tuple[bytes, bytes]:
    """The head of an answer and what follows it."""
    head, _, rest = written.partition(b"\r\n\r\n")
    return head, rest
