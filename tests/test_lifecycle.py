"""Coming up in order, going down in reverse, and being told things in between."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Application, IServiceCollection
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import implementer

from voiceingest.errors import BadCertificate, PortUnavailable, VoiceIngestError
from voiceingest.lifecycle import (
    Child,
    Daemon,
    LagSampler,
    Notifier,
    OrderedService,
    Outcome,
    Reloads,
    Signals,
    Watchdog,
)
from voiceingest.lifecycle.lag import SAMPLE_S
from voiceingest.metrics import Metrics

from .support.case import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]


class FakeReactor(Clock):
    """A clock that runs when told to and may be asked to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.when_running: list[Callable[[], None]] = []
        self.stops = 0

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        self.when_running.append(call)

    def callFromThread(self, call: Callable[..., None], *args: Any) -> None:
        self.callLater(0, call, *args)

    def stop(self) -> None:
        self.stops += 1

    def run(self) -> None:
        """Call what waited for the reactor to run."""
        while self.when_running:
            self.when_running.pop(0)()


class FakePart:
    """Writes down what happens to it; what it answers is set by the test."""

    def __init__(self, name: str, journal: list[str]) -> None:
        self.name = name
        self.journal = journal
        self.starting: Any = None
        self.stopping: Any = None

    def start(self) -> Any:
        self.journal.append(f"start {self.name}")
        if isinstance(self.starting, Exception):
            raise self.starting
        return self.starting

    def stop(self) -> Any:
        self.journal.append(f"stop {self.name}")
        if isinstance(self.stopping, Exception):
            raise self.stopping
        return self.stopping


class LogTaker(SynchronousTestCase):
    """Tests that look at what was logged."""

    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        take: Any = self.events.append
        globalLogPublisher.addObserver(take)
        self.addCleanup(globalLogPublisher.removeObserver, take)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log events of one name."""
        return [line for line in self.events if line.get("event") == event]


class TreeCase(LogTaker):
    """Three parts and a tree of them."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = FakeReactor()
        self.journal: list[str] = []
        self.errors: Counter[tuple[str, str]] = Counter()
        self.parts = [FakePart(name, self.journal) for name in ("admin", "bus", "listeners")]
        self.failures: list[VoiceIngestError] = []
        self.tree = OrderedService(
            [Child(part, start_deadline_s=10, stop_deadline_s=5) for part in self.parts],
            self.reactor,
            self.errors,
            started=lambda: self.journal.append("serving"),
            failed=self.failures.append,
        )

    def up(self) -> None:
        """Start the tree and the reactor."""
        self.tree.startService()
        self.reactor.run()
        self.assertEqual(self.journal.pop(), "serving")
        self.journal.clear()


