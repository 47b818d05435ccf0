"""Scenarios 8, 9, 12 and 33: the machine itself: a full disk, no descriptors, a jumping clock, no CPU."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from tests.support.daemon import HOST

from ..account import Account
from ..bench import hold_delivery, hold_lag, hold_neighbour, issuer
from ..guest import Guest
from .base import OnPubSub

_FAKETIME: Final = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
)


class DiskFull(OnPubSub):
    """The log is on a tmpfs of 1 MiB that is full."""

    number, name = "8", "disk-full"
    breaks = (
        "the log's file system (tmpfs, 1 MiB) is full for 4 s (quick: 2 s), with callers coming and going"
    )
    right = "audio goes on; lines that cannot be written are counted; logging goes on by itself"

    def missing(self) -> str:
        """A mount needs root."""
        return "" if os.geteuid() == 0 else "a tmpfs of our own needs root"

    def options(self) -> dict[str, Any]:
        """Its standard output is there."""
        self.disk = self.bench.folder / "disk"
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(self.disk)], check=True)
        self.bench.addCleanup(subprocess.run, ["umount", str(self.disk)], check=True)
        return {"log_path": self.disk / "daemon.log"}

    async def inject(self) -> None:
        """Fill it to the last byte, make the daemon log, make room."""
        filler = self.disk / "filler"
        with filler.open("wb", buffering=0) as out:
            for size in (65536, 4096, 1):
                self._fill(out, size)
        end = time.monotonic() + self.bench.scale.pick(4.0, 2.0)
        while time.monotonic() < end:
            await self._knock()
            await asyncio.sleep(0.02)
        page = await self.daemon.pages.get("/metrics")
        self.errors = page.metric("voiceingest_log_errors_total")
        filler.unlink()
        self.lines = len(self.daemon.log)
        await asyncio.sleep(1.2)
        await self._knock()

    def _fill(self, out: Any, size: int) -> None:
        try:
            while out.write(bytes(size)) == size:
                pass
        except OSError:
            return

    async def _knock(self) -> None:
        """A caller that comes and goes: two lines of the log at least."""
        guest = await Guest.dial(self.daemon, issuer().token())
        guest.close()

    def judge(self, account: Account) -> None:
        """Nobody but the log notices."""
        super().judge(account)
        self.row.note(f"{self.errors:.0f} log lines counted as not written")
        self.row.hold("lines that were not written are counted", self.errors > 0)
        self.row.hold("logging goes on", len(self.daemon.log) > self.lines, f"{len(self.daemon.log)} lines")
        self.row.hold("nothing is declared lost", not account.declared, account.declared)


class NoDescriptors(OnPubSub):
    """prlimit --nofile, and more connections than that."""

    number, name = "9", "descriptors-exhausted"
    breaks = (
        "the daemon may open few files, and a hundred connections more than that come and stay for 3 s "
        "(quick: 1.5 s)"
    )
    right = "live calls go on, no busy loop, new ones are taken again when there is room"

    def options(self) -> dict[str, Any]:
        """Room for the callers, the neighbour and a handful."""
        limit = self.bench.scale.streams + 40
        return {"below": ["prlimit", f"--nofile={limit}:{limit}", "--"]}

    async def inject(self) -> None:
        """Connect and stay, then go."""
        sockets = []
        for _ in range(140):
            guest = socket.socket()
            self.bench.addCleanup(guest.close)
            guest.setblocking(False)
            sockets.append(guest)
            guest.connect_ex((HOST, self.daemon.port))
        await asyncio.sleep(self.bench.scale.pick(3.0, 1.5))
        self.open = len(list(Path(f"/proc/{self.daemon.pid}/fd").iterdir()))
        for guest in sockets:
            guest.close()
        self.fault.end()
        began = time.monotonic()
        await self.daemon.until_ready(10)
        self.again_s = time.monotonic() - began

    def judge(self, account: Account) -> None:
        """``livez`` is a new connection too: it cannot be answered meanwhile."""
        assert self.bench.watch is not None
        hold_delivery(self.row, account)
        hold_neighbour(self.row)
        hold_lag(self.row)
        seen, fault = self.bench.watch.seen, self.fault
        before = seen.cpu_share(0, fault.began_at)
        share = seen.cpu_share(fault.began_at, fault.over_at)
        self.row.note(f"CPU {share * 100:.0f} % of a core meanwhile, {before * 100:.0f} % before; "
                      f"new connections {self.again_s:.1f} s after")  # fmt: skip
        self.row.hold("they did run out", self.open >= self.bench.scale.streams + 35, self.open)
        self.row.hold("no busy loop", share <= before + 0.4, f"{share:.2f} of a core, {before:.2f} before")
        self.row.hold(
            "new connections are taken again within 5 s", self.again_s <= 5, f"{self.again_s:.1f} s"
        )
        self.row.hold("nothing is declared lost", not account.declared, account.declared)
        self.row.hold("the log is not flooded", len(self.daemon.log) < 1000, len(self.daemon.log))


class ClockJumps(OnPubSub):
    """libfaketime: the wall clock goes an hour ahead and back; the monotonic one does not move."""

    number, name = "12", "clock-jumps"
    breaks = "the wall clock jumps an hour ahead, two hours back, and home again"
    right = "no session ends, deadlines keep to the monotonic clock, tokens of live streams do not expire"

    def missing(self) -> str:
        """Needs the library."""
        return "" if self._library() else "libfaketime is not installed"

    def _library(self) -> str:
        return next((path for path in _FAKETIME if Path(path).exists()), "")

    async def set_up(self) -> None:
        """The clock is a file."""
        self.clock = self.bench.folder / "clock"
        self._set("+0")
        await super().set_up()

    def settings(self) -> dict[str, str]:
        """Short deadlines; the library in front."""
        return {
            **super().settings(),
            "PING_INTERVAL_S": "1",
            "PING_TIMEOUT_S": "2",
            "HANDSHAKE_TIMEOUT_S": "1",
            "LD_PRELOAD": self._library(),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def _set(self, offset: str) -> None:
        # Whole at once: the library may read at any moment.
        new = self.clock.with_suffix(".new")
        new.write_text(offset + "\n")
        new.rename(self.clock)

    async def inject(self) -> None:
        """Jump, and see whether a deadline of a second still takes a second."""
        self.cut_s: list[float] = []
        for offset in ("+3600", "-3600", "+0"):
            self._set(offset)
            reader, writer = await asyncio.open_connection(HOST, self.daemon.port)
            began = time.monotonic()
            try:
                async with asyncio.timeout(8):
                    await reader.read(-1)
            except (TimeoutError, OSError):
                # Cut with RST, or not at all: how long it took tells which.
                writer.transport.abort()
            writer.close()
            self.cut_s.append(time.monotonic() - began)

    def judge(self, account: Account) -> None:
        """Timers are on time."""
        super().judge(account)
        self.row.note("handshake deadline of 1 s took " + ", ".join(f"{took:.1f} s" for took in self.cut_s))
        first_ms, last_ms = self.bench.heard["clock_ms"]
        spread_s = (last_ms - first_ms) / 1000
        self.row.hold("the daemon's clock did jump", 7190 <= spread_s < 7300, f"{spread_s:.0f} s")
        self.row.hold("deadlines keep time", all(0.8 <= took <= 4 for took in self.cut_s), self.cut_s)
        self.row.hold("nothing is declared lost", not account.declared, account.declared)


class Stopped(OnPubSub):
    """The daemon itself does not run for 3 s."""

    number, name = "33", "daemon-stopped-3s"
    breaks = "the daemon is stopped (SIGSTOP) for 3 s, longer than its own ping timeout of 2 s"
    right = "nobody is cut for a silence that was the daemon's own; nothing is lost"

    def settings(self) -> dict[str, str]:
        """Pings that would time out."""
        return {**super().settings(), "PING_INTERVAL_S": "1", "PING_TIMEOUT_S": "2"}

    async def inject(self) -> None:
        """Stop, wait, go on."""
        self.daemon.signal(signal.SIGSTOP)
        await asyncio.sleep(3.0)
        self.daemon.signal(signal.SIGCONT)

    def judge(self, account: Account) -> None:
        """The pages cannot answer meanwhile."""
        assert self.bench.watch is not None
        hold_delivery(self.row, account)
        hold_lag(self.row)
        self.row.hold("nothing is declared lost", not account.declared, account.declared)
        p99 = self.row.neighbour_p99_ms
        self.row.hold("the neighbour's p99 shows it", p99 is not None and p99 >= 1500, p99)


class Starved(OnPubSub):
    """Others take the CPU."""

    number, name = "33", "cpu-hog"
    breaks = "as many busy processes as there are cores run for 5 s (quick: 2 s)"
    right = "slower, nothing more"

    async def inject(self) -> None:
        """Start them, end them."""
        hogs = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)
        ]
        for hog in hogs:
            self.bench.addCleanup(hog.kill)
        await asyncio.sleep(self.bench.scale.pick(5.0, 2.0))
        for hog in hogs:
            hog.kill()
            hog.wait()

    def judge(self, account: Account) -> None:
        """Nothing is lost."""
        super().judge(account)
        self.row.hold("nothing is declared lost", not account.declared, account.declared)
