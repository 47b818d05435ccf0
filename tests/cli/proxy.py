"""A TCP proxy on the loopback that hangs up on everybody when it is told to.

proxy = Proxy(); await proxy.listen(self, reactor, daemon.port)
... proxy.port, proxy.cut(), proxy.cut_every(0.7), proxy.to = other.port ...
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

HOST = "127.0.0.1"


class _Near(Protocol):
    """The client's side; what comes before the far side is connected waits."""

    proxy: Proxy

    def connectionMade(self) -> None:
        self.far: Any = None
        self.early: list[bytes] = []
        self.proxy.near.add(self)
        factory = Factory.forProtocol(lambda: _Far(self))
        factory.noisy = False
        far_end = TCP4ClientEndpoint(self.proxy.reactor, HOST, self.proxy.to, timeout=5)
        far_end.connect(factory).addErrback(lambda _: self.transport.abortConnection())

    def dataReceived(self, data: bytes) -> None:
        if self.far is None:
            self.early.append(data)
        else:
            self.far.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.proxy.near.discard(self)
        if self.far is not None:
            self.far.transport.loseConnection()


class _Far(Protocol):
    """The daemon's side."""

    def __init__(self, near: _Near) -> None:
        self.near = near

    def connectionMade(self) -> None:
        self.near.far = self
        self.transport.write(b"".join(self.near.early))

    def dataReceived(self, data: bytes) -> None:
        self.near.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.near.transport.loseConnection()


class Proxy:
    """Listens until the test is over; ``to`` is the port behind it."""

    def __init__(self) -> None:
        self.near: set[Any] = set()
        self.cuts = 0
        self.port = self.to = 0

    async def listen(self, case: Any, reactor: Any, to: int) -> None:
        """Listen on a free port."""
        self.reactor, self.to = reactor, to
        factory = Factory.forProtocol(type("Bound", (_Near,), {"proxy": self}))
        factory.noisy = False
        listening = await TCP4ServerEndpoint(reactor, 0, interface=HOST).listen(factory)
        self.port = listening.getHost().port
        case.addCleanup(self._close, listening)

    def url(self, path: str = "/v1/ingest") -> str:
        """Where clients connect."""
        return f"ws://{HOST}:{self.port}{path}"

    def cut(self) -> None:
        """Hang up on everybody, on both sides."""
        for near in list(self.near):
            self.cuts += 1
            near.transport.abortConnection()
            if near.far is not None:
                near.far.transport.abortConnection()

    def cut_every(self, case: Any, seconds: float) -> None:
        """Hang up again and again until the test is over."""
        cutting = LoopingCall(self.cut)
        cutting.clock = self.reactor
        cutting.start(seconds, now=False)
        case.addCleanup(lambda: cutting.running and cutting.stop())

    def _close(self, listening: Any) -> Deferred[Any]:
        self.cut()
        return maybeDeferred(listening.stopListening)
