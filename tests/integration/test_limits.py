"""Callers that mean harm, or are merely slow, on real sockets: what it costs the daemon and the others.

The findings these stand for, with the figures of stock software, are in ``docs/explanation/security.md``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Final

from tests.support.daemon import HOST, Daemon
from tests.support.sockets import PING, frame, handshake
from voiceingest.limits import HEAD_MAX_BYTES

from .callers import DEADLINE_S, Caller, audio_of
from .case import IngestCase, asynchronous, metric, rss_bytes, trust_in

MIB: Final = 1024 * 1024
GROWTH_MAX_BYTES: Final = 8 * MIB
# What a connection that is cut may take beyond its deadline on a busy machine.
# Less than the defaults, so that it is the setting that cuts.
LATE_S: Final = 6.0


async def pour(peer: socket.socket, data: bytes, most_bytes: int, deadline_s: float) -> tuple[int, float]:
    """Send ``data`` over and over until the peer cuts; how much it took, and after how long it cut.

    Nothing is read. Raises: ``AssertionError`` when it is not cut in time.
    """
    began, sent = time.monotonic(), 0
    while time.monotonic() - began < deadline_s:
        try:
            if sent < most_bytes:
                sent += peer.send(data)
            elif peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return sent, time.monotonic() - began
            else:
                peer.send(b"x")
        except BlockingIOError:
            await asyncio.sleep(0.02)
        except OSError:
            return sent, time.monotonic() - began
        else:
            await asyncio.sleep(0)
    raise AssertionError(f"not cut within {deadline_s} s, {sent} bytes taken")


async def read_all(peer: socket.socket, deadline_s: float) -> tuple[bytes, float]:
    """What comes until the end, reset included, and how long that took."""
    loop, began, read = asyncio.get_running_loop(), time.monotonic(), b""
    async with asyncio.timeout(deadline_s):
        try:
            while piece := await loop.sock_recv(peer, 65536):
                read += piece
        except ConnectionError:
            pass
    return read, time.monotonic() - began


class LimitCase(IngestCase):
    """Sockets without anything around them."""

    async def plain(self, port: int, receive_bytes: int = 0) -> socket.socket:
        """A TCP connection; ``receive_bytes`` is the size of its receive buffer."""
        peer = socket.socket()
        self.addCleanup(peer.close)
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_bytes:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await asyncio.get_running_loop().sock_connect(peer, (HOST, port))
        return peer

    def request(self) -> bytes:
        """A good upgrade."""
        return handshake(Authorization=f"Bearer {self.issuer.token()}")

    async def counted(self, daemon: Daemon, name: str) -> float:
        """One sample now."""
        return metric(await self.metrics(daemon), name)

    async def until_counted(self, daemon: Daemon, name: str, count: float) -> None:
        """Wait until one sample is that."""
        end = time.monotonic() + DEADLINE_S
        while (found := await self.counted(daemon, name)) != count:
            self.assertLess(time.monotonic(), end, f"{name} is {found}")
            await asyncio.sleep(0.02)

    def assert_flat(self, daemon: Daemon, before: int) -> None:
        """It has not grown."""
        self.assertLess(rss_bytes(daemon.pid) - before, GROWTH_MAX_BYTES)


class SlowTests(LimitCase):
    """Peers that do not read, do not finish, or do not begin. One daemon with short deadlines."""

    @asynchronous
    async def test_all_of_them(self) -> None:
        daemon = await self.start_daemon(
            tls=True, PUBLISH_URL="memory://", WRITE_TIMEOUT_S="1", HANDSHAKE_TIMEOUT_S="1",
            INGEST_MAX_REALTIME_FACTOR="0",
        )  # fmt: skip
        await self.reads_nothing(daemon)
        await self.reads_nothing_behind_tls(daemon)
        await self.head_without_end(daemon)
        await asyncio.gather(
            self.dripped_head(daemon), self.tls_that_never_comes(daemon), self.half_a_head(daemon)
        )
        # All of it has cost nobody his place.
        caller = await self.call(daemon)
        await caller.start("after-1")
        self.assertEqual((await caller.stop())["seq"], 0)
        await self.until_counted(daemon, 'voiceingest_connections{transport="ingest"}', 0)

    async def reads_nothing(self, daemon: Daemon) -> None:
        """Pings, frames and errors that each want an answer, none of which is read."""
        before = rss_bytes(daemon.pid)
        for number, piece in enumerate((frame(PING, b"p" * 125) * 100, frame(2, b"odd") * 100)):
            peer, pieces = await self.plain(daemon.port, receive_bytes=2048), piece
            peer.send(self.request())
            peer.send(frame(1, b'{"event":"start","tenant_id":"t1","interaction_id":"slow-%d"}' % number))
            if number:
                # Each good frame forgives the errors before it: this could go on for ever.
                pieces = (piece + frame(2, audio_of(1))) * 4
            sent, after_s = await pour(peer, pieces, 64 * MIB, DEADLINE_S)
            self.assert_flat(daemon, before)
            self.assertGreater(after_s, 1.0, sent)
        self.assertEqual(await self.counted(daemon, 'voiceingest_close_codes_total{code="4408"}'), 2)
        slow = 'ingress_errors_total{endpoint="ingest",type="slow_consumer"}'
        self.assertEqual(await self.counted(daemon, slow), 2)

    async def reads_nothing_behind_tls(self, daemon: Daemon) -> None:
        """The same where there is one more buffer between us and the socket."""
        caller = await self.call(daemon, tls=True)
        before, piece = rss_bytes(daemon.pid), frame(PING, b"p" * 125) * 100
        caller.transport.pause_reading()
        began = time.monotonic()
        while not caller.transport.is_closing() and time.monotonic() - began < DEADLINE_S:
            if caller.transport.get_write_buffer_size() < MIB:
                caller.send(piece)
            await asyncio.sleep(0)
        self.assertTrue(caller.transport.is_closing(), "not cut")
        self.assert_flat(daemon, before)
        self.assertEqual(await self.counted(daemon, 'voiceingest_close_codes_total{code="4408"}'), 3)

    async def head_without_end(self, daemon: Daemon) -> None:
        """One line, or many, and never the empty one."""
        before = rss_bytes(daemon.pid)
        for piece in (b"a" * 4096, b"X-Filler: %b\r\n" % (b"a" * 1000)):
            peer = await self.plain(daemon.port)
            peer.send(b"GET /v1/ingest HTTP/1.1\r\nX: ")
            sent = 0
            while sent <= HEAD_MAX_BYTES + 1024:
                sent += peer.send(piece)
            answer, _ = await read_all(peer, DEADLINE_S)
            self.assertTrue(answer.startswith(b"HTTP/1.1 431 "), answer[:80])
            self.assertIn(b'"head_too_big"', answer)
            greedy = await self.plain(daemon.port)
            greedy.send(b"GET /v1/ingest HTTP/1.1\r\nX: ")
            _, after_s = await pour(greedy, piece * 16, 20 * MIB, DEADLINE_S)
            self.assertLess(after_s, 4.5 + LATE_S)
            self.assert_flat(daemon, before)

    async def dripped_head(self, daemon: Daemon) -> None:
        """A byte now and then is no sign of good will."""
        loop, began = asyncio.get_running_loop(), time.monotonic()
        peer, dripped, read = await self.plain(daemon.port), 0, b""
        for byte in self.request():
            try:
                peer.send(bytes((byte,)))
            except OSError:
                break
            dripped += 1
            try:
                read += await asyncio.wait_for(loop.sock_recv(peer, 4096), 0.05)
            except TimeoutError:
                continue
            break
        self.assertTrue(read.startswith(b"HTTP/1.1 408 "), read[:80])
        self.assertTrue(0.9 < time.monotonic() - began < 1.0 + LATE_S, dripped)

    async def half_a_head(self, daemon: Daemon) -> None:
        """Nothing at all, and half of it at once."""
        for sent, answer in ((b"", b""), (b"GET /v1/ingest HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 408 ")):
            began = time.monotonic()
            peer = await self.plain(daemon.port)
            peer.send(sent)
            read, _ = await read_all(peer, DEADLINE_S)
            self.assertEqual(read[:13], answer)
            after_s = time.monotonic() - began
            self.assertTrue(0.9 < after_s < 1.0 + LATE_S, after_s)

    async def tls_that_never_comes(self, daemon: Daemon) -> None:
        """Silence, half a ClientHello, and what is no TLS at all, on a TLS port."""
        hello = bytes.fromhex("16030100c8010000c40303") + os.urandom(40)
        for sent in (b"", hello, self.request(), b"\x16\x03\x01"):
            peer = await self.plain(daemon.tls_port)
            peer.send(sent)
            read, after_s = await read_all(peer, DEADLINE_S)
            self.assertNotIn(b"HTTP", read)
            self.assertLess(after_s, 1.0 + LATE_S, sent[:3])
        # TLS that is whole, and then nothing.
        caller = Caller()
        await asyncio.get_running_loop().create_connection(
            lambda: caller, HOST, daemon.tls_port, ssl=trust_in(daemon.ca_path), server_hostname="localhost"
        )
        began = time.monotonic()
        await caller.closed(1.0 + LATE_S)
        self.assertLess(time.monotonic() - began, 1.0 + LATE_S)


class RateTests(LimitCase):
    """Slower than a network ever is, and faster than anybody speaks."""

    @asynchronous
    async def test_too_fast_is_paced_and_byte_by_byte_is_fine(self) -> None:
        daemon = await self.start_daemon()
        consumer = await self.consume()
        await asyncio.gather(self.too_fast(daemon), self.byte_by_byte(daemon))
        for interaction_id, count, size_bytes in (("fast-1", 24, 16000), ("slow-1", 3, 64)):
            await consumer.event(interaction_id, "stopped")
            self.assert_published(
                consumer, interaction_id, [audio_of(number, size_bytes) for number in range(count)]
            )
        self.assertGreaterEqual(await self.counted(daemon, "voiceingest_streams_paced_total"), 1)

    async def too_fast(self, daemon: Daemon) -> None:
        """24 s of audio at once: eight go through, the rest comes at eight times real time."""
        caller = await self.call(daemon)
        await caller.start("fast-1", sample_rate=8000)
        began = time.monotonic()
        for number in range(24):
            caller.audio(audio_of(number, 16000))
        stopped = await caller.stop()
        self.assertEqual((stopped["published"], stopped["dropped"], caller.close_code), (24, 0, 1000))
        # What one read brings, half a second of it, is taken before it is paid for.
        self.assertTrue(1.3 < time.monotonic() - began < 2.0 + LATE_S, time.monotonic() - began)

    async def byte_by_byte(self, daemon: Daemon) -> None:
        """A whole session in writes of one byte."""
        caller = Caller()
        await asyncio.get_running_loop().create_connection(lambda: caller, HOST, daemon.port)
        self.addCleanup(caller.abort)
        start = b'{"event":"start","tenant_id":"t1","interaction_id":"slow-1"}'
        audio = b"".join(frame(2, audio_of(number, 64)) for number in range(3))
        for byte in self.request() + frame(1, start) + audio + frame(1, b'{"event":"stop"}'):
            caller.send(bytes((byte,)))
            await asyncio.sleep(0)
        self.assertEqual(await caller.closed(), 1000)
        self.assertEqual((caller.told[0]["event"], caller.told[-1]["published"]), ("started", 3))
