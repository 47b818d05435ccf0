"""What waits at a port: never asked for in a busy loop, never left behind at the end."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from voiceingest.accepting import (
    ACCEPTS_PER_TURN_COUNT,
    ANSWER_S,
    PAUSE_S,
    SETTLE_S,
    AcceptPauses,
    LateClose,
)

from .support.case import TestCase
from .support.daemon import free_port

HOST = "127.0.0.1"


class Greeter(Protocol):
    """Says hello, and goodbye when it is spoken to."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")


def queued(listening: socket.socket) -> int:
    """How many the kernel has ready for a port: tcp_info's fifth number, after eight bytes."""
    count: int = struct.unpack_from("=8x5I", listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28))[4]
    return count


class PortCase(TestCase):
    """A port of the reactor, and callers by blocking sockets: the kernel shakes their hands."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.clock = Clock()
        # A port that nobody else is given when it is closed.
        self.number = free_port()
        self.port = self.listen(self.number)
        self.addCleanup(self.close)

    def listen(self, number: int) -> Any:
        """A port of Twisted's."""
        return self.reactor.listenTCP(number, Factory.forProtocol(Greeter), interface=HOST)

    async def close(self) -> None:
        """Nothing of it is left for the next test."""
        closing = self.port.stopListening()
        if closing is not None:
            await closing

    def call(self) -> socket.socket:
        """A caller that is in the queue."""
        before = queued(self.port.socket)
        caller = socket.create_connection((HOST, self.number), timeout=5)
        self.addCleanup(caller.close)
        # The caller's side of the handshake is done before that of the port.
        while queued(self.port.socket) <= before:
            time.sleep(0.001)
        return caller

    async def heard(self, caller: socket.socket) -> bytes:
        """What a caller hears within some turns of the reactor."""
        caller.setblocking(False)
        for _ in range(2000):
            try:
                return caller.recv(100)
            except BlockingIOError:
                await deferLater(self.reactor, 0.01)
        return b"nothing"


class AcceptPausesTests(PortCase):
    def setUp(self) -> None:
        super().setUp()
        self.pauses: list[float] = []
        # From here on the test calls doRead, and nobody else does.
        self.port.stopReading()
        self.reading: list[str] = []
        self.port.stopReading = lambda: self.reading.append("stop")
        self.port.startReading = lambda: self.reading.append("start")

    def watch(self, accept: Callable[[], object] | None = None) -> None:
        """Let it be watched; ``accept`` takes the place of Twisted's."""
        if accept is not None:
            self.port.doRead = accept
        AcceptPauses(self.port, self.clock, lambda: self.pauses.append(self.clock.seconds()))

    async def test_who_can_be_taken_is_taken_without_a_pause(self) -> None:
        self.watch()
        caller = self.call()
        self.port.doRead()
        self.assertEqual(await self.heard(caller), b"hello")
        self.assertEqual((self.pauses, self.reading), ([], []))

    def test_of_a_crowd_so_many_are_taken_in_one_turn(self) -> None:
        self.watch()
        for _ in range(ACCEPTS_PER_TURN_COUNT + 4):
            self.call()
        for taken in (ACCEPTS_PER_TURN_COUNT, ACCEPTS_PER_TURN_COUNT + 4):
            self.port.doRead()
            self.assertEqual(self.port.sessionno, taken)
        self.assertEqual(self.pauses, [])

    def test_nobody_there_is_no_reason_to_pause(self) -> None:
        """As it is with a socket that several processes accept from."""
        self.watch()
        self.port.doRead()
        self.assertEqual((self.pauses, self.reading), ([], []))

    def test_somebody_who_cannot_be_taken_is_asked_for_again_later(self) -> None:
        self.watch(lambda: None)
        self.call()
        self.port.doRead()
        self.assertEqual((self.pauses, self.reading), ([0.0], ["stop"]))
        self.clock.advance(PAUSE_S)
        self.assertEqual(self.reading, ["stop", "start"])
        self.port.doRead()
        self.assertEqual((len(self.pauses), self.reading), (2, ["stop", "start", "stop"]))

    def test_twisted_says_nothing_about_those_it_drops(self) -> None:
        """Three lines for each of a crowd, ten times a second, would fill the disk too."""
        lines: list[LogEvent] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        self.watch()
        self.call()

        class Short:
            """A socket that finds no descriptor for who calls."""

            def accept(self) -> None:
                raise OSError(errno.EMFILE, "Too many open files")

        own, self.port.socket = self.port.socket, Short()
        try:
            self.port.doRead()
        finally:
            self.port.socket = own
        self.assertEqual([line.get("event") for line in lines], ["accept_paused"])

    def none_left(self, *args: object) -> int:
        """In place of ``os.open``."""
        raise OSError(errno.EMFILE, "Too many open files")

    def test_no_descriptor_left_is_a_pause_even_with_an_empty_queue(self) -> None:
        """Twisted's reserve has taken and dropped whoever waited: they may be back at once."""
        self.watch(lambda: None)
        self.patch(os, "open", self.none_left)
        self.port.doRead()
        self.assertEqual((self.pauses, self.reading), ([0.0], ["stop"]))

    def test_the_last_descriptor_is_a_pause_though_somebody_was_taken(self) -> None:
        self.watch()
        self.call()
        self.patch(os, "open", self.none_left)
        self.port.doRead()
        self.assertEqual((self.port.sessionno, self.pauses, self.reading), (1, [0.0], ["stop"]))

    def test_a_port_that_was_closed_meanwhile_stays_closed(self) -> None:
        self.watch(lambda: None)
        self.call()
        self.port.doRead()
        self.port.disconnecting = True
        self.clock.advance(PAUSE_S)
        self.port.disconnecting = False
        self.assertEqual(self.reading, ["stop"])

    def test_what_the_port_answers_is_passed_on(self) -> None:
        why = ConnectionDone()
        self.watch(lambda: why)
        self.assertIs(self.port.doRead(), why)


