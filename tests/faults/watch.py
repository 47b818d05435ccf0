"""Watching a daemon while something breaks: memory, queue, CPU, and what its health pages say."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .processes import DaemonProcess

_STEP_S: Final = 0.2


def rss_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 if "VmRSS:" in status else 0


def cpu_s(pid: int) -> float:
    """CPU time a process has used, in seconds; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Seen:
    """What was seen; times are monotonic seconds."""

    rss_first: int = 0
    rss_peak: int = 0
    queue_peak_bytes: int = 0
    livez_slowest_s: float = 0.0
    livez_failed: int = 0
    # (when, status, body) whenever it changed.
    readyz: list[tuple[float, int, str]] = field(default_factory=list)
    breaker: set[int] = field(default_factory=set)
    cpu: list[tuple[float, float]] = field(default_factory=list)

    def ready_again_at(self, since: float) -> float | None:
        """When ``/readyz`` turned 200 for good after ``since``; ``since`` when it never was else."""
        if not self.readyz or self.readyz[-1][1] != 200:
            return None
        return max(since, self.readyz[-1][0])

    def not_ready_at(self, since: float) -> float | None:
        """When ``/readyz`` first was not 200 after ``since``."""
        return next((at for at, status, _ in self.readyz if at >= since and status not in (0, 200)), None)

    def cpu_share(self, since: float, until: float) -> float:
        """CPU of one core between two times."""
        within = [(at, used) for at, used in self.cpu if since <= at <= until]
        if len(within) < 2:
            return 0.0
        return (within[-1][1] - within[0][1]) / max(0.001, within[-1][0] - within[0][0])


class Watch:
    """Looks at one daemon five times a second until ended."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._daemon = daemon
        self.seen = Seen()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; memory is measured from here."""
        self.seen.rss_first = rss_bytes(self._daemon.pid)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def mark(self) -> None:
        """Memory is measured from here."""
        self.seen.rss_first = self.seen.rss_peak = rss_bytes(self._daemon.pid)

    async def end(self) -> Seen:
        """Stop looking; what was seen. Raises: what broke the watch."""
        assert self._task is not None
        self._task.cancel()
        try:
            await self._task
        except asyncio.CancelledError:
            return self.seen
        return self.seen

    async def _run(self) -> None:
        while True:
            await asyncio.gather(self._process(), self._livez(), self._readyz(), self._metrics())
            await asyncio.sleep(_STEP_S)

    async def _process(self) -> None:
        pid = self._daemon.pid
        self.seen.rss_peak = max(self.seen.rss_peak, rss_bytes(pid))
        self.seen.cpu.append((time.monotonic(), cpu_s(pid)))

    async def _livez(self) -> None:
        page = await self._daemon.pages.get("/livez")
        self.seen.livez_slowest_s = max(self.seen.livez_slowest_s, page.took_s)
        self.seen.livez_failed += page.status != 200

    async def _readyz(self) -> None:
        page = await self._daemon.pages.get("/readyz")
        known = self.seen.readyz
        if not known or known[-1][1:] != (page.status, page.body):
            known.append((time.monotonic(), page.status, page.body))

    async def _metrics(self) -> None:
        page = await self._daemon.pages.get("/metrics")
        if page.status == 200:
            queued = int(page.metric("voiceingest_queue_bytes"))
            self.seen.queue_peak_bytes = max(self.seen.queue_peak_bytes, queued)
            self.seen.breaker.add(int(page.metric("voiceingest_breaker_state")))
