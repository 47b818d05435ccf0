"""What waits at a port: left alone while it cannot be taken, taken to the last one at the end.

Two gaps of ``accept`` are shut here. When it fails for want of a file descriptor the connection
stays in the queue and the port stays readable: a loop that asks again at once is a busy one. And
whatever is in the queue when a port is closed is reset by the kernel, after its caller was told
that it is connected.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, Logger
from zope.interface import provider

from .interfaces import IClock
from .limits import LISTEN_BACKLOG_COUNT

# Connections taken in one turn of the reactor. A handshake costs 2 ms; two thousand at once, after a
# restart, would hold up everybody's audio for seconds. The others wait in the accept queue.
ACCEPTS_PER_TURN_COUNT: Final = 4

# How long a port is left alone when nothing could be accepted.
PAUSE_S: Final = 0.1

# Before a port is closed no new handshake is begun for so long, so that those under way can end:
# more than a round trip to the far side of the earth. Callers try again by themselves after 1 s.
SETTLE_S: Final = 0.25

# How long connections that were accepted last have for their request and its answer, and how often
# it is looked whether they have had it.
ANSWER_S: Final = 2.0
_LOOK_S: Final = 0.02

# Classic BPF on what reaches the socket, which begins with the TCP header (RFC 9293 section 3.1):
# load byte 13, drop it (return 0) where of SYN and ACK only SYN is set, else take all of it.
_ONLY_NEW_HANDSHAKES: Final = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),
        (0x54, 0, 0, 0x12),
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)
# asm-generic/socket.h; the module has no name for it.
_SO_ATTACH_FILTER: Final = 26

_log: Final = Logger()


class AcceptPauses:
    """Watches a port: one from which nothing more can be accepted is read again after ``PAUSE_S``.

    Nor are more than ``ACCEPTS_PER_TURN_COUNT`` taken at once. Twisted keeps one descriptor in
    reserve, with which it takes and drops who waits when there is no other. A thread may have that one
    first, and then it asks in vain as fast as it can.
    """

    def __init__(self, port: Any, clock: IClock, paused: Callable[[], object]) -> None:
        """Take the place of the port's ``doRead``; ``paused`` is called at each pause."""
        self._port = port
        self._clock = clock
        self._paused = paused
        self._accept: Callable[[], Any] = port.doRead
        self._is_short = False
        port.doRead = self._do_read
        # Twisted's own words about it: three lines for each connection that is dropped, with its address.
        port._logger = Logger(namespace=_log.namespace, observer=_unsaid)  # noqa: SLF001 (nothing else reaches it)

    def _do_read(self) -> Any:
        """Accept; pause where the last descriptor went with it, or somebody could not be taken."""
        port = self._port
        port.numberAccepts = min(port.numberAccepts, ACCEPTS_PER_TURN_COUNT)
        before = port.sessionno
        why = self._accept()
        if port.connected and (_none_left() or (port.sessionno == before and _is_readable(port))):
            self._pause()
        else:
            self._is_short = False
        return why

    def _pause(self) -> None:
        if not self._is_short:
            # Once for each time it begins: there are ten pauses a second.
            self._is_short = True
            _log.warn("no file descriptor or memory is left to accept connections", event="accept_paused")
        self._paused()
        self._port.stopReading()
        self._clock.callLater(PAUSE_S, self._again)

    def _again(self) -> None:
        if self._port.connected and not self._port.disconnecting:
            self._port.startReading()


class LateClose:
    """How the ports of the public site are closed: late, and with nobody left at the door.

    They go on for ``listen_s`` seconds, so that whoever has not yet seen that the daemon drains is
    told so in HTTP; in the last ``SETTLE_S`` of these no new handshake is begun. Then what is in the
    queue is accepted, and the port stops listening in the same turn of the reactor. ``unanswered``
    counts the connections whose request has not been answered: they are waited for, ``ANSWER_S``
    seconds at most.
    """

    def __init__(self, clock: IClock, listen_s: float, unanswered: Callable[[], int] = lambda: 0) -> None:
        self._clock = clock
        self._listen_s = listen_s
        self._unanswered = unanswered

    @property
    def deadline_s(self) -> float:
        """How long :meth:`close` may take, in seconds."""
        return self._listen_s + ANSWER_S

    async def close(self, ports: Sequence[IListeningPort]) -> None:
        """Close ``ports``. Cancelled, it closes them at once."""
        try:
            await self._go_on(ports)
            taken = sum(_take_all(port) for port in ports)
            for port in ports:
                _stop_listening_now(port)
        finally:
            # Twisted's own way, which lets go of the descriptor a turn later.
            closing = [port.stopListening() for port in ports]
        _log.info("No longer listening", event="listening_ended", taken_last=taken)
        for closed in closing:
            if closed is not None:
                await closed
        end = self._clock.seconds() + ANSWER_S
        while self._unanswered() and self._clock.seconds() < end:
            await self._wait(_LOOK_S)

    async def _go_on(self, ports: Sequence[IListeningPort]) -> None:
        settle_s = min(SETTLE_S, self._listen_s)
        await self._wait(self._listen_s - settle_s)
        for port in ports:
            _begin_no_handshake(port)
        await self._wait(settle_s)

    def _wait(self, seconds: float) -> Deferred[None]:
        return deferLater(self._clock, seconds)  # type: ignore[arg-type]  # IReactorTime in part


@provider(ILogObserver)
def _unsaid(event: LogEvent) -> None:
    """In place of a log: ``accept_paused`` says it once, and the pauses are counted."""


def _is_readable(port: Any) -> bool:
    """Whether a connection waits in the queue."""
    poll = select.poll()
    poll.register(port.fileno(), select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))


def _none_left() -> bool:
    """Whether no file can be opened."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return True
    return False


def _begin_no_handshake(port: Any) -> None:
    """Drop every SYN from now on. Where the system has no such filter nothing changes."""
    with _borrowed(port) as own:
        if own.family == socket.AF_UNIX:
            return
        program = ctypes.create_string_buffer(_ONLY_NEW_HANDSHAKES, len(_ONLY_NEW_HANDSHAKES))
        option = struct.pack("HL", len(_ONLY_NEW_HANDSHAKES) // 8, ctypes.addressof(program))
        try:
            own.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
        except OSError as error:
            _log.debug("no filter for handshakes", event="no_handshake_filter", reason=error.strerror)


def _take_all(port: Any) -> int:
    """Accept whoever is in the queue; how many that were."""
    before = int(port.sessionno)
    for _ in range(2 * LISTEN_BACKLOG_COUNT):
        if not _is_readable(port):
            break
        port.doRead()
    return int(port.sessionno) - before


def _stop_listening_now(port: Any) -> None:
    """Let no one else into the queue, which is empty (Linux: a listening socket may be shut down)."""
    with _borrowed(port) as own:
        try:
            own.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            _log.debug("not shut down", event="not_shut_down", reason=error.strerror)


@contextmanager
def _borrowed(port: Any) -> Iterator[socket.socket]:
    """The port's socket, which stays its own."""
    own = socket.socket(fileno=port.fileno())
    try:
        yield own
    finally:
        own.detach()