class LateCloseTests(PortCase):
    def close_late(self, listen_s: float = 1.0, unanswered: Callable[[], int] = lambda: 0) -> Deferred[None]:
        """Begin to close the port."""
        late = LateClose(self.clock, listen_s, unanswered)
        ports: list[IListeningPort] = [self.port]
        return Deferred.fromCoroutine(late.close(ports))

    def refused(self) -> bool:
        """Whether a new caller is refused, without a turn of the reactor in between."""
        try:
            socket.create_connection((HOST, self.number), timeout=30).close()
        except ConnectionRefusedError:
            return True
        return False

    async def test_it_goes_on_listening(self) -> None:
        closed = self.close_late(1.0)
        self.clock.advance(0.7)
        self.assertEqual(await self.heard(self.call()), b"hello")
        self.assertNoResult(closed)
        self.clock.pump([0.05, SETTLE_S])
        await closed

    async def test_who_is_in_the_queue_at_the_end_is_taken(self) -> None:
        closed = self.close_late(1.0)
        callers = [self.call() for _ in range(40)]
        # Not one turn of the reactor: none of them has been accepted when the port closes.
        self.clock.pump([0.75, SETTLE_S])
        self.assertTrue(self.refused())
        for caller in callers:
            self.assertEqual(await self.heard(caller), b"hello")
        await closed

    async def test_no_handshake_is_begun_shortly_before(self) -> None:
        closed = self.close_late(1.0)
        self.clock.advance(0.75)
        with socket.socket() as caller:
            caller.settimeout(0.05)
            with self.assertRaises(TimeoutError):
                caller.connect((HOST, self.number))
        self.clock.advance(SETTLE_S)
        await closed

    async def test_a_short_time_is_for_the_handshakes_under_way(self) -> None:
        """For a port that another process shares: it gets the new ones, and nobody is told 503."""
        closed = self.close_late(SETTLE_S)
        self.clock.advance(0)
        with socket.socket() as caller:
            caller.settimeout(0.05)
            with self.assertRaises(TimeoutError):
                caller.connect((HOST, self.number))
        self.clock.advance(SETTLE_S)
        await closed

    async def test_at_once_where_no_time_is_given(self) -> None:
        closed = self.close_late(0.0)
        self.clock.pump([0.0, 0.0])
        self.assertTrue(self.refused())
        await closed

    async def test_what_was_accepted_last_has_time_to_be_answered(self) -> None:
        waiting = 3
        closed = self.close_late(0.0, lambda: waiting)
        self.clock.pump([0.0, 0.0])
        await deferLater(self.reactor, 0.01)
        self.clock.pump([0.1] * 5)
        self.assertNoResult(closed)
        waiting = 0
        self.clock.advance(0.1)
        self.successResultOf(closed)

    async def test_but_not_for_ever(self) -> None:
        closed = self.close_late(0.0, lambda: 1)
        self.clock.pump([0.0, 0.0])
        await deferLater(self.reactor, 0.01)
        self.clock.pump([0.1] * int(ANSWER_S * 10 - 2))
        self.assertNoResult(closed)
        self.clock.pump([0.1] * 3)
        self.successResultOf(closed)
        self.assertGreater(LateClose(self.clock, 1.5).deadline_s, 1.5 + ANSWER_S - 0.001)

    async def test_cut_short_it_closes_at_once(self) -> None:
        await self.cut_short(0.5)

    async def test_cut_short_at_its_very_end(self) -> None:
        await self.cut_short(0.9)

    async def cut_short(self, elapsed_s: float) -> None:
        """Cancel the close after so long."""
        closed = self.close_late(1.0)
        self.clock.advance(elapsed_s)
        closed.cancel()
        self.failureResultOf(closed, CancelledError)
        await deferLater(self.reactor, 0.01)
        self.assertTrue(self.refused())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_a_unix_socket(self) -> None:
        path = self.mktemp_path().name
        self.port, before = self.reactor.listenUNIX(path, Factory.forProtocol(Greeter)), self.port
        await before.stopListening()
        closed = self.close_late(1.0)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(path)
            self.clock.pump([0.75, SETTLE_S])
            self.assertEqual(await self.heard(caller), b"hello")
        await closed

    async def test_a_port_that_breaks_is_closed_all_the_same(self) -> None:
        def broken() -> Failure:
            raise RuntimeError("broken")

        self.port.doRead = broken
        closed = self.close_late(0.0)
        self.call()
        self.clock.pump([0.0, 0.0])
        self.failureResultOf(closed, RuntimeError)
        del self.port.doRead
        await deferLater(self.reactor, 0.01)
        self.assertTrue(self.refused())
