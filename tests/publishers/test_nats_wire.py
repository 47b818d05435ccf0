"""The connection below nats-py, without a server: what it tells, and when it lets go.

TLS is in tests/integration/test_nats.py, against a real server.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlparse

from tests.support.case import TestCase
from tests.support.daemon import HOST
from voiceingest.aio import as_deferred
from voiceingest.publishers.nats_wire import NatsWire, NotEncrypted


class Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def wire_writable(self, writable: bool) -> None:
        self.heard.append(writable)

    def wire_lost(self, error: Exception | None) -> None:
        self.heard.append("lost")


class WireTests(TestCase):
    """Each against a listening socket that the test reads, or does not."""

    async def connected(self, must_encrypt: bool = False) -> tuple[NatsWire, Owner, socket.socket]:
        listener = socket.create_server((HOST, 0))
        owner = Owner()
        wire = NatsWire(owner, must_encrypt)
        await wire.connect(urlparse(f"nats://{HOST}:{listener.getsockname()[1]}"), 0, 5)
        far_end, _ = listener.accept()
        listener.close()
        self.addCleanup(far_end.close)
        return wire, owner, far_end

    def run_in_loop(self, scene: Callable[[], Coroutine[Any, Any, None]]) -> Any:
        return as_deferred(asyncio.wait_for(scene(), 10))

    def test_lines_then_bytes(self) -> Any:
        async def scene() -> None:
            wire, owner, far_end = await self.connected()
            far_end.sendall(b"INFO {}\r\nPO")
            self.assertEqual(await wire.readline(), b"INFO {}\r\n")
            far_end.sendall(b"NG\r\nMSG")
            self.assertEqual(await wire.readline(), b"PONG\r\n")
            self.assertEqual(await wire.read(1), b"MSG")
            self.assertFalse(wire.at_eof())
            far_end.close()
            self.assertEqual(await wire.read(1), b"")
            self.assertTrue(wire.at_eof())
            self.assertEqual(owner.heard, ["lost"])
            await wire.wait_closed()
            await wire.drain()
            wire.write(b"nobody is there")
            with self.assertRaises(ConnectionResetError):
                await wire.readline()

        return self.run_in_loop(scene)

    def test_a_line_without_end_is_not_waited_for(self) -> Any:
        async def scene() -> None:
            wire, _, far_end = await self.connected()
            far_end.setblocking(False)
            loop = asyncio.get_running_loop()
            flood = loop.create_task(loop.sock_sendall(far_end, bytes(64 * 1024 * 1024)))
            with self.assertRaises(ConnectionResetError):
                await wire.readline()
            # The rest stays where it is: in the socket.
            self.assertGreater(2 * 1024 * 1024, len(wire._unread))
            self.assertFalse(flood.done())
            flood.cancel()
            wire.abort()
            await wire.wait_closed()

        return self.run_in_loop(scene)

    def test_back_pressure_is_told_and_an_abort_does_not_wait(self) -> Any:
        async def scene() -> None:
            wire, owner, _far_end = await self.connected()
            while not owner.heard:
                wire.writelines([bytes(65536), bytes(65536)])
            self.assertEqual(owner.heard, [False])
            draining = asyncio.get_running_loop().create_task(wire.drain())
            await asyncio.sleep(0)
            self.assertFalse(draining.done())
            wire.abort()
            await wire.wait_closed()
            await draining
            self.assertEqual(owner.heard, [False, "lost"])

        return self.run_in_loop(scene)

    def test_back_pressure_ends_when_the_peer_reads(self) -> Any:
        async def scene() -> None:
            wire, owner, far_end = await self.connected()
            sent = 0
            while not owner.heard:
                wire.write(bytes(65536))
                sent += 65536
            far_end.setblocking(False)
            got = 0
            while got < sent:
                got += len(await asyncio.get_running_loop().sock_recv(far_end, 1 << 20))
            await wire.drain()
            self.assertEqual(owner.heard, [False, True])
            wire.close()
            await wire.wait_closed()

        return self.run_in_loop(scene)

    def test_nothing_in_clear_where_tls_is_asked_for(self) -> Any:
        async def scene() -> None:
            wire, _, far_end = await self.connected(must_encrypt=True)
            with self.assertRaises(NotEncrypted):
                wire.write(b"CONNECT {}\r\n")
            with self.assertRaises(NotEncrypted):
                wire.writelines([b"CONNECT {}\r\n"])
            wire.close()
            await wire.wait_closed()
            self.assertEqual(far_end.recv(100), b"")

        return self.run_in_loop(scene)

    def test_what_was_said_before_tls_is_not_taken_for_said_under_it(self) -> Any:
        async def scene() -> None:
            wire, _, far_end = await self.connected()
            far_end.sendall(b"INFO {}\r\n+OK\r\n")
            await wire.readline()
            with self.assertRaises(NotEncrypted):
                await wire.connect_tls(HOST, ssl.create_default_context(), 0, 5)
            wire.abort()
            await wire.wait_closed()

        return self.run_in_loop(scene)

    def test_what_is_cut_or_lost_is_not_encrypted_any_more(self) -> Any:
        """Nor is anything waited for: an attempt that is given up is over at once."""

        async def scene() -> None:
            for wait in (False, True):
                wire, _, _far_end = await self.connected()
                wire.abort()
                if wait:
                    await wire.wait_closed()
                with self.assertRaises(ConnectionResetError):
                    await wire.connect_tls(HOST, ssl.create_default_context(), 0, 5)
                await wire.wait_closed()

        return self.run_in_loop(scene)

    def test_one_that_was_never_connected(self) -> Any:
        async def scene() -> None:
            wire = NatsWire(Owner(), False)
            wire.close()
            wire.abort()
            await wire.wait_closed()
            self.assertTrue(wire)

        return self.run_in_loop(scene)
