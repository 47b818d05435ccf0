"""The bytes between nats-py and a server: one asyncio connection that can be cut and held back.

nats-py reads and writes through its ``nats.aio.transport.Transport``. Its own ``TcpTransport`` can
only be closed, which waits for a frozen server to read what is buffered, and says nothing about
back-pressure but to a coroutine that waits. This one is the connection's asyncio protocol itself.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, Final, Protocol
from urllib.parse import ParseResult

from nats.aio.transport import Transport

# The server's answers that nobody has read yet; past this the socket is not read either.
_UNREAD_MAX_BYTES: Final = 1024 * 1024


class NotEncrypted(Exception):
    """The server does not offer the TLS that was asked for: nothing is said to it."""


class IWireOwner(Protocol):
    """Whom a wire tells, synchronously."""

    def wire_writable(self, writable: bool) -> None:
        """The connection has enough for now, or takes bytes again."""

    def wire_lost(self, error: Exception | None) -> None:
        """The connection is gone."""


class NatsWire(Transport, asyncio.Protocol):
    """One connection. With ``must_encrypt`` nothing is written before TLS is there."""

    def __init__(self, owner: IWireOwner, must_encrypt: bool) -> None:
        self._owner = owner
        # nats-py goes on in clear with a server that does not say tls_required, URL or not: whoever
        # sits between could strip TLS and read the password.
        self._may_write = not must_encrypt
        self._transport: Any = None
        self._unread = bytearray()
        self._is_lost = self._is_cut = False
        self._reader: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def abort(self) -> None:
        """Cut at once; what is buffered is thrown away, and nothing more is begun."""
        self._is_cut = True
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected; a peer that is gone is noticed by the kernel too."""
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Bytes from the server."""
        self._unread += data
        if len(self._unread) > _UNREAD_MAX_BYTES:
            self._transport.pause_reading()
        self._wake(self._reader)

    def pause_writing(self) -> None:
        """More than the high-water mark is buffered."""
        self._drained = asyncio.get_running_loop().create_future()
        self._owner.wire_writable(False)

    def resume_writing(self) -> None:
        """The buffer is below its low-water mark."""
        self._wake(self._drained)
        self._drained = None
        self._owner.wire_writable(True)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; whoever waits for it goes on."""
        self._is_lost = True
        for waiter in (self._reader, self._drained, self._gone):
            self._wake(waiter)
        self._drained = None
        self._owner.wire_lost(exc)

    # --- nats.aio.transport.Transport

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect in clear: a NATS server speaks first, and says whether TLS follows."""
        loop, host, port = asyncio.get_running_loop(), uri.hostname or "", uri.port or 0
        connecting = loop.create_connection(lambda: self, host, port)
        await asyncio.wait_for(connecting, connect_timeout)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Encrypt what is connected; the certificate must carry the name of ``uri``.

        Raises: ``NotEncrypted``, ``ConnectionResetError`` where nothing is connected any more.
        """
        if self._is_cut or self._is_lost:
            # asyncio would wait for the handshake of a connection that is gone until that is too late.
            raise ConnectionResetError
        if self._unread:
            # Said in clear after the INFO: it must not be taken for something said under TLS.
            raise NotEncrypted
        host = uri if isinstance(uri, str) else uri.hostname
        encrypting = asyncio.get_running_loop().start_tls(
            self._transport, self, ssl_context, server_hostname=host
        )
        self._transport = await asyncio.wait_for(encrypting, connect_timeout)
        self._may_write = True

    def write(self, payload: bytes) -> None:
        """Send, or buffer what the socket does not take. Raises: ``NotEncrypted``."""
        if not self._may_write:
            raise NotEncrypted
        if not self._is_lost:
            self._transport.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        """Send them all in one write."""
        self.write(b"".join(payload))

    async def read(self, buffer_size: int) -> bytes:
        """What has come in since the last call; nothing once the connection is gone."""
        while not self._unread and not self._is_lost:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = bytes(self._unread)
        self._take(len(data))
        return data

    async def readline(self) -> bytes:
        """One line of the introduction. Raises: ``ConnectionResetError`` when none comes any more."""
        while (end := self._unread.find(b"\n") + 1) == 0:
            if self._is_lost or len(self._unread) > _UNREAD_MAX_BYTES:
                raise ConnectionResetError
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        line = bytes(self._unread[:end])
        self._take(end)
        return line

    async def drain(self) -> None:
        """Wait while the connection is full; a lost one is drained."""
        if self._drained is not None:
            await asyncio.shield(self._drained)

    async def wait_closed(self) -> None:
        """Wait until the connection is gone, if there ever was one."""
        if self._transport is not None:
            await asyncio.shield(self._gone)

    def close(self) -> None:
        """Close when everything is written."""
        if self._transport is not None:
            self._transport.close()

    def at_eof(self) -> bool:
        """Whether nothing will come any more."""
        return self._is_lost and not self._unread

    def __bool__(self) -> bool:
        return True

    def _take(self, count: int) -> None:
        del self._unread[:count]
        if not self._is_lost:
            # Does nothing where reading was not paused.
            self._transport.resume_reading()

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
