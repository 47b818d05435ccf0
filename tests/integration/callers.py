"""Callers by hand, for end-to-end tests: asyncio protocols without tasks of their own.

What came is kept, and a test waits with ``until`` for what it expects.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from tests.support.sockets import CLOSE, PING, PONG, TEXT, frame

DEADLINE_S: Final = 40.0
# 20 ms at 24 kHz, 16 bits.
FRAME_BYTES: Final = 960

T = TypeVar("T")


def audio_of(number: int, size_bytes: int = FRAME_BYTES) -> bytes:
    """A frame that can be told from every other."""
    return struct.pack("<I", number) * (size_bytes // 4)


def data_frame(payload: bytes) -> bytes:
    """One binary frame, masked with zeros: as sound as any mask, and nothing has to be computed."""
    size = len(payload)
    if size < 126:
        length = struct.pack("!B", 0x80 | size)
    else:
        length = struct.pack("!BH", 0xFE, size) if size < 65536 else struct.pack("!BQ", 0xFF, size)
    return b"\x82" + length + bytes(4) + payload


class Listening(asyncio.Protocol):
    """One connection of the test's: ``until`` waits for what ``received`` makes of the bytes."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.lost = False
        self.unread = bytearray()
        self._changed: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands. asyncio's hook."""
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone. asyncio's hook."""
        self.lost = True
        self.wake()

    def data_received(self, data: bytes) -> None:
        """Bytes came. asyncio's hook."""
        self.unread += data
        self.received()
        self.wake()

    def received(self) -> None:
        """Take what is whole out of ``unread``."""

    def wake(self) -> None:
        """Let ``until`` look again."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def until(self, condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
        """What ``condition`` returns, once that is true. Raises: ``AssertionError`` with ``what``."""
        end = time.monotonic() + deadline_s
        while not (found := condition()):
            self._changed = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._changed, max(0.0, end - time.monotonic()))
            except TimeoutError:
                raise AssertionError(f"{what}: not within {deadline_s} s; {self!r}") from None
        return found

    def abort(self) -> None:
        """End the connection, whatever it is doing."""
        if self.transport is not None:
            self.transport.abort()


class Caller(Listening):
    """One WebSocket to the daemon, or the answer that refused it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = b""
        self.body = b""
        self.told: list[dict[str, Any]] = []
        self.pongs: list[bytes] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self.answers_close = True

    def __repr__(self) -> str:
        told = str(self.told[-5:])[:2000]
        return f"<caller {self.head[:12]!r} told {told} close {self.close_code} lost {self.lost}>"

    @property
    def status(self) -> int:
        """The status the handshake was answered with."""
        return int(self.head.split(b" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer, names in lower case."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    def received(self) -> None:
        """Take the head, then frames."""
        if not self.head:
            head, found, rest = bytes(self.unread).partition(b"\r\n\r\n")
            if not found:
                return
            self.head, self.unread = head, bytearray(rest)
        if self.status != 101:
            self.body, self.unread = self.body + bytes(self.unread), bytearray()
            return
        while (whole := self._take()) is not None:
            self._heard(*whole)

    def _take(self) -> tuple[int, bytes] | None:
        read = self.unread
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
            self.told.append({**json.loads(payload), "at": time.monotonic()})
        elif opcode == PING:
            self.send(frame(PONG, payload))
        elif opcode == PONG:
            self.pongs.append(payload)
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big")
            self.close_reason = payload[2:].decode()
            if self.answers_close:
                self.send(frame(CLOSE, payload[:2]))

    # --- speaking

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def say(self, event: str, **fields: Any) -> None:
        """Send one control message."""
        self.send(frame(TEXT, json.dumps({"event": event, **fields}).encode()))

    def audio(self, payload: bytes) -> None:
        """Send one binary frame."""
        self.send(data_frame(payload))

    async def start(self, interaction_id: str, tenant_id: str = "t1", **fields: Any) -> dict[str, Any]:
        """Begin; returns ``started``."""
        self.say("start", interaction_id=interaction_id, tenant_id=tenant_id, **fields)
        return await self.event("started")

    async def stop(self) -> dict[str, Any]:
        """Stop, and wait for the end; returns ``stopped``."""
        self.say("stop")
        await self.closed()
        return await self.event("stopped")

    # --- what was heard

    def events(self, name: str) -> list[dict[str, Any]]:
        """The messages of one kind so far."""
        return [message for message in self.told if message["event"] == name]

    async def event(self, name: str, number: int = 1, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """The ``number``-th message of one kind."""
        found = await self.until(
            lambda: self.events(name)[number - 1 : number], f"{number}. {name}", deadline_s
        )
        return found[0]

    async def closed(self, deadline_s: float = DEADLINE_S) -> int | None:
        """The close code, once TCP has ended; ``None`` when there was none."""
        await self.until(lambda: self.lost, "the end of the connection", deadline_s)
        return self.close_code

    async def error(self) -> str:
        """The code of the next error that has not been looked at."""
        message = await self.event("error")
        self.told.remove(message)
        return str(message["code"])
