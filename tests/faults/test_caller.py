"""A caller of the load, at the moments that a bad line picks."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

from tests.integration.case import asynchronous
from tests.support.case import TestCase
from tests.support.daemon import HOST
from tests.support.sockets import TEXT, frame

from .caller import Caller
from .diary import Line
from .wire import Wire

STARTED = {"event": "started", "resumed": True, "next_seq": 1, "resume_token": "t"}


class Answering(asyncio.Protocol):
    """The daemon's side: lets everybody in and starts every stream."""

    def __init__(self, seen: list[Answering]) -> None:
        self._seen = seen

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._seen.append(self)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET "):
            self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        else:
            self.transport.write(frame(TEXT, json.dumps(STARTED).encode(), masked=False))


class CutAtOnce(Caller):
    """Loses its first line, in its ``way``, in the very moment its stream has begun on it."""

    way = ""

    def _started(self, wire: Wire, message: dict[str, Any]) -> None:
        super()._started(wire, message)
        if self.diary.connects == 1:
            self.cut(self.way)


class CallerTests(TestCase):
    @asynchronous
    async def test_a_line_that_breaks_as_soon_as_it_stands_is_dialled_again(self) -> None:
        for way in ("reset", "close", "leave"):
            seen: list[Answering] = []
            server = await asyncio.get_running_loop().create_server(partial(Answering, seen), HOST)
            port = server.sockets[0].getsockname()[1]
            caller = CutAtOnce(Line([(HOST, port)], "token", "t1", "call-1", True), 1, 0)
            caller.way = way
            caller.dial()
            async with asyncio.timeout(60.0):
                while not (len(seen) == 2 and caller.live):
                    await asyncio.sleep(0.01)
            self.assertEqual((caller.diary.connects, len(caller.diary.closes)), (2, 1), way)
            caller.over.set()
            caller.hang_up()
            server.close()
            for one in seen:
                one.transport.abort()
