"""What systemd is told, and the watchdog it keeps. Protocol: sd_notify(3), sd_watchdog_enabled(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ..interfaces import IClock


class Notifier:
    """Sends ``KEY=value`` lines to the socket that ``NOTIFY_SOCKET`` names; without one, nothing."""

    _log = Logger()

    def __init__(self, environ: Mapping[str, str], clock: IClock) -> None:
        """``clock`` is monotonic, as ``CLOCK_MONOTONIC`` is: RELOADING=1 tells systemd the time."""
        path = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the null byte of an abstract socket.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._clock = clock

    def send(self, *lines: str) -> None:
        """Send one datagram. A service manager that does not read must not stop the daemon."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as client:
                client.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            self._log.warn(
                "The service manager could not be told {state}: {reason}", event="notify_failed",
                state=lines[0], reason=error.strerror,
            )

    def ready(self) -> None:
        """Everything is up and every port is bound."""
        self.send("READY=1", "STATUS=serving")

    def reloading(self) -> None:
        """A reload begins; :meth:`ready` ends it."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={int(self._clock.seconds() * 1_000_000)}")

    def stopping(self) -> None:
        """The drain begins."""
        self.send("STOPPING=1", "STATUS=draining")

    def alive(self) -> None:
        """The reactor turns."""
        self.send("WATCHDOG=1")


class Watchdog:
    """Tells systemd that the reactor turns, at half the time it waits for that.

    A timer of the reactor does it and no thread: a reactor that is blocked must be noticed.
    """

    def __init__(self, environ: Mapping[str, str], notifier: Notifier, clock: Any) -> None:
        self._environ = environ
        self._call = LoopingCall(notifier.alive)
        self._call.clock = clock

    @property
    def interval_s(self) -> float | None:
        """Seconds between two signs of life; ``None`` when none is asked of this process."""
        if self._environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return None
        usec = self._environ.get("WATCHDOG_USEC", "")
        return int(usec) / 2_000_000 if usec.isdecimal() and int(usec) else None

    def start(self) -> None:
        """Begin, if it is asked for. After the fork: the process id counts."""
        interval_s = self.interval_s
        if interval_s is not None and not self._call.running:
            self._call.start(interval_s)

    def stop(self) -> None:
        """Say no more. Not before the drain is over: a drain that hangs must be noticed too."""
        if self._call.running:
            self._call.stop()
