"""The admin site as a monitor sees it: one request on a connection of its own, timed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Page:
    """An answer; status 0 when there was none."""

    status: int
    body: str
    took_s: float

    def metric(self, name: str) -> float:
        """One sample of ``/metrics``, labels included in the name; 0 when it is not there."""
        found = [line.rpartition(" ")[2] for line in self.body.splitlines() if line.startswith(name + " ")]
        return float(found[0]) if found else 0.0

    def total(self, name: str) -> float:
        """The sum over all labels of one family."""
        lines = [line for line in self.body.splitlines() if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


class Pages:
    """Asks one site."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    async def get(self, path: str, timeout_s: float = _TIMEOUT_S) -> Page:
        """One page."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._ask(path)
        except (OSError, TimeoutError):
            return Page(0, "", time.monotonic() - began)
        head, _, body = answer.partition(b"\r\n\r\n")
        words = head.split(b" ", 2)
        status = int(words[1]) if len(words) > 1 and words[1][:3].isdigit() else 0
        return Page(status, body.decode(errors="replace"), time.monotonic() - began)

    async def _ask(self, path: str) -> bytes:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return await reader.read(-1)
        finally:
            writer.close()
