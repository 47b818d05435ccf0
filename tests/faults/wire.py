"""One connection of a caller's: the handshake, frames, and what they say."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any, Protocol

from tests.support.sockets import CLOSE, PING, PONG, TEXT, frame


class IHearing(Protocol):
    """Whom a connection tells."""

    def answered(self, wire: Wire, status: int) -> None:
        """The handshake was answered."""

    def told(self, wire: Wire, message: dict[str, Any]) -> None:
        """One message of the daemon."""

    def ponged(self, sent_ns: int) -> None:
        """The answer to a ping of that time."""

    def lost(self, wire: Wire, why: Exception | None) -> None:
        """The connection is gone."""


class Wire(asyncio.Protocol):
    """One connection: bytes to frames. ``settled`` is true once the stream has started on it."""

    def __init__(self, caller: IHearing) -> None:
        self._caller = caller
        self._unread = bytearray()
        self.head = b""
        self.transport: Any = None
        self.code: int | None = None
        # False: it was lost before the stream started.
        self.settled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's hook."""
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's hook."""
        if not self.settled.done():
            self.settled.set_result(False)
        self._caller.lost(self, exc)

    def data_received(self, data: bytes) -> None:
        """asyncio's hook."""
        self._unread += data
        if not self.head:
            head, found, rest = bytes(self._unread).partition(b"\r\n\r\n")
            if not found:
                return
            self.head, self._unread = head, bytearray(rest)
            self._caller.answered(self, int(head.split(b" ", 2)[1]))
        while self.head.startswith(b"HTTP/1.1 101") and (whole := self._take()) is not None:
            self._heard(*whole)

    def _take(self) -> tuple[int, bytes] | None:
        read = self._unread
        if len(read) < 2:
            return None
        size, body = read[1], 2
        if size == 126:
            size, body = int.from_bytes(read[2:4], "big"), 4
        if len(read) < body + size:
            return None
        opcode, payload = read[0] & 15, bytes(read[body : body + size])
        del read[: body + size]
        return opcode, payload

    def _heard(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._caller.told(self, json.loads(payload))
        elif opcode == PING:
            self.send(frame(PONG, payload))
        elif opcode == PONG:
            self._caller.ponged(int.from_bytes(payload, "big"))
        elif opcode == CLOSE:
            self.code = int.from_bytes(payload[:2], "big")
            self.send(frame(CLOSE, payload[:2]))

    def send(self, data: bytes) -> None:
        """Send bytes, unless the connection is on its way out."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def say(self, event: str, **fields: Any) -> None:
        """Send one control message."""
        self.send(frame(TEXT, json.dumps({"event": event, **fields}).encode()))

    def reset(self) -> None:
        """End it with RST, what was not sent yet thrown away."""
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()
