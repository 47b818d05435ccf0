"""The load generator, a process of its own: raw sockets, one loop, no timer of anybody's.

It is told what to do over a pipe, ``(word, argument)``, and answers each with a dictionary: ``open``
(an ``Order``), ``talk``, ``hush``, ``close``, ``storm`` (an ``Order``), ``quit``. While it talks, frames are
due at even distances over all streams; how late it was itself is part of what it answers.
"""

from __future__ import annotations

import select
import ssl
import time
from array import array
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from .client import Client, Refused
from .loads import Load
from .results import percentiles_ms

# What is read from the sockets, and from the pipe, at most so often while it talks.
_LOOK_NS: Final = 2_000_000
_NAP_S: Final = 0.0003
_OPENING_MAX: Final = 64
_OPEN_DEADLINE_S: Final = 60.0
_CLOSE_DEADLINE_S: Final = 8.0
# Flat out: frames on a stream that are not acknowledged. More than the ack interval, or nothing would
# move; less than the 3 s (15 frames) that the daemon keeps of a stream, which is for live audio and
# drops what a bus does not take in time instead of holding up the speaker.
WINDOW_FRAMES: Final = 14


@dataclass(frozen=True, slots=True)
class Order:
    """Connections to open: to ``port``, with TLS when there is a ``ca``; streams from ``first`` on."""

    run: int
    load: Load
    port: int
    bearers: tuple[str, ...]
    ca: str = ""
    first: int = 0
    count: int = 0
    # Only so many of them talk; 0 for all.
    talking: int = 0


def trust(ca: str) -> ssl.SSLContext | None:
    """What the clients believe; no session is taken up again: every handshake is a whole one."""
    if not ca:
        return None
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


class Generator:
    """All connections of one process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._clients: list[Client] = []
        self._by_fd: dict[int, Client] = {}
        self._held: set[Client] = set()
        self._poll = self._polling()
        self._lateness = array("d")
        self._order: Order | None = None

    def _polling(self) -> select.epoll:
        poll = select.epoll()
        poll.register(self._pipe.fileno(), select.EPOLLIN)
        return poll

    def serve(self) -> None:
        """Until told to quit."""
        while True:
            word, argument = self._pipe.recv()
            if word == "quit":
                return
            try:
                answer = getattr(self, word)(argument)
            except (OSError, Refused) as error:
                answer = {"failed": f"{type(error).__name__}: {error}"}
                self._forget()
            self._pipe.send(answer)

    def open(self, order: Order) -> dict[str, Any]:
        """Open and start every stream."""
        self._forget()
        self._order = order
        self._lateness = array("d")
        began = time.monotonic()
        self._clients = self._connect(order, started=True)
        for client in self._clients:
            self._poll.register(client.fileno(), select.EPOLLIN)
        self._by_fd = {client.fileno(): client for client in self._clients}
        return {"opened": len(self._clients), "took_s": time.monotonic() - began}

    def storm(self, order: Order) -> dict[str, Any]:
        """Open connections up to the 101, and close each at once."""
        began = time.monotonic()
        clients = self._connect(order, started=False)
        return {"opened": len(clients), "took_s": time.monotonic() - began}

    def _connect(self, order: Order, *, started: bool) -> list[Client]:
        context, ready, busy = trust(order.ca), [], {}
        poll, number, last = select.epoll(), order.first, order.first + order.count
        deadline = time.monotonic() + _OPEN_DEADLINE_S
        while busy or number < last:
            moved = [fd for fd, _ in poll.poll(1.0)] if busy else []
            while number < last and len(busy) < _OPENING_MAX:
                client = Client(order, number, context, started=started)
                number += 1
                busy[client.fileno()] = client
                poll.register(client.fileno(), select.EPOLLIN)
                moved.append(client.fileno())
            for fd in moved:
                # The answer may be there at once: also of one that is new.
                if busy[fd].advance():
                    poll.unregister(fd)
                    ready.append(busy.pop(fd))
                    if not started:
                        ready[-1].cut()
            if time.monotonic() > deadline:
                raise Refused(f"{len(ready)} of {order.count} connections are open after a minute")
        poll.close()
        return ready

    def talk(self, _argument: object) -> dict[str, Any]:
        """Say frames until there is a word in the pipe, which is then read as the next."""
        order = self._order
        assert order is not None
        clients = self._clients[: order.talking or None]
        if order.load.per_s:
            # Part of the load when there are more processes than one: the same distance in each.
            self._talk_paced(clients, order.load.per_s * len(clients))
        else:
            self._talk_flat_out(clients)
        return {}

    def _talk_paced(self, clients: list[Client], per_s: float) -> None:
        count, beat, step_ns = len(clients), 0, 1e9 / per_s
        start_ns = looked_ns = time.monotonic_ns()
        late = self._lateness
        while True:
            now_ns = time.monotonic_ns()
            if now_ns - looked_ns > _LOOK_NS:
                looked_ns = now_ns
                if self._look(0):
                    return
                now_ns = time.monotonic_ns()
            due_ns = start_ns + int(beat * step_ns)
            if due_ns > now_ns:
                time.sleep(min(_NAP_S, (due_ns - now_ns) / 1e9))
                continue
            late.append((now_ns - due_ns) / 1e6)
            client = clients[beat % count]
            client.say(now_ns)
            if client.held_up:
                self._held.add(client)
            beat += 1

    def _talk_flat_out(self, clients: list[Client]) -> None:
        talking = {client.fileno() for client in clients}
        for client in clients:
            client.fill(WINDOW_FRAMES)
        while not self._look(0.002, talking):
            pass

    def _look(self, timeout_s: float, talking: set[int] | frozenset[int] = frozenset()) -> bool:
        """Read what has come, send what was held up; whether there is a word in the pipe."""
        told = False
        for fd, _ in self._poll.poll(timeout_s):
            if fd == self._pipe.fileno():
                told = True
                continue
            client = self._by_fd[fd]
            client.read()
            if client.ended:
                self._poll.unregister(fd)
                del self._by_fd[fd]
            elif fd in talking:
                client.fill(WINDOW_FRAMES)
                if client.held_up:
                    self._held.add(client)
        for client in list(self._held):
            client.flush()
            if not client.held_up:
                self._held.discard(client)
        return told

    def hush(self, _argument: object) -> dict[str, Any]:
        """Say no more; how punctual this process was."""
        sent = sum(client.seq for client in self._clients)
        return {"sent": sent, "late_ms": percentiles_ms(self._lateness)}

    def close(self, _argument: object) -> dict[str, Any]:
        """Stop every stream, wait for the other side to have stopped it, close."""
        for client in self._clients:
            client.stop()
        self._held = {client for client in self._clients if client.held_up}
        deadline = time.monotonic() + _CLOSE_DEADLINE_S
        while self._by_fd and time.monotonic() < deadline:
            self._look(0.02)
        report = {
            "sent": sum(client.seq for client in self._clients),
            "acks": sum(client.acks for client in self._clients),
            "dropped": sum(client.dropped for client in self._clients),
            "unstopped": sum(not client.stopped for client in self._clients),
        }
        self._forget()
        return report

    def _forget(self) -> None:
        for client in self._clients:
            client.cut()
        self._clients, self._by_fd, self._held = [], {}, set()
        self._poll.close()
        self._poll = self._polling()


def generate(pipe: Connection) -> None:
    """The process."""
    Generator(pipe).serve()
