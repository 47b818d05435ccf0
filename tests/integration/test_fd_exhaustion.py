"""No file descriptor left: live streams go on, nothing spins, and it is over when some are free again."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.case import SynchronousTestCase
from tests.support.daemon import HOST, ROOT, Daemon
from voiceingest.accepting import PAUSE_S

from .callers import Caller, audio_of
from .case import IngestCase, asynchronous, cpu_s, metric

# Paced streams that are live meanwhile, and callers that come when there is no place for them.
_STREAMS: Final = 3
_CALLERS: Final = 40
_FRAMES: Final = 100
_PACE_S: Final = 0.02


class FdExhaustionTests(IngestCase):
    async def send_paced(self, callers: Sequence[Caller]) -> None:
        """20 ms of audio every 20 ms on every stream."""
        begun = time.monotonic()
        for number in range(1, _FRAMES + 1):
            for caller in callers:
                caller.audio(audio_of(number))
            await asyncio.sleep(max(0.0, begun + number * _PACE_S - time.monotonic()))

    async def crowd(self, daemon: Daemon) -> list[Caller]:
        """More callers than there are descriptors; the kernel lets them all in."""
        crowd = [Caller() for _ in range(_CALLERS)]
        for caller in crowd:
            self.addCleanup(caller.abort)
            await asyncio.get_running_loop().create_connection(
                lambda caller=caller: caller, HOST, daemon.port  # type: ignore[misc]
            )
        return crowd

    @asynchronous
    async def test_live_streams_go_on_and_new_ones_are_taken_afterwards(self) -> None:
        """Scenario 9."""
        # The crowd says nothing: it is to stay for as long as the test takes.
        daemon = await self.start_daemon(ACK_INTERVAL="1", HANDSHAKE_TIMEOUT_S="60")
        consumer = await self.consume()
        callers = [await self.call(daemon) for _ in range(_STREAMS)]
        for number, caller in enumerate(callers):
            await caller.start(f"i{number}")
        before = limit_descriptors(daemon.pid, more=8)
        crowd = await self.crowd(daemon)
        used = cpu_s(daemon.pid)
        await self.send_paced(callers)
        used = cpu_s(daemon.pid) - used
        self.assertEqual(free_descriptors(daemon.pid), 0, "the limit was not reached")
        for number, caller in enumerate(callers):
            await caller.event("ack", _FRAMES)
            await self.published(consumer, f"i{number}", _FRAMES)
            self.assert_published(consumer, f"i{number}", [audio_of(n) for n in range(1, _FRAMES + 1)])
        self.assertLess(used, _FRAMES * _PACE_S / 2, "CPU seconds of the daemon")

        for caller in crowd:
            caller.abort()
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
        newcomer = await self.call(daemon)
        await newcomer.start("new")
        for caller in (*callers, newcomer):
            await caller.stop()
        pauses = metric(await self.metrics(daemon), "voiceingest_accept_pauses_total")
        # Ten a second, and a line for each time it begins: once more perhaps when the crowd leaves.
        self.assertGreater(pauses, 5)
        self.assertIn(len(daemon.logged("accept_paused")), (1, 2, 3))


def free_descriptors(pid: int) -> int:
    """How many a process may still open."""
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] - len(list(Path(f"/proc/{pid}/fd").iterdir()))


def limit_descriptors(pid: int, more: int) -> tuple[int, int]:
    """Let a process open ``more`` and no more; what it might open before. They are numbered: the
    limit is on the number, so those that are free below the highest count too.
    """
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + more, before[1]))
    return before


# Twisted keeps a descriptor in reserve, with which it takes and drops those who wait. A thread (a
# name is being resolved) may have it first: then nothing is left to accept with.
_WITHOUT_RESERVE: Final = """
    import json, os, resource, time
    from voiceingest.reactor import install
    install()
    from twisted.internet import reactor, tcp
    from twisted.internet.protocol import Factory, Protocol
    from voiceingest.listeners import Listener, take_apart
    from voiceingest.tls import Certificates
    pauses = []
    # How many pauses are looked at, after some to begin with.
    first, counted = 3, 10
    places = [take_apart("tcp:0:interface=127.0.0.1", None)]
    factory = Factory.forProtocol(Protocol)
    def paused():
        pauses.append(time.monotonic())
        if len(pauses) in (first, first + counted):
            print(json.dumps({"cpu_s": time.process_time(), "at_s": pauses[-1]}), flush=True)
        if len(pauses) == first + counted:
            reactor.stop()
    listener = Listener("listen", places, factory, Certificates(), reactor, paused=paused)
    listener.start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    tcp._reservedFD.__enter__()
    taken = os.open(os.devnull, os.O_RDONLY)
    print(listener.addresses[0].port, flush=True)
    reactor.callLater(40, reactor.stop)
    reactor.run()
"""


class WithoutReserveTests(SynchronousTestCase):
    def test_a_port_that_cannot_accept_is_no_busy_loop(self) -> None:
        """54000 log lines a second and a whole core is what Twisted alone makes of it."""
        path = Path(self.mktemp_path())
        with path.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(_WITHOUT_RESERVE)],
                stdout=subprocess.PIPE, stderr=errors, text=True,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        port = int(process.stdout.readline() or self.fail(path.read_text()))
        for _ in range(60):
            self.addCleanup(socket.create_connection((HOST, port), timeout=5).close)
        lines = [process.stdout.readline() for _ in range(2)]
        self.assertTrue(all(lines), "it does not try again as it should")
        first, last = map(read_figures, lines)
        self.assertLess(last["cpu_s"] - first["cpu_s"], 0.25, "CPU seconds of ten pauses")
        # A second, as long as timers are not early; on a busy machine more.
        self.assertGreater(last["at_s"] - first["at_s"], 10 * PAUSE_S - 0.05, "ten pauses")


def read_figures(line: str) -> dict[str, Any]:
    """One line of figures."""
    figures: dict[str, Any] = json.loads(line)
    return figures
