"""What the kernel says of a process: the time it has run, the memory it holds. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def cpu_s(pid: int) -> float:
    """Time all threads of a process have run so far, in seconds, user and system together.

    From the scheduler's own account (``schedstat``, nanoseconds): utime and stime of ``stat`` are the
    same sum in ticks of 10 ms. A thread that has ended is no longer in it.
    """
    return run_s(_schedstats(pid))


def spent_s(pid: int) -> float:
    """The same in ticks of 10 ms, with what threads that have ended by now had run."""
    return ticks(Path(f"/proc/{pid}/stat").read_text()) / os.sysconf("SC_CLK_TCK")


def ticks(stat: str) -> int:
    """utime and stime of a ``stat``; the name before them may hold blanks and brackets."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def waited_s(pid: int) -> float:
    """Time its threads had something to do and no core to do it on: others had it."""
    return waiting_s(_schedstats(pid))


def _schedstats(pid: int) -> list[str]:
    return [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]


def run_s(schedstats: Iterable[str]) -> float:
    """The first word of each: nanoseconds on a core."""
    return sum(int(text.split()[0]) for text in schedstats) / 1e9


def waiting_s(schedstats: Iterable[str]) -> float:
    """The second word of each: nanoseconds of waiting for one."""
    return sum(int(text.split()[1]) for text in schedstats) / 1e9


def rss_kib(pid: int) -> int:
    """Resident memory of a process, in KiB."""
    return resident_kib(Path(f"/proc/{pid}/status").read_text())


def resident_kib(status: str) -> int:
    """``VmRSS`` of a ``status``. Raises: ``RuntimeError`` when it has none (a process that has ended)."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS")


def cpu_model(cpuinfo: str) -> str:
    """The processor's name in a ``cpuinfo``."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown processor"


def descriptors(pid: int) -> int:
    """Open file descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def threads(pid: int) -> int:
    """Threads of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
