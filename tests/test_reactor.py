"""The reactor: its clock, its crash, and what it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import error
from twisted.internet.abstract import FileDescriptor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest

from voiceingest.reactor import VoiceReactor

from .support.case import SynchronousTestCase, TestCase

ROOT = Path(__file__).resolve().parents[1]
LIBFAKETIME = (
    Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"),
)

# The wall clock is set back by an hour while a timer of one second runs; what has not fired long
# before that hour is over has stalled.
STEP_BACK = """
    import os, sys, time
    from {module} import {install}
    {install}()
    from twisted.internet import reactor
    step, patience_s = sys.argv[1], float(sys.argv[2])
    wall = time.time()
    def set_back():
        with open(step, "w") as f:
            f.write("-3600")
    def fired(what):
        print(what, round(time.time() - wall))
        reactor.stop()
    reactor.callLater(0.2, set_back)
    reactor.callLater(1.0, fired, "fired")
    import threading
    def stalled():
        print("stalled", round(time.time() - wall), flush=True)
        os._exit(3)
    threading.Timer(patience_s, stalled).start()
    try:
        reactor.run()
    finally:
        sys.stdout.flush()
        os._exit(0)
"""


def run_python(
    code: str, *args: str, timeout_s: float = 60.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        capture_output=True, text=True, timeout=timeout_s, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
    )


class ClockTests(SynchronousTestCase):
    def test_the_clock_is_monotonic(self) -> None:
        self.assertIs(VoiceReactor.seconds, time.monotonic)

    def _step_back(self, module: str, install: str, patience_s: float) -> list[str]:
        library = next((path for path in LIBFAKETIME if path.exists()), None)
        if library is None:
            raise SkipTest("libfaketime is not installed (apt-get install libfaketime)")
        with tempfile.TemporaryDirectory() as directory:
            step = Path(directory, "step")
            step.write_text("+0")
            done = run_python(
                STEP_BACK.format(module=module, install=install),
                str(step),
                str(patience_s),
                timeout_s=patience_s + 60.0,
                LD_PRELOAD=str(library),
                FAKETIME_TIMESTAMP_FILE=str(step),
                FAKETIME_NO_CACHE="1",
                FAKETIME_DONT_FAKE_MONOTONIC="1",
            )
        self.assertTrue(done.stdout, done.stderr)
        return done.stdout.split()

    def test_a_wall_clock_set_back_does_not_stall_timers(self) -> None:
        what, wall_s = self._step_back("voiceingest.reactor", "install", 60.0)
        self.assertEqual(what, "fired")
        self.assertLess(int(wall_s), -3000, "the wall clock was not set back: the test proves nothing")

    def test_it_stalls_the_stock_reactor(self) -> None:
        """What the correction is for; when this fails Twisted has it and ours may go."""
        what, _ = self._step_back("twisted.internet.asyncioreactor", "install", 2.0)
        self.assertEqual(what, "stalled")


class CrashTests(SynchronousTestCase):
    def test_a_crash_of_an_idle_reactor_does_not_end_the_next_run(self) -> None:
        code = """
            import sys
            from {module} import {install}
            {install}()
            from twisted.internet import reactor
            reactor.crash()
            reactor.callLater(0.05, lambda: (print("ran"), reactor.stop()))
            reactor.run()
        """
        ours = run_python(code.format(module="voiceingest.reactor", install="install"))
        self.assertEqual(ours.stdout, "ran\n", ours.stderr)
        stock = run_python(code.format(module="twisted.internet.asyncioreactor", install="install"))
        self.assertEqual(stock.stdout, "", "Twisted has the correction: ours may go")


class ReaderTests(SynchronousTestCase):
    def test_what_epoll_cannot_watch_is_polled_and_forgotten_when_removed(self) -> None:
        done = run_python(
            """
            import sys, tempfile
            from voiceingest.reactor import install
            install()
            from twisted.internet import reactor
            from twisted.internet.abstract import FileDescriptor
            file = tempfile.TemporaryFile()
            file.write(b"abc")
            file.seek(0)
            class Plain(FileDescriptor):
                def fileno(self):
                    return file.fileno()
                def doRead(self):
                    print(file.read(), flush=True)
                    reactor.removeReader(self)
                    print(self in reactor.getReaders())
                    reactor.callLater(0, reactor.stop)
            plain = Plain(reactor)
            reactor.addReader(plain)
            reactor.addReader(plain)
            reactor.callLater(5, reactor.stop)
            reactor.run()
            """
        )
        self.assertEqual(done.stdout, "b'abc'\nFalse\n", done.stderr)


class Pen(FileDescriptor):
    """Writes to a socket when it is asked to, and does what the test says then."""

    def __init__(self, reactor: Any, act: Callable[[], object] = lambda: None) -> None:
        super().__init__(reactor)
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.connected = 1
        self.act = act
        self.asked = 0
        self.lost: list[Any] = []

    def fileno(self) -> int:
        return self.near.fileno()

    def doWrite(self) -> Any:
        self.asked += 1
        self.act()
        return super().doWrite()

    def writeSomeData(self, data: bytes) -> int:
        try:
            return self.near.send(data)
        except BlockingIOError:
            return 0

    def connectionLost(self, reason: Any) -> None:
        self.lost.append(reason)
        super().connectionLost(reason)

    def close(self) -> None:
        self.stopWriting()
        self.near.close()
        self.far.close()


class WriterTests(TestCase):
    """A socket is asked to take bytes, and the kernel only when it did not."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.assertIsInstance(reactor, VoiceReactor)
        self.watched: list[int] = []
        loop = self.reactor._asyncioEventloop
        watch = loop.add_writer

        def noting(fd: int, *rest: Any) -> None:
            self.watched.append(fd)
            watch(fd, *rest)

        self.patch(loop, "add_writer", noting)

    def pen(self, act: Callable[[], object] = lambda: None) -> Pen:
        pen = Pen(self.reactor, act)
        self.addCleanup(pen.close)
        return pen

    async def turns(self, count: int = 3) -> None:
        for _ in range(count):
            await deferLater(self.reactor, 0)

    async def test_what_is_taken_at_once_costs_the_kernel_one_call(self) -> None:
        pen = self.pen()
        for word in (b"one ", b"two ", b"three"):
            pen.write(word)
        self.assertEqual((pen.asked, pen in self.reactor.getWriters()), (0, True))
        await self.turns()
        self.assertEqual((pen.asked, pen in self.reactor.getWriters()), (1, False))
        self.assertEqual(pen.far.recv(100), b"one two three")
        self.assertEqual(self.watched, [])

    async def test_what_is_not_taken_waits_for_the_kernel_and_keeps_its_order(self) -> None:
        pen = self.pen()
        said = b"".join(b"%07d " % number for number in range(500_000))
        pen.write(said[:-8])
        await self.turns()
        self.assertEqual(self.watched, [pen.fileno()])
        pen.write(said[-8:])
        heard = bytearray()
        while len(heard) < len(said):
            pen.far.setblocking(False)
            try:
                heard += pen.far.recv(1 << 20)
            except BlockingIOError:
                await self.turns(1)
        self.assertEqual(bytes(heard), said)
        await self.turns()
        self.assertNotIn(pen, self.reactor.getWriters())
        self.assertEqual(self.watched, [pen.fileno()])

    async def test_who_is_gone_by_what_another_did_is_not_asked(self) -> None:
        second = self.pen()
        first = self.pen(second.stopWriting)
        first.write(b"1")
        second.write(b"2")
        await self.turns()
        self.assertEqual((first.asked, second.asked, self.watched), (1, 0, []))

    async def test_who_is_asked_may_write_more_and_bring_others(self) -> None:
        other = self.pen()
        pen = self.pen(lambda: pen.asked == 1 and (pen.write(b"b"), other.write(b"c")))
        pen.write(b"a")
        await self.turns()
        self.assertEqual((pen.far.recv(9), other.far.recv(9), self.watched), (b"ab", b"c", []))

    async def test_who_fails_is_lost_alone(self) -> None:
        def fail() -> None:
            raise OSError("no")

        bad, good = self.pen(fail), self.pen()
        bad.write(b"1")
        good.write(b"2")
        await self.turns()
        self.assertEqual((len(bad.lost), good.far.recv(9)), (1, b"2"))
        self.assertNotIn(bad, self.reactor.getWriters())
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    async def test_a_connection_that_nobody_takes_is_refused(self) -> None:
        """A connection that is being made waits for its socket as for one that takes bytes."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", port, timeout=5)
            with self.assertRaises(error.ConnectionRefusedError):
                await endpoint.connect(Factory.forProtocol(Protocol))

    def test_a_reactor_that_ends_lets_go_of_all(self) -> None:
        done = run_python(
            """
            import socket
            from voiceingest.reactor import install
            install()
            from twisted.internet import reactor
            from tests.test_reactor import Pen
            pen = Pen(reactor)
            pen.write(b"1")
            print(pen in reactor.removeAll(), pen in reactor.getWriters())
            """
        )
        self.assertEqual(done.stdout, "True False\n", done.stderr)


class InstallTests(SynchronousTestCase):
    def test_installs_ours(self) -> None:
        done = run_python("""
            import os
            from voiceingest.reactor import install
            install()
            from twisted.internet import reactor
            print(type(reactor).__name__, os.environ["AUTOBAHN_USE_NVX"])
        """)
        self.assertEqual(done.stdout, "VoiceReactor 1\n", done.stderr)

    def test_an_operator_may_do_without_nvx(self) -> None:
        done = run_python(
            """
            import os
            from voiceingest.reactor import install
            install()
            print(os.environ["AUTOBAHN_USE_NVX"])
            """,
            AUTOBAHN_USE_NVX="0",
        )
        self.assertEqual(done.stdout, "0\n", done.stderr)

    def test_keeps_an_asyncio_reactor_and_mends_its_clock(self) -> None:
        done = run_python("""
            import time
            from twisted.internet import asyncioreactor
            asyncioreactor.install()
            from voiceingest.reactor import install
            install()
            from twisted.internet import reactor
            print(type(reactor).__name__, reactor.seconds is time.monotonic)
        """)
        self.assertEqual(done.stdout, "AsyncioSelectorReactor True\n", done.stderr)

    def test_refuses_an_asyncio_reactor_with_timers(self) -> None:
        done = run_python("""
            from twisted.internet import asyncioreactor
            asyncioreactor.install()
            from twisted.internet import reactor
            reactor.callLater(1, print)
            from voiceingest.reactor import install_or_exit
            install_or_exit()
        """)
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (1, "", 1), done.stderr)

    def test_refuses_another_reactor_in_one_line(self) -> None:
        done = run_python("""
            from twisted.internet import selectreactor
            selectreactor.install()
            from voiceingest.reactor import install_or_exit
            install_or_exit()
        """)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn("SelectReactor is installed", done.stderr)

    def test_nothing_imported_before_it_installs_a_reactor(self) -> None:
        done = run_python("""
            import sys
            import voiceingest.reactor, voiceingest.aio, voiceingest.tls
            import voiceingest.listeners, voiceingest.lifecycle
            print("twisted.internet.reactor" in sys.modules)
        """)
        self.assertEqual(done.stdout, "False\n", done.stderr)


class NameTests(TestCase):
    def test_trial_finds_it_by_name(self) -> None:
        """These tests run on it: ``require_reactor`` has refused any other."""
        from twisted.internet import reactor

        self.assertIsInstance(reactor, AsyncioSelectorReactor)
        self.assertIs(reactor.seconds, time.monotonic)
