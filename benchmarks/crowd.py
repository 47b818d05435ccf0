"""The load of a soak, a process of its own: streams that talk for hours, some of which leave all the time.

It is told what to do over a pipe, ``(word, argument)``: ``open`` (a ``Gathering``), ``talk``, ``report``,
``part`` (everybody stops, politely), ``quit``. Unlike the generator it talks on while it answers, and while
a stream comes or goes. Whoever's turn it is leaves in one of three ways: says ``stop``, has the socket cut,
or has it cut and comes back with the token to go on. In place of the first two somebody new begins.
"""

from __future__ import annotations

import select
import ssl
import time
from array import array
from dataclasses import dataclass, replace
from itertools import cycle
from multiprocessing.connection import Connection
from typing import Any, Final

from .client import Client, Refused
from .endurance import Ending
from .generator import Order, trust
from .loads import Load
from .results import percentiles_ms

_LOOK_NS: Final = 2_000_000
_NAP_S: Final = 0.0003
_PART_DEADLINE_S: Final = 15.0
_OPEN_DEADLINE_S: Final = 30.0
# How long one stays away who comes back; RESUME_WINDOW_S is 30.
_AWAY_NS: Final = 3_000_000_000
_WAYS: Final = ("stop", "cut", "resume")


@dataclass(frozen=True, slots=True)
class Gathering:
    """Who talks: every second one of ``load.streams`` over TLS, and ``leave_per_min`` leave."""

    load: Load
    plain_port: int
    tls_port: int
    bearers: tuple[str, ...]
    ca: str
    leave_per_min: float
    run: int = 1


class Seat:
    """One of those that talk at the same time: who sits there now."""

    def __init__(self, order: Order, context: ssl.SSLContext | None) -> None:
        self.order, self.context = order, context
        self.stream = -1
        self.client: Client | None = None
        self.is_open = False
        self.back_at_ns = 0

    def sit(self, stream: int) -> Client:
        """Somebody new."""
        self.stream, self.is_open = stream, False
        self.client = Client(self.order, stream, self.context, started=True)
        return self.client

    def come_back(self, gone: Client) -> Client:
        """The same stream again, where it was."""
        self.is_open, self.back_at_ns = False, 0
        self.client = Client(self.order, self.stream, self.context, started=True, goes_on=gone)
        return self.client


