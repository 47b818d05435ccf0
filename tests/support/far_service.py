"""Somebody else's HTTP service, for tests: it hands over each request and answers as it is told.

    service = FarService(self, answer)         # listens on the loopback; a cleanup ends it
    ... service.url("/v1/x"), service.asked, await service.next() ...

``answer(asked)`` is called for each request. An :class:`Asked` says what was asked and writes the
answer in pieces: ``head``, ``chunk``, ``finish``; or does wrong: ``raw``, ``pour``, ``cut``, nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import trustme
from twisted.internet import ssl
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from .servers import ITest

# What a scripted service may do wrong in the middle of an answer.
STALL: Final = "<stall>"
CUT: Final = "<cut>"
GARBAGE: Final = "<garbage>"

_HOST: Final = "127.0.0.1"
_HEAD_END: Final = b"\r\n\r\n"


class Gate:
    """Holds a service up until the test opens it."""

    def __init__(self) -> None:
        self.is_open = False
        self._waiting: list[Deferred[None]] = []

    def open(self) -> None:
        """Let everybody through, now and later."""
        self.is_open = True
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def opened(self) -> Deferred[None]:
        """Fires when it is open."""
        one: Deferred[None] = Deferred()
        if self.is_open:
            one.callback(None)
        else:
            self._waiting.append(one)
        return one


class Asked:
    """One request, and the way to its answer; ``gone`` fires when its connection is closed."""

    def __init__(self, connection: _Connection, head: bytes, body: bytes) -> None:
        line, *fields = head.decode("latin-1").split("\r\n")
        self.method, target, _ = line.split(" ", 2)
        parts = urlsplit(target)
        self.path = parts.path
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        self.body = body
        self.connection = connection
        self.gone = connection.gone

    @property
    def is_open(self) -> bool:
        """Whether its connection still stands."""
        return not self.gone.called

    def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.connection.transport.write(data)

    def head(self, status: int = 200, **fields: str) -> None:
        """Begin a chunked answer; ``_`` in the names of ``fields`` stands for ``-``."""
        lines = [f"HTTP/1.1 {status} Said So", "Transfer-Encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        self.raw("\r\n".join(lines).encode() + _HEAD_END)

    def chunk(self, data: bytes) -> None:
        """Write a piece of the body."""
        self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        """The body is whole."""
        self.raw(b"0\r\n\r\n")

    def document(self, body: bytes, status: int = 200, **fields: str) -> None:
        """A whole answer with its length."""
        lines = [f"HTTP/1.1 {status} Said So", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        self.raw("\r\n".join(lines).encode() + _HEAD_END + body)

    def pour(self, piece: bytes) -> None:
        """Write ``piece`` over and over, until the connection is gone."""
        if self.is_open:
            self.raw(piece)
            self.connection.factory.reactor.callLater(0.001, self.pour, piece)

    def cut(self) -> None:
        """Reset the connection."""
        self.connection.transport.abortConnection()

    def close(self) -> None:
        """Close the connection in order."""
        self.connection.transport.loseConnection()


class _Connection(Protocol):
    """Reads requests one after the other; never closes by itself."""

    factory: _Listening
    transport: Any

    def connectionMade(self) -> None:
        """One more."""
        self.gone: Deferred[None] = Deferred()
        self._seen = b""
        self.factory.service.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        """Hand over each whole request."""
        self._seen += data
        while _HEAD_END in self._seen:
            head, rest = self._seen.split(_HEAD_END, 1)
            size = _length(head)
            if len(rest) < size:
                return
            self._seen = rest[size:]
            self.factory.service.take(Asked(self, head, rest[:size]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """One less."""
        self.gone.callback(None)


class _Listening(Factory):
    protocol = _Connection  # type: ignore[assignment]
    noisy = False

    def __init__(self, service: FarService, reactor: Any) -> None:
        self.service = service
        self.reactor = reactor


class FarService:
    """Listens on the loopback interface, with TLS where an authority signs for ``localhost``."""

    def __init__(
        self, test: ITest, answer: Callable[[Asked], None], authority: trustme.CA | None = None
    ) -> None:
        from twisted.internet import reactor

        self.asked: list[Asked] = []
        self.connections: list[Any] = []
        self.answer = answer
        self._waiting: DeferredQueue[Asked] = DeferredQueue()
        self._is_tls = authority is not None
        factory = _Listening(self, reactor)
        listening: Any = reactor
        if authority is None:
            port = listening.listenTCP(0, factory, interface=_HOST)
        else:
            leaf = authority.issue_cert("localhost")
            pem = leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes()
            options = ssl.PrivateCertificate.loadPEM(pem).options()
            port = listening.listenSSL(0, factory, options, interface=_HOST)
        self.port: int = port.getHost().port
        test.addCleanup(self._end, port)

    def url(self, path: str = "/") -> str:
        """Where it is."""
        return f"https://localhost:{self.port}{path}" if self._is_tls else f"http://{_HOST}:{self.port}{path}"

    def next(self) -> Deferred[Asked]:
        """The next request that nobody has waited for yet."""
        return self._waiting.get()

    def take(self, asked: Asked) -> None:
        """Note a request and answer it."""
        self.asked.append(asked)
        self._waiting.put(asked)
        self.answer(asked)

    async def _end(self, port: Any) -> None:
        await port.stopListening()
        for connection in self.connections:
            if not connection.gone.called:
                connection.transport.abortConnection()
                await connection.gone


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
