"""Real NATS servers with JetStream for tests, alone or as a cluster, on free ports of the loopback.

    server = NatsServer(self)                        # up, JetStream too, when this returns
    ... server.url(), server.port ...
    server.freeze(); server.thaw()                   # SIGSTOP, SIGCONT
    server.kill(); server.restart()                  # the same port and the same files again
    server.lame_duck()                               # what `nats-server --signal ldm` does

    cluster = NatsCluster(self)                      # three of them, with a leader
    ... cluster.url(), cluster.servers ...

The program is ``nats-server`` of the PATH. A cleanup of the test ends every process.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from twisted.trial.unittest import SkipTest

from .daemon import HOST, free_port
from .servers import ITest, ServerFailed, TlsFiles, wait_until_stopped

_READY_DEADLINE_S: Final = 60.0
_POLL_S: Final = 0.02


@functools.cache
def nats_program() -> str:
    """Path of ``nats-server``. Raises: ``SkipTest`` where there is none, ``ServerFailed`` in CI."""
    found = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        text = "no NATS server: install nats-server (apt)"
        raise ServerFailed(text) if os.environ.get("CI") == "true" else SkipTest(text)
    return found


class NatsServer:
    """One server process that belongs to ``test``.

    ``extra`` are lines for its configuration (``authorization {...}``, ``max_payload: 4096``);
    ``cluster`` is that of a cluster's member; ``ports`` are for clients and for monitoring; ``wait``
    false: do not wait until it is healthy.
    """

    def __init__(
        self,
        test: ITest,
        *,
        name: str = "n1",
        tls: TlsFiles | None = None,
        extra: Sequence[str] = (),
        cluster: str = "",
        ports: tuple[int, int] | None = None,
        jetstream: bool = True,
        wait: bool = True,
    ) -> None:
        self.name = name
        self.port, self._monitor_port = ports or _free_ports(2)
        self._folder = Path(tempfile.mkdtemp(prefix="voiceingest-nats-"))
        test.addCleanup(shutil.rmtree, self._folder, True)
        self._program = nats_program()
        self._config_path = self._folder / "nats.conf"
        self._log_path = self._folder / "server.log"
        lines = [
            f"server_name: {name}",
            f'listen: "{HOST}:{self.port}"',
            f'http: "{HOST}:{self._monitor_port}"',
            # A lame duck lets its clients stay for so long at least; the shortest there may be.
            'lame_duck_duration: "30s"',
            'lame_duck_grace_period: "1s"',
            *extra,
        ]
        if jetstream:
            store = self._folder / "store"
            lines.append(f'jetstream {{ store_dir: "{store}", max_mem: 64MB, max_file: 1GB }}')
        if tls is not None:
            lines.append(f'tls {{ cert_file: "{tls.cert_path}", key_file: "{tls.key_path}", timeout: 5 }}')
        self._config_path.write_text("\n".join([*lines, cluster]) + "\n")
        self._is_tls = tls is not None
        self._process: subprocess.Popen[bytes] | None = None
        test.addCleanup(self.kill)
        self._start()
        if wait:
            self.wait_until_healthy()

    def url(self, login: str = "") -> str:
        """URL of the server; ``login`` (``user:password``, a token) is put in as it is."""
        scheme = "nats+tls" if self._is_tls else "nats"
        return f"{scheme}://{login + '@' if login else ''}{HOST}:{self.port}"

    def freeze(self) -> None:
        """The process stops where it is, before this returns; its connections stay."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        wait_until_stopped(self._process.pid)

    def thaw(self) -> None:
        """The process goes on."""
        self._signal(signal.SIGCONT)

    def lame_duck(self) -> None:
        """The server tells its clients that it will go, hands its leaderships over, and goes."""
        self._signal(signal.SIGUSR2)

    def kill(self) -> None:
        """End the process at once, frozen or not."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10.0)

    def restart(self) -> None:
        """Up again on the same port with what is on its disk."""
        self.kill()
        self._start()
        self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        """Return when the server and its JetStream answer. Raises: ``ServerFailed``."""
        wait_for(lambda: self.monitor("/healthz").get("status") == "ok", self)

    def monitor(self, path: str) -> dict[str, Any]:
        """What the monitoring port says; empty where it says nothing."""
        try:
            with urlopen(f"http://{HOST}:{self._monitor_port}{path}", timeout=5.0) as answer:
                told: dict[str, Any] = json.load(answer)
                return told
        except (HTTPError, URLError, OSError, ValueError):
            return {}

    def last_words(self) -> str:
        """The end of its log."""
        return self._log_path.read_text(errors="replace")[-1500:] if self._log_path.exists() else ""

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        command = [self._program, "-c", str(self._config_path)]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise ServerFailed("the server does not run")
        self._process.send_signal(number)


class NatsCluster:
    """``count`` servers that know one another; their JetStream has a leader when this returns.

    ``wait`` false: not yet, ``wait_until_led`` is to be called.
    """

    def __init__(self, test: ITest, count: int = 3, *, wait: bool = True) -> None:
        ports = _free_ports(3 * count)
        routes = ", ".join(f'"nats://{HOST}:{port}"' for port in ports[:count])
        self.servers = [
            NatsServer(
                test,
                name=f"n{number + 1}",
                cluster=f'cluster {{ name: test, listen: "{HOST}:{port}", routes: [{routes}] }}',
                ports=(ports[count + number], ports[2 * count + number]),
                wait=False,
            )
            for number, port in enumerate(ports[:count])
        ]
        if wait:
            self.wait_until_led()

    def wait_until_led(self) -> None:
        """Return when all are up and JetStream has a leader. Raises: ``ServerFailed``."""
        for server in self.servers:
            server.wait_until_healthy()
        wait_for(self._has_leader, *self.servers)

    def url(self, *, first: str = "") -> str:
        """URL that names every server; the one called ``first`` comes first."""
        servers = sorted(self.servers, key=lambda server: server.name != first)
        return "nats://" + ",".join(f"{HOST}:{server.port}" for server in servers)

    def named(self, name: str) -> NatsServer:
        """The server of that name."""
        return next(server for server in self.servers if server.name == name)

    def _has_leader(self) -> bool:
        told = [server.monitor("/jsz") for server in self.servers]
        leaders = [one.get("meta_cluster", {}).get("leader") for one in told]
        return bool(leaders[0]) and len(set(leaders)) == 1


def _free_ports(count: int) -> list[int]:
    """So many, no two alike: one server is told several before it takes the first."""
    ports: dict[int, None] = {}
    while len(ports) < count:
        ports[free_port()] = None
    return list(ports)


def wait_for(there: Callable[[], bool], *servers: NatsServer) -> None:
    """Block until ``there()``. Raises: ``ServerFailed`` with the servers' last words."""
    deadline = time.monotonic() + _READY_DEADLINE_S
    while not there():
        if time.monotonic() > deadline or not all(server.is_running for server in servers):
            said = "\n".join(server.last_words() for server in servers)
            raise ServerFailed(f"the server did not come up:\n{said}")
        time.sleep(_POLL_S)
