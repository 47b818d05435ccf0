"""Connections to other people's services: kept for the next request, and closed for real.

In place of Twisted's pool, which hands out the oldest, asks again by itself, and only ever closes
politely: over TLS that waits for the peer to agree, and one that does not is never let go of.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol

from ..limits import CLOSE_ABORT_S, HEAD_MAX_BYTES

# Connections kept for the next request, for each host: browsers keep 6.
IDLE_MAX_COUNT: Final = 8
# Services and their load balancers close an idle connection after 60 s or more.
IDLE_MAX_S: Final = 30.0


class Connection(HTTP11ClientProtocol):
    """A connection whose heads are bounded, and that knows whether it is idle."""

    def __init__(self, reactor: Any, key: Hashable, pool: Pool) -> None:
        super().__init__(pool.put)
        self.key = key
        self.is_idle = False
        self.is_in_head = False
        # Whether it is on its way out: it may come to the end of its answer all the same.
        self.is_leaving = False
        # Whether it ended as a connection should.
        self.ended_well = True
        self._reactor = reactor
        self._pool = pool
        self._head_bytes = 0
        self._turn = 0
        self._timer: Any = None
        self._is_gone = False

    def connectionMade(self) -> None:
        """It stands."""
        self._pool.opened(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Bound what comes before a body: Twisted does not, nor informational answers before it."""
        if self.state == "QUIESCENT":
            # Nobody asked.
            self.abort()
            return
        turn = self._turn
        super().dataReceived(data)
        if turn != self._turn or not self.is_in_head:
            # Its end was in there, and whoever waited for it may have asked the next thing at once: these
            # bytes are none of that answer's head.
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_MAX_BYTES:
            self.abort()

    def asked(self) -> None:
        """A request is sent: the head of its answer is next."""
        self._turn += 1
        self._head_bytes = 0
        self.is_in_head = True

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """It is gone."""
        self._is_gone = True
        self.ended_well = bool(reason.check(ConnectionDone))
        self._disarm()
        self._pool.gone(self)
        super().connectionLost(reason)

    def rest(self) -> None:
        """Be idle, for so long."""
        self.is_idle = True
        self._timer = self._reactor.callLater(IDLE_MAX_S, self.leave)

    def wake(self) -> None:
        """Be used again."""
        self.is_idle = False
        self._disarm()

    def leave(self) -> None:
        """Close politely; at once when the peer does not agree in time."""
        self.is_leaving = True
        self._disarm()
        self._pool.forget(self)
        if not self._is_gone:
            self.transport.loseConnection()  # type: ignore[union-attr]
            self._timer = self._reactor.callLater(CLOSE_ABORT_S, self.abort)

    def abort(self) -> None:
        """Close at once, whatever it is doing."""
        self.is_leaving = True
        self._disarm()
        self._pool.forget(self)
        if not self._is_gone:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


class Pool:
    """The connections that are open; the idle ones are used again, the newest first."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._open: set[Connection] = set()
        self._idle: dict[Hashable, list[Connection]] = {}
        self._closed: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def take(self, key: Hashable, endpoint: Any) -> Deferred[Connection]:
        """A connection that is nobody else's: an idle one, or a new one."""
        if idle := self._idle.get(key):
            connection = idle[-1]
            self.forget(connection)
            connection.wake()
            return succeed(connection)
        opening: Deferred[Connection] = endpoint.connect(
            _Opening(lambda: Connection(self._reactor, key, self))
        )
        return opening

    def put(self, connection: Any) -> None:
        """One has become idle (called by Twisted's protocol)."""
        if self._closed is not None:
            connection.abort()
            return
        if connection.is_leaving:
            return
        idle = self._idle.setdefault(connection.key, [])
        idle.append(connection)
        connection.rest()
        if len(idle) > IDLE_MAX_COUNT:
            idle[0].leave()

    def close(self) -> Deferred[None]:
        """Cut them all; fires when none is left."""
        closed: Deferred[None] = Deferred()
        self._closed = closed
        for connection in list(self._open):
            connection.abort()
        self._tell()
        return closed

    # --- what the connections tell

    def opened(self, connection: Connection) -> None:
        """One stands."""
        self._open.add(connection)

    def forget(self, connection: Connection) -> None:
        """One is not to be used again."""
        connection.is_idle = False
        idle = self._idle.get(connection.key, [])
        if connection in idle:
            idle.remove(connection)
            if not idle:
                del self._idle[connection.key]

    def gone(self, connection: Connection) -> None:
        """One is closed."""
        self._open.discard(connection)
        self.forget(connection)
        self._tell()

    def _tell(self) -> None:
        if self._closed is not None and not self._open and not self._closed.called:
            self._closed.callback(None)


class _Opening(Factory):
    """Makes one connection."""

    noisy = False

    def __init__(self, make: Callable[[], Connection]) -> None:
        self._make = make

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        """Make it (hook of the endpoint)."""
        return self._make()
