"""A caller that is led step by step, for what the load does not do: tenants, take-overs, deafness."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from tests.support.sockets import BINARY, CLOSE, TEXT, frame, handshake

from .audio import RATE_HZ, Mark, frame_of
from .processes import DaemonProcess, ScenarioFailed

_ANSWER_S: Final = 10.0


class Guest:
    """One WebSocket of the bench's own; what it is told is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.status = 0
        self.told: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.ended = False
        self._changed = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def dial(cls, daemon: DaemonProcess, token: str, *, deaf: bool = False) -> Guest:
        """Connect and be upgraded. A ``deaf`` one has a small window and reads nothing after that."""
        plain = socket.socket()
        plain.setblocking(False)
        if deaf:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # The sender's buffer is some twenty segments: on the loopback, of 64 KiB each without this.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        await asyncio.get_running_loop().sock_connect(plain, (daemon.host, daemon.port))
        reader, writer = await asyncio.open_connection(sock=plain, limit=4096 if deaf else 1 << 16)
        guest = cls(reader, writer)
        writer.write(handshake(Authorization=f"Bearer {token}"))
        async with asyncio.timeout(_ANSWER_S):
            head = await reader.readuntil(b"\r\n\r\n")
        guest.status = int(head.split(b" ", 2)[1])
        if not deaf:
            guest._listening = asyncio.get_running_loop().create_task(guest._listen())
        return guest

    async def start(self, tenant_id: str, interaction_id: str, **fields: Any) -> None:
        """Ask to begin; whether it was had is in ``told``."""
        self.say("start", tenant_id=tenant_id, interaction_id=interaction_id, sample_rate=RATE_HZ, **fields)

    def say(self, event: str, **fields: Any) -> None:
        """Send one control message."""
        self._writer.write(frame(TEXT, json.dumps({"event": event, **fields}).encode()))

    def speak(self, mark: Mark) -> None:
        """Send one frame of audio."""
        self._writer.write(frame(BINARY, frame_of(mark)))

    async def send(self, data: bytes) -> None:
        """Send bytes, once there is room for them. Raises: ``OSError`` when it was cut."""
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the daemon has cut the line")
        self._writer.write(data)
        await self._writer.drain()

    async def until(self, condition: Callable[[], Any], what: str, deadline_s: float = _ANSWER_S) -> Any:
        """What ``condition`` returns once that is true. Raises: ``ScenarioFailed`` with ``what``."""
        end = time.monotonic() + deadline_s
        while not (found := condition()):
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                raise ScenarioFailed(f"{what}: not within {deadline_s} s; told {self.told[-3:]}") from None
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        """The messages of one kind so far."""
        return [message for message in self.told if message["event"] == name]

    def close(self) -> None:
        """End it at once."""
        if self._listening is not None:
            self._listening.cancel()
        self._writer.transport.abort()

    async def _listen(self) -> None:
        try:
            while True:
                first, size = await self._reader.readexactly(2)
                if size == 126:
                    size = int.from_bytes(await self._reader.readexactly(2), "big")
                payload = await self._reader.readexactly(size)
                if first & 15 == TEXT:
                    self.told.append(json.loads(payload))
                elif first & 15 == CLOSE:
                    self.close_code = int.from_bytes(payload[:2], "big")
                    self._writer.write(frame(CLOSE, payload[:2]))
                self._changed.set()
        except (OSError, asyncio.IncompleteReadError):
            self.ended = True
            self._changed.set()
