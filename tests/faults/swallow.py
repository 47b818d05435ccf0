"""A TCP relay that can stop relaying without a word: a line that is dead and does not say so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.support.daemon import HOST, free_port


class Swallow:
    """Relays to one port of the loopback until told to swallow."""

    def __init__(self, to_port: int, add_cleanup: Callable[..., Any]) -> None:
        self._to_port = to_port
        self.port = free_port()
        self._open = asyncio.Event()
        self._open.set()
        self._add_cleanup = add_cleanup
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        server = await asyncio.start_server(self._relay, HOST, self.port)
        self._add_cleanup(self._end, server)

    def swallow(self) -> None:
        """From now on nothing passes and nobody is told."""
        self._open.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, self._to_port)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.get_running_loop().create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._open.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            sink.transport.abort()
        await self._open.wait()
        sink.close()

    def _end(self, server: asyncio.Server) -> None:
        server.close()
        for task in list(self._tasks):
            task.cancel()
