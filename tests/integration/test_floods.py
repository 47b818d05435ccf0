"""Too much at once, at the rates of the defaults, and what the neighbours notice of it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import time
from typing import Final

from tests.support.daemon import Daemon
from tests.support.sockets import CONTINUATION, frame

from .callers import audio_of
from .case import asynchronous, cpu_s
from .test_limits import MIB, LimitCase

BURST: Final = 300


def asked_again(peer: socket.socket) -> int:
    """How often the kernel has sent something of a connection again: tcp_info's total_retrans."""
    count: int = struct.unpack_from("=100xI", peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104))[0]
    return count


class FloodTests(LimitCase):
    """Too much, at the rates of the defaults, and what the neighbours notice."""

    @asynchronous
    async def test_empty_fragments_beside_a_live_call(self) -> None:
        daemon = await self.start_daemon(PUBLISH_URL="memory://", ACK_INTERVAL="1")
        neighbour = await self.call(daemon)
        await neighbour.start("neighbour-1")
        flood = asyncio.gather(*(self.keep_flooding(daemon, 1.5) for _ in range(3)))
        sent_at: list[float] = []
        own_s = 0.0
        while not flood.done():
            sent_at.append(time.monotonic())
            neighbour.audio(audio_of(len(sent_at)))
            await asyncio.sleep(0.02)
            own_s = max(own_s, time.monotonic() - sent_at[-1] - 0.02)
        # A flood that begins slowly is paced before it is cut, for RATE_DEBT_MAX_S at most.
        self.assertEqual({code for codes in await flood for code in codes}, {4429})
        stopped = await neighbour.stop()
        self.assertEqual((stopped["published"], neighbour.close_code), (len(sent_at), 1000))
        late_s = [ack["at"] - sent_at[ack["seq"] - 1] for ack in neighbour.events("ack")]
        self.assertEqual(len(late_s), len(sent_at))
        # Served all along. How late is a matter of the machine, and of this process, which is the
        # attacker as well; starved for as long as a flood lasts would be a matter of the daemon.
        self.assertLess(max(late_s) - own_s, 5.0, own_s)

    async def keep_flooding(self, daemon: Daemon, seconds: float) -> list[int | None]:
        """One flood after the other; the code each was closed with."""
        codes, end = [], time.monotonic() + seconds
        pieces = frame(CONTINUATION, b"", fin=False) * 200
        while time.monotonic() < end:
            caller = await self.call(daemon)
            caller.send(frame(1, b"{", fin=False))
            while caller.close_code is None and not caller.lost:
                if caller.transport.get_write_buffer_size() < MIB:
                    caller.send(pieces)
                await asyncio.sleep(0.001)
            self.assertEqual([error["code"] for error in caller.events("error")], ["rate_limited"])
            codes.append(caller.close_code)
            caller.abort()
        return codes

    @asynchronous
    async def test_a_flood_that_goes_on_after_the_close_costs_little(self) -> None:
        daemon = await self.start_daemon(PUBLISH_URL="memory://")
        flood = await self.call(daemon)
        # It takes the close for what it is and answers nothing.
        pieces, flood.answers_close = frame(CONTINUATION, b"", fin=False) * 2000, False
        flood.send(frame(1, b"{", fin=False))
        began = used = 0.0
        while not flood.lost and (not began or time.monotonic() - began < 2.0):
            if flood.transport.get_write_buffer_size() < MIB:
                flood.send(pieces)
            await asyncio.sleep(0.001)
            if not began and flood.close_code:
                began, used = time.monotonic(), cpu_s(daemon.pid)
        self.assertEqual(flood.close_code, 4429)
        self.assertLess(cpu_s(daemon.pid) - used, 0.8)

    @asynchronous
    async def test_a_burst_of_connections_and_a_share_of_them(self) -> None:
        daemon = await self.start_daemon(PUBLISH_URL="memory://", MAX_CONNECTIONS_PER_IP=str(BURST))
        # Nobody accepts while the process stands still: what connects now is in the accept queue.
        os.kill(daemon.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, daemon.pid, signal.SIGCONT)
        async with asyncio.timeout(60.0):
            peers = await asyncio.gather(*(self.plain(daemon.port) for _ in range(BURST)))
        # Nobody was turned away by a queue that is full: who is asks again, after a second.
        self.assertEqual({asked_again(peer) for peer in peers}, {0})
        request, loop = self.request(), asyncio.get_running_loop()
        for peer in peers:
            peer.send(request)
        os.kill(daemon.pid, signal.SIGCONT)
        async with asyncio.timeout(60.0):
            answers = await asyncio.gather(*(loop.sock_recv(peer, 4096) for peer in peers))
        self.assertEqual(
            {answer.split(b"\r\n")[0] for answer in answers}, {b"HTTP/1.1 101 Switching Protocols"}
        )
        # The address has had its share.
        for _ in range(3):
            refused = await self.connect(daemon, Authorization=f"Bearer {self.issuer.token()}")
            await refused.closed()
            self.assertEqual((refused.status, refused.headers["retry-after"]), (429, "5"))
            self.assertIn(b'"too_many_from_address"', refused.body)
        peers[0].close()
        await self.until_counted(daemon, 'voiceingest_connections{transport="ingest"}', BURST - 1)
        await self.call(daemon)
        last = await self.connect(daemon, Authorization=f"Bearer {self.issuer.token()}")
        self.assertEqual(last.status, 429)
        refusals = 'voiceingest_connections_refused_total{code="too_many_from_address"}'
        self.assertEqual(await self.counted(daemon, refusals), 4)
