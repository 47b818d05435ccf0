"""The processes of a scenario: the daemon, whose output is a file, and the load and the consumer.

``tests.support.daemon.Daemon`` belongs to a test and its reactor; here there is neither, and the
daemon may run below another program, with another clock, or with its log on a full disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.daemon import HOST, ROOT, free_port

from .pages import Pages

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
_TWISTD: Final = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
_READY_S: Final = 45.0
_CHILD_S: Final = 60.0
_POLL_S: Final = 0.02


class ScenarioFailed(Exception):
    """The scenario could not be played: not a broken promise, but nothing is known either."""


class DaemonProcess:
    """One daemon on ports of its own; ``start`` may be called again after it has ended."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        *,
        below: Sequence[str] = (),
        host: str = HOST,
        log_path: Path | None = None,
        also_on: Sequence[str] = (),
        port: int = 0,
        port_options: str = "",
    ) -> None:
        """``below`` is the program it runs under, with its arguments; ``also_on`` are further addresses.

        ``port_options`` are put at the end of each endpoint description.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._below = list(below)
        self.host = host
        self.port, self.admin_port = port or free_port(), free_port()
        places = [f"tcp:{self.port}:interface={place}{port_options}" for place in (host, *also_on)]
        self._args = [word for place in places for word in ("--port", place)]
        self._args += ["--admin", f"tcp:{self.admin_port}:interface={host}"]
        self.settings = dict(settings)
        self.log_path = log_path or folder / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; ``below`` programs replace themselves by it."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pages(self) -> Pages:
        """Its admin site."""
        return Pages(self.host, self.admin_port)

    def spawn(self, **environ: str) -> None:
        """Start, and do not wait."""
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment = {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **self.settings, **environ}
        command = [
            *self._below,
            sys.executable,
            "-c",
            _TWISTD,
            "-n",
            "--pidfile=",
            "voiceingest",
            *self._args,
        ]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def start(self, **environ: str) -> None:
        """Start and wait until ready. Raises: ``ScenarioFailed``."""
        self.spawn(**environ)
        await self.until_ready(_READY_S)

    async def until_ready(self, deadline_s: float) -> None:
        """Wait for 200 of ``/readyz``. Raises: ``ScenarioFailed``."""
        end = time.monotonic() + deadline_s
        while (await self.pages.get("/readyz")).status != 200:
            if not self.running or time.monotonic() > end:
                raise ScenarioFailed(f"the daemon is not ready: {self.log_text[-1500:]}")
            await asyncio.sleep(_POLL_S)

    async def exit_code(self, deadline_s: float) -> int | None:
        """Its exit code, negative for a signal; ``None`` when it still runs after ``deadline_s``."""
        end = time.monotonic() + deadline_s
        assert self._process is not None
        while (code := self._process.poll()) is None and time.monotonic() < end:
            await asyncio.sleep(_POLL_S)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, stopped or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    @property
    def log_text(self) -> str:
        """Everything it has written."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log lines; what is not one JSON object is left out."""
        found = []
        for line in self.log_text.splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        return [line for line in self.log if line.get("event") == event]


class Child:
    """A module of this package as a process that is told and tells in JSON lines."""

    def __init__(self, module: str, plan: Mapping[str, Any], below: Sequence[str] = ()) -> None:
        self._module, self._plan, self._below = module, plan, list(below)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, ready: str) -> None:
        """Start, and wait until it says ``ready``."""
        self._process = await asyncio.create_subprocess_exec(
            *self._below, sys.executable, "-m", f"tests.faults.{self._module}",
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 28,
        )  # fmt: skip
        self.tell(self._plan)
        await self.hear(ready)

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send one line."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def hear(self, event: str, deadline_s: float = _CHILD_S) -> dict[str, Any]:
        """The next line of that event. Raises: ``ScenarioFailed`` after ``deadline_s`` or at the end."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(deadline_s):
                while line := await self._process.stdout.readline():
                    message: dict[str, Any] = json.loads(line)
                    if message["event"] == event:
                        return message
        except TimeoutError:
            raise ScenarioFailed(f"{self._module} did not say {event} within {deadline_s} s") from None
        raise ScenarioFailed(f"{self._module} ended before it said {event}")

    async def finish(self, do: str, deadline_s: float = _CHILD_S, **fields: Any) -> dict[str, Any]:
        """Tell it to end; its report."""
        self.tell({"do": do, **fields})
        report = await self.hear("report", deadline_s)
        assert self._process is not None
        await self._process.wait()
        return report

    def kill(self) -> None:
        """End it at once. Harmless when it has ended."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