class Crowd:
    """All of them."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._poll = select.epoll()
        self._seats: list[Seat] = []
        self._by_fd: dict[int, tuple[Client, Seat]] = {}
        # Who has said ``stop`` and waits for the answer; who will come back to which seat.
        self._leaving: dict[Client, int] = {}
        self._away: dict[Seat, Client] = {}
        self._held: set[Client] = set()
        self._ways, self._turn, self._streams = cycle(_WAYS), 0, 0
        self._lateness = array("d")
        self._counts = dict.fromkeys(("stopped", "cut", "resumed", "broken"), 0)
        self._endings: dict[int, Ending] = {}
        self._leave_ns = self._leave_at_ns = 0
        self._per_s = 0.0

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
            self._pipe.send(answer)

    def open(self, gathering: Gathering) -> dict[str, Any]:
        """Everybody comes. Raises: ``Refused``."""
        self._per_s = gathering.load.offered_per_s
        self._leave_ns = int(60e9 / gathering.leave_per_min)
        order = Order(gathering.run, gathering.load, gathering.plain_port, gathering.bearers)
        over_tls, context = replace(order, port=gathering.tls_port), trust(gathering.ca)
        deadline = time.monotonic() + _OPEN_DEADLINE_S
        for number in range(gathering.load.streams):
            seat = Seat(over_tls, context) if number % 2 else Seat(order, None)
            self._seats.append(seat)
            self._sit(seat)
            while not seat.is_open:
                self._look(0.05)
                if self._counts["broken"] or time.monotonic() > deadline:
                    raise Refused(f"stream {number} did not open")
        return {"opened": len(self._seats)}

    def _sit(self, seat: Seat) -> None:
        self._register(seat.sit(self._streams), seat)
        self._streams += 1

    def _register(self, client: Client, seat: Seat) -> None:
        self._poll.register(client.fileno(), select.EPOLLIN)
        self._by_fd[client.fileno()] = client, seat
        self._advance(client, seat)

    def _unregister(self, client: Client) -> None:
        if self._by_fd.pop(client.fileno(), None) is not None:
            self._poll.unregister(client.fileno())
        self._held.discard(client)

    def _advance(self, client: Client, seat: Seat) -> None:
        try:
            seat.is_open = client.advance()
        except (OSError, Refused):
            self._broke(client, seat)

    def talk(self, _argument: object) -> dict[str, Any]:
        """Talk on until everybody is to leave; answers other words meanwhile. What came of it."""
        count, beat, step_ns = len(self._seats), 0, 1e9 / self._per_s
        start_ns = looked_ns = time.monotonic_ns()
        self._leave_at_ns = start_ns + self._leave_ns
        while True:
            now_ns = time.monotonic_ns()
            if now_ns - looked_ns > _LOOK_NS:
                looked_ns = now_ns
                self._look(0)
                self._come_and_go(now_ns)
                if self._pipe.poll():
                    word, _ = self._pipe.recv()
                    if word == "part":
                        return self._part()
                    self._pipe.send(self._report())
                now_ns = time.monotonic_ns()
            due_ns = start_ns + int(beat * step_ns)
            if due_ns > now_ns:
                time.sleep(min(_NAP_S, (due_ns - now_ns) / 1e9))
                continue
            self._lateness.append((now_ns - due_ns) / 1e6)
            seat = self._seats[beat % count]
            if seat.is_open and seat.client is not None:
                self._say(seat.client, now_ns)
            beat += 1

    def _say(self, client: Client, now_ns: int) -> None:
        client.say(now_ns)
        if client.held_up:
            self._held.add(client)

    def _look(self, timeout_s: float) -> None:
        """Read what has come, send what was held up."""
        for fd, _ in self._poll.poll(timeout_s):
            client, seat = self._by_fd[fd]
            if client is seat.client and not seat.is_open:
                self._advance(client, seat)
                continue
            client.read()
            if client.ended:
                self._ended(client, seat)
        for client in list(self._held):
            client.flush()
            if not client.held_up:
                self._held.discard(client)

    def _ended(self, client: Client, seat: Seat) -> None:
        stream = self._leaving.pop(client, None)
        if stream is None or not client.stopped:
            self._broke(client, seat)
        else:
            self._unregister(client)
            self._endings[stream] = Ending(client.seq, client.seq)
            client.cut()

    def _broke(self, client: Client, seat: Seat) -> None:
        """Nobody had asked for it."""
        self._counts["broken"] += 1
        self._unregister(client)
        self._endings[seat.stream] = Ending(client.acked, client.seq)
        client.cut()
        if client is seat.client:
            seat.client, seat.is_open = None, False

    def _come_and_go(self, now_ns: int) -> None:
        """Whose time it is."""
        for seat in [seat for seat in self._away if now_ns >= seat.back_at_ns]:
            self._register(seat.come_back(self._away.pop(seat)), seat)
        if now_ns < self._leave_at_ns:
            return
        self._leave_at_ns += self._leave_ns
        seat = self._seats[self._turn % len(self._seats)]
        # A number that shares no factor with a hundred: neighbours do not leave one after the other.
        self._turn += 37
        if seat.client is None and seat not in self._away:
            self._sit(seat)
        elif seat.client is not None and seat.is_open:
            self._leave(seat.client, seat, next(self._ways), now_ns)

    def _leave(self, client: Client, seat: Seat, way: str, now_ns: int) -> None:
        if way == "stop":
            self._counts["stopped"] += 1
            self._leaving[client] = seat.stream
            client.stop()
            if client.held_up:
                self._held.add(client)
            self._sit(seat)
            return
        self._unregister(client)
        client.cut()
        if way == "cut":
            self._counts["cut"] += 1
            self._endings[seat.stream] = Ending(client.acked, client.seq)
            self._sit(seat)
        else:
            self._counts["resumed"] += 1
            seat.client, seat.is_open = None, False
            seat.back_at_ns = now_ns + _AWAY_NS
            self._away[seat] = client

    def _report(self) -> dict[str, Any]:
        """How punctual it was since the last time, and what has happened so far."""
        late_ms, self._lateness = percentiles_ms(self._lateness), array("d")
        return {**self._counts, "late_ms": late_ms}

    def _part(self) -> dict[str, Any]:
        """Everybody stops."""
        deadline = time.monotonic() + _PART_DEADLINE_S
        for seat, gone in self._away.items():
            self._register(seat.come_back(gone), seat)
        self._away.clear()
        while any(seat.client and not seat.is_open for seat in self._seats) and time.monotonic() < deadline:
            self._look(0.02)
        for seat in self._seats:
            if seat.client is not None:
                self._leaving[seat.client] = seat.stream
                seat.client.stop()
                if seat.client.held_up:
                    self._held.add(seat.client)
        while self._leaving and time.monotonic() < deadline:
            self._look(0.02)
        for client, stream in self._leaving.items():
            self._counts["broken"] += 1
            self._endings[stream] = Ending(client.seq, client.seq)
        return {**self._report(), "endings": {stream: tuple(end) for stream, end in self._endings.items()}}


def gather(pipe: Connection) -> None:
    """The process."""
    Crowd(pipe).serve()