class StartTests(TreeCase):
    def test_nothing_happens_before_the_reactor_runs(self) -> None:
        self.tree.startService()
        self.assertEqual(self.journal, [])

    def test_in_order_each_waited_for(self) -> None:
        bus = self.parts[1]
        bus.starting = Deferred()
        self.tree.startService()
        self.reactor.run()
        self.assertEqual(self.journal, ["start admin", "start bus"])
        bus.starting.callback(None)
        self.assertEqual(self.journal, ["start admin", "start bus", "start listeners", "serving"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_failure_stops_those_that_are_up_in_reverse(self) -> None:
        error = PortUnavailable("tcp:8443: cannot listen: Address already in use")
        for answer in (error, fail(error)):
            self.setUp()
            self.parts[2].starting = answer
            self.tree.startService()
            self.reactor.run()
            self.assertEqual(
                self.journal, ["start admin", "start bus", "start listeners", "stop bus", "stop admin"]
            )
            self.assertEqual(self.failures, [error])
            [line] = self.logged("start_failed")
            self.assertEqual((line["part"], line["code"], line["problem"]),
                             ("listeners", "port_unavailable", error.message))

    def test_the_stop_after_a_failure_is_waited_for(self) -> None:
        self.parts[1].starting = PortUnavailable()
        self.parts[0].stopping = Deferred()
        self.tree.startService()
        self.reactor.run()
        self.assertEqual(self.failures, [])
        self.parts[0].stopping.callback(None)
        self.assertEqual(len(self.failures), 1)

    def test_an_unexpected_error_is_logged_and_not_shown(self) -> None:
        self.parts[1].starting = KeyError("secret")
        self.tree.startService()
        self.reactor.run()
        [failure] = self.flushLoggedErrors(KeyError)
        self.assertEqual(failure.value.args, ("secret",))
        self.assertNotIn("secret", self.failures[0].message)
        self.assertIn("bus", self.failures[0].message)

    def test_a_start_that_takes_too_long_is_a_failure(self) -> None:
        gone: list[Deferred[None]] = []
        self.parts[1].starting = Deferred(gone.append)
        self.tree.startService()
        self.reactor.run()
        self.reactor.advance(9.9)
        self.assertEqual(self.failures, [])
        self.reactor.advance(0.2)
        self.assertEqual(self.failures[0].message, "bus: not up within 10 s")
        self.assertEqual(len(gone), 1)
        self.assertEqual(self.journal[-1], "stop admin")

    def test_a_stop_cuts_the_start_short(self) -> None:
        self.parts[1].starting = Deferred()
        self.tree.startService()
        self.reactor.run()
        self.successResultOf(self.tree.stopService())
        self.assertEqual(self.journal, ["start admin", "start bus", "stop admin"])
        self.assertEqual(self.failures, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_stop_before_the_reactor_runs(self) -> None:
        self.tree.startService()
        self.successResultOf(self.tree.stopService())
        self.reactor.run()
        self.assertEqual(self.journal, [])


class StopTests(TreeCase):
    def test_in_reverse_each_waited_for(self) -> None:
        """MultiService calls them all at once."""
        self.up()
        self.parts[2].stopping = Deferred()
        stopped = self.tree.stopService()
        self.assertEqual(self.journal, ["stop listeners"])
        self.parts[2].stopping.callback(None)
        self.assertEqual(self.journal, ["stop listeners", "stop bus", "stop admin"])
        self.successResultOf(stopped)
        self.assertFalse(self.tree.running)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_what_does_not_stop_is_left_behind_and_counted(self) -> None:
        self.up()
        gone: list[Deferred[None]] = []
        self.parts[1].stopping = Deferred(gone.append)
        stopped = self.tree.stopService()
        self.reactor.advance(4.9)
        self.assertEqual(self.journal, ["stop listeners", "stop bus"])
        self.reactor.advance(0.2)
        self.assertEqual(self.journal[-1], "stop admin")
        self.successResultOf(stopped)
        self.assertEqual(len(gone), 1)
        self.assertEqual(self.errors, {("internal", "bus"): 1})
        [line] = self.logged("stop_timeout")
        self.assertEqual((line["part"], line["log_level"]), ("bus", LogLevel.error))

    def test_what_fails_to_stop_does_not_keep_the_others_up(self) -> None:
        for answer in (KeyError("broken"), fail(KeyError("broken")), fail(CancelledError())):
            self.setUp()
            self.up()
            self.parts[1].stopping = answer
            self.successResultOf(self.tree.stopService())
            self.assertEqual(self.journal, ["stop listeners", "stop bus", "stop admin"])
            self.assertEqual(self.errors, {("internal", "bus"): 1})
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)

    def test_force_waits_for_nothing(self) -> None:
        self.up()
        for part in self.parts:
            part.stopping = Deferred()
        stopped = self.tree.stopService()
        self.assertEqual(self.journal, ["stop listeners"])
        self.tree.force()
        self.assertEqual(self.journal, ["stop listeners", "stop bus", "stop admin"])
        self.successResultOf(stopped)
        self.assertEqual(len(self.logged("stop_forced")), 3)

    def test_whoever_asks_twice_waits_for_the_same_stop(self) -> None:
        self.up()
        self.parts[2].stopping = Deferred()
        first, second = self.tree.stopService(), self.tree.stopService()
        self.assertNoResult(second)
        self.parts[2].stopping.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.successResultOf(self.tree.stopService())
        self.assertEqual(self.journal, ["stop listeners", "stop bus", "stop admin"])


class NotifyCase(LogTaker):
    """A socket where systemd's would be."""

    def listen(self, name: str) -> socket.socket:
        service_manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        service_manager.bind("\0" + name[1:] if name.startswith("@") else name)
        service_manager.settimeout(5)
        self.addCleanup(service_manager.close)
        return service_manager


class NotifyTests(NotifyCase):
    def test_what_is_said(self) -> None:
        clock = Clock()
        clock.advance(12.5)
        for name in (os.path.relpath(self.mktemp_path()), f"@voiceingest-test-{os.getpid()}"):
            manager = self.listen(name)
            notifier = Notifier({"NOTIFY_SOCKET": name}, clock)
            for call, said in (
                (notifier.ready, b"READY=1\nSTATUS=serving"),
                (notifier.reloading, b"RELOADING=1\nMONOTONIC_USEC=12500000"),
                (notifier.stopping, b"STOPPING=1\nSTATUS=draining"),
                (notifier.alive, b"WATCHDOG=1"),
            ):
                call()
                self.assertEqual(manager.recv(1024), said)

    def test_without_a_socket_nothing_is_said(self) -> None:
        Notifier({}, Clock()).ready()
        self.assertEqual(self.logged("notify_failed"), [])

    def test_a_service_manager_that_does_not_read_does_not_stop_us(self) -> None:
        name = os.path.relpath(self.mktemp_path())
        self.listen(name)
        notifier = Notifier({"NOTIFY_SOCKET": name}, Clock())
        for _ in range(3000):
            notifier.alive()
            if self.logged("notify_failed"):
                return
        self.fail("the socket never filled up")

    def test_a_service_manager_that_is_gone(self) -> None:
        Notifier({"NOTIFY_SOCKET": "/nowhere/notify"}, Clock()).ready()
        self.assertEqual(self.logged("notify_failed")[0]["state"], "READY=1")

    def test_the_watchdog_is_told_at_half_time(self) -> None:
        name = os.path.relpath(self.mktemp_path())
        manager = self.listen(name)
        clock = Clock()
        environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
        watchdog = Watchdog(environ, Notifier(environ, clock), clock)
        watchdog.start()
        manager.setblocking(False)
        self.assertEqual(manager.recv(64), b"WATCHDOG=1")
        for _ in range(4):
            clock.advance(1.4)
            with self.assertRaises(BlockingIOError):
                manager.recv(64)
            clock.advance(0.1)
            self.assertEqual(manager.recv(64), b"WATCHDOG=1")
        watchdog.stop()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_no_watchdog_unless_it_is_asked_of_us(self) -> None:
        clock = Clock()
        for environ in ({}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"},
                        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}):
            watchdog = Watchdog(environ, Notifier(environ, clock), clock)
            self.assertIsNone(watchdog.interval_s)
            watchdog.start()
            watchdog.stop()
            self.assertEqual(clock.getDelayedCalls(), [])


class LagTests(SynchronousTestCase):
    def test_measures_how_late_it_is_called(self) -> None:
        clock = Clock()
        seen: list[float] = []

        class Histogram:
            def observe(self, seconds: float) -> None:
                seen.append(round(seconds, 6))

        sampler = LagSampler(clock, Histogram())
        sampler.start()
        clock.advance(SAMPLE_S)
        clock.advance(SAMPLE_S + 0.25)
        clock.advance(SAMPLE_S)
        self.assertEqual(seen, [0.0, 0.25, 0.0])
        self.assertIsNone(sampler.ready)
        clock.advance(SAMPLE_S + 1.5)
        self.assertEqual(sampler.ready, "the reactor was 1.5 s late")
        clock.advance(SAMPLE_S)
        self.assertIsNone(sampler.ready)
        sampler.stop()
        sampler.stop()
        self.assertEqual(clock.getDelayedCalls(), [])


class OutcomeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[str] = []
        self.at_exit: list[tuple[Any, ...]] = []
        self.read, write = os.pipe()
        self.addCleanup(os.close, self.read)
        self.twistd = {"statusPipe": write}
        self.outcome = Outcome(self.twistd, self.said.append, lambda *args: self.at_exit.append(args))

    def test_the_parent_of_a_daemon_waits_until_it_is_up(self) -> None:
        self.outcome.hold()
        self.assertEqual(self.twistd, {})
        os.set_blocking(self.read, False)
        with self.assertRaises(BlockingIOError):
            os.read(self.read, 100)
        self.outcome.started()
        self.assertEqual(os.read(self.read, 100), b"0")
        self.assertEqual(os.read(self.read, 100), b"")
        self.assertEqual((self.said, self.at_exit, self.outcome.code), ([], [], 0))

    def test_a_failure_is_told_to_all(self) -> None:
        self.outcome.hold()
        self.outcome.failed("tcp:1:\n in üse" + "." * 200)
        status = os.read(self.read, 1000)
        self.assertTrue(status.startswith(b"1 tcp:1: in \\xfcse..."), status)
        self.assertEqual(len(status), 100)
        self.assertEqual(len(self.said), 1)
        self.assertTrue(self.said[0].startswith("voiceingest: tcp:1: in üse..."))
        self.assertEqual(self.said[0].count("\n"), 1)
        self.assertEqual([args[1] for args in self.at_exit], [1])

    def test_the_parent_may_be_gone(self) -> None:
        read, write = os.pipe()
        os.close(read)
        outcome = Outcome({"statusPipe": write}, self.said.append, lambda *args: None)
        outcome.hold()
        outcome.started()
        with self.assertRaises(OSError):
            os.fstat(write)
        os.close(self.twistd.pop("statusPipe"))

    def test_in_the_foreground_there_is_no_parent(self) -> None:
        os.close(self.twistd.pop("statusPipe"))
        nothing: dict[str, Any] = {}
        for twistd in (None, nothing):
            outcome = Outcome(twistd, self.said.append, lambda *args: self.at_exit.append(args))
            outcome.hold()
            outcome.started()
            outcome.failed("no")
            outcome.exit_with(1)
            self.assertEqual(outcome.code, 1)
        self.assertEqual(len(self.at_exit), 2)


class LeaveTests(SynchronousTestCase):
    def test_the_exit_code_holds_when_nobody_reads_the_output(self) -> None:
        code = (
            "import atexit, sys; from voiceingest.lifecycle.outcome import leave;"
            "atexit.register(leave, 7); sys.stdout.write('x' * 10)"
        )
        for close in (False, True):
            read, write = os.pipe()
            if close:
                os.close(read)
            done = subprocess.run(
                [sys.executable, "-c", code],
                stdout=write, stderr=subprocess.DEVNULL, check=False, timeout=20,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            )
            os.close(write)
            if not close:
                self.assertEqual(os.read(read, 100), b"x" * 10)
                os.close(read)
            self.assertEqual(done.returncode, 7)


class ReloadsTests(LogTaker):
    def test_each_target_for_itself(self) -> None:
        results: Counter[tuple[str, str]] = Counter()
        done: list[str] = []

        def broken() -> None:
            raise BadCertificate("/etc/cert.pem: No such file or directory")

        def bug() -> None:
            raise KeyError("secret")

        reloads = Reloads(
            {"certificate": broken, "jwt_key": bug, "log_level": lambda: done.append("level")}, results
        )
        reloads.reload()
        self.assertEqual(done, ["level"])
        self.assertEqual(
            results, {("certificate", "failed"): 1, ("jwt_key", "failed"): 1, ("log_level", "ok"): 1}
        )
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        lines = self.logged("reload_failed")
        self.assertEqual([line["what"] for line in lines], ["certificate", "jwt_key"])
        self.assertIn("/etc/cert.pem", lines[0]["problem"])
        self.assertNotIn("secret", lines[1]["problem"])
        self.assertEqual([line["what"] for line in self.logged("reloaded")], ["log_level"])


class SignalsTests(SynchronousTestCase):
    def test_first_stops_second_forces(self) -> None:
        reactor, journal = FakeReactor(), []
        taken = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.getsignal(number) for number in taken}
        alarm = signal.getsignal(signal.SIGALRM)
        signals = Signals(
            reactor,
            stop=lambda name: journal.append(f"stop {name}"),
            force=lambda name: journal.append(f"force {name}"),
            reload=lambda: journal.append("reload"),
        )
        signals.install()
        try:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            self.assertEqual(journal, [], "a signal handler may not do the work itself")
            reactor.advance(0)
            self.assertEqual(journal, ["reload", "stop SIGTERM"])
            self.assertEqual(signal.getitimer(signal.ITIMER_REAL)[0], 0.0)
            signal.raise_signal(signal.SIGINT)
            # The kernel ends a process whose reactor does not turn any more.
            self.assertGreater(signal.getitimer(signal.ITIMER_REAL)[0], 0.0)
            self.assertEqual(signal.getsignal(signal.SIGALRM), signal.SIG_DFL)
            reactor.advance(0)
            self.assertEqual(journal, ["reload", "stop SIGTERM", "force SIGINT"])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)
            signals.restore()
        self.assertEqual({number: signal.getsignal(number) for number in before}, before)


