"""Is it alive, is it ready, and why not: what the health pages answer from."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from twisted.logger import Logger

from .interfaces import IClock
from .metrics import Metrics

Status = Literal["ok", "degraded", "draining"]
Check = Callable[[], "str | None"]

# Sizes of this process in pages, the second one resident (proc(5)).
STATM: Final = Path("/proc/self/statm")

_DRAINING: Final = "draining"


class Health:
    """The named checks of one daemon. A check answers ``None``, or why it is not well.

    Checks are asked at each request, so they only look at what is known already.
    """

    _log = Logger()

    def __init__(self, clock: IClock, metrics: Metrics) -> None:
        self._clock = clock
        self._started = clock.seconds()
        self._checks: dict[str, Check] = {}
        self._draining = False
        metrics.read_gauge("ready", lambda: int(not self.reasons()))

    def register(self, name: str, check: Check) -> None:
        """Ask ``check`` from now on; a later check of the same name takes its place."""
        self._checks[name] = check

    def drain(self) -> None:
        """Be not ready from now on, whatever the checks say."""
        self._draining = True

    @property
    def draining(self) -> bool:
        """Whether the daemon is on its way out."""
        return self._draining

    def reasons(self) -> dict[str, str]:
        """Why the daemon is not ready, by check; empty when it is."""
        found = {name: reason for name in self._checks if (reason := self._ask(name)) is not None}
        return {_DRAINING: "the daemon is shutting down", **found} if self._draining else found

    def status(self) -> Status:
        """The whole in one word."""
        if self._draining:
            return "draining"
        return "degraded" if self.reasons() else "ok"

    def report(self) -> dict[str, Any]:
        """What ``/healthz`` shows: uptime in seconds, memory in bytes, every check."""
        reasons = self.reasons()
        return {
            "status": "draining" if self._draining else "degraded" if reasons else "ok",
            "uptime": round(self._clock.seconds() - self._started, 3),
            "memory": {"rss_bytes": rss_bytes()},
            "checks": {name: _verdict(reasons.get(name)) for name in self._checks},
        }

    def _ask(self, name: str) -> str | None:
        try:
            return self._checks[name]()
        except Exception:
            # A check that breaks is a check that fails; the page itself must come.
            self._log.failure("a health check broke", event="health_check_failed", check=name)
            return "the check itself failed"


def rss_bytes() -> int:
    """Resident memory of this process in bytes; its peak where the system does not tell."""
    try:
        return int(STATM.read_bytes().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        # No /proc, or no file descriptor left. ru_maxrss is in bytes on macOS, else in KiB.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _verdict(reason: str | None) -> dict[str, str]:
    return {"status": "ok"} if reason is None else {"status": "failed", "reason": reason}