@implementer(ILogObserver)
class NullLog:
    """Takes nothing."""

    def __call__(self, event: Any) -> None:
        """Nothing."""


class DaemonTests(NotifyCase):
    def setUp(self) -> None:
        super().setUp()
        self.reactor = FakeReactor()
        self.journal: list[str] = []
        self.part = FakePart("listeners", self.journal)
        self.metrics = Metrics()
        self.at_exit: list[tuple[Any, ...]] = []
        name = os.path.relpath(self.mktemp_path())
        self.manager = self.listen(name)
        self.manager.setblocking(False)
        self.observer = NullLog()
        self.said: list[str] = []
        self.daemon = Daemon(
            [Child(self.part)],
            self.reactor,
            self.metrics.errors,
            environ={"NOTIFY_SOCKET": name},
            outcome=Outcome(None, self.said.append, lambda *args: self.at_exit.append(args)),
            reloads=Reloads({"certificate": lambda: self.journal.append("reload")}, self.metrics.reloads),
            draining=(lambda: self.journal.append("draining"),),
            observer=self.observer,
        )
        self.addCleanup(self.daemon._signals.restore)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)

    def told(self) -> list[bytes]:
        """What systemd has been told, first lines only."""
        heard = []
        while True:
            try:
                heard.append(self.manager.recv(1024).splitlines()[0])
            except BlockingIOError:
                return heard

    def up(self) -> None:
        self.daemon.startService()
        self.reactor.run()

    def test_ready_is_said_when_all_are_up(self) -> None:
        self.part.starting = Deferred()
        self.up()
        self.assertEqual(self.told(), [])
        self.part.starting.callback(None)
        self.assertEqual(self.told(), [b"READY=1"])

    def test_stop_by_signal(self) -> None:
        self.up()
        self.told()
        signal.raise_signal(signal.SIGTERM)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.stops, 1)
        self.part.stopping = Deferred()
        stopped = self.daemon.stopService()
        self.assertEqual(self.told(), [b"STOPPING=1"])
        self.assertEqual(self.journal, ["start listeners", "draining", "stop listeners"])
        self.part.stopping.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.at_exit, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_second_signal_forces(self) -> None:
        self.up()
        signal.raise_signal(signal.SIGTERM)
        self.reactor.advance(0)
        self.part.stopping = Deferred()
        stopped = self.daemon.stopService()
        signal.raise_signal(signal.SIGTERM)
        self.reactor.advance(0)
        self.successResultOf(stopped)
        self.assertEqual([args[1] for args in self.at_exit], [1])
        self.assertEqual(self.reactor.stops, 1)

    def test_reload_is_bracketed(self) -> None:
        self.up()
        self.told()
        signal.raise_signal(signal.SIGHUP)
        self.reactor.advance(0)
        self.assertEqual(self.told(), [b"RELOADING=1", b"READY=1"])
        self.assertEqual(self.journal, ["start listeners", "reload"])
        self.assertEqual(self.metrics.reloads["certificate", "ok"], 1)

    def test_a_reload_while_starting_does_not_say_ready(self) -> None:
        self.part.starting = Deferred()
        self.up()
        signal.raise_signal(signal.SIGHUP)
        self.reactor.advance(0)
        self.assertEqual(self.journal, ["start listeners", "reload"])
        self.assertEqual(self.told(), [])
        self.part.starting.callback(None)
        self.assertEqual(self.told(), [b"READY=1"])

    def test_no_reload_while_stopping(self) -> None:
        self.up()
        self.part.stopping = Deferred()
        self.daemon.stopService()
        self.told()
        signal.raise_signal(signal.SIGHUP)
        self.reactor.advance(0)
        self.assertEqual(self.told(), [])
        self.part.stopping.callback(None)

    def test_a_start_that_fails_ends_the_process(self) -> None:
        self.part.starting = PortUnavailable("tcp:1: cannot listen: Address already in use")
        self.up()
        self.assertEqual(self.told(), [])
        self.assertEqual(self.said, ["voiceingest: tcp:1: cannot listen: Address already in use\n"])
        self.assertEqual([args[1] for args in self.at_exit], [1])
        self.assertEqual(self.reactor.stops, 1)
        self.successResultOf(self.daemon.stopService())

    def test_a_stop_may_be_asked_for_more_than_once(self) -> None:
        self.up()
        self.daemon.begin_stop()
        self.daemon.begin_stop()
        signal.raise_signal(signal.SIGTERM)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.stops, 1)
        self.successResultOf(self.daemon.stopService())
        self.daemon.begin_stop()
        self.assertEqual(self.reactor.stops, 1)

    def test_twistd_is_given_our_log_observer(self) -> None:
        application = Application("voiceingest")
        self.daemon.setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), self.observer)
        self.assertEqual(list(IServiceCollection(application)), [self.daemon])
