"""A server that speaks the ingest dialect, well or badly as it is told, for the tests of clients."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol

ACK_INTERVAL = 10


@dataclass(slots=True)
class Manners:
    """How the server behaves; the defaults are those of the daemon."""

    deny: tuple[int, str] | None = None
    start_error: tuple[str, int | None] | None = None
    silent_start: bool = False
    acks: bool = True
    ack_offset: int = 0
    error_at: int | None = None
    close_at: tuple[int, int] | None = None
    drop_at: int | None = None
    expiring_at: int | None = None
    dropped: int = 0
    stopped: bool = True
    garbage_at: int | None = None


class Speaker(WebSocketServerProtocol):  # type: ignore[misc]
    """One connection."""

    server: Server

    def onConnect(self, request: Any) -> str | None:
        self.server.headers.append(dict(request.headers))
        if self.server.manners.deny is not None:
            raise ConnectionDeny(*self.server.manners.deny)
        return None

    def onOpen(self) -> None:
        self.frames: list[bytes] = []
        self.server.connections.append(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if isBinary:
            self.frames.append(payload)
            self._frame(len(self.frames))
            return
        message = json.loads(payload)
        self.server.controls.append(message)
        if message["event"] == "start":
            self._start(message)
        elif message["event"] == "stop":
            self._stop()
        elif message["event"] == "auth":
            self.say(event="authenticated")

    def _start(self, message: dict[str, Any]) -> None:
        manners = self.server.manners
        if manners.start_error is not None:
            code, close_code = manners.start_error
            self.say(event="error", code=code, message="not this one")
            if close_code is not None:
                self.end(close_code)
        elif not manners.silent_start:
            self.say(event="started", interaction_id=message["interaction_id"])

    def _frame(self, seq: int) -> None:
        manners = self.server.manners
        if manners.acks and seq % ACK_INTERVAL == 0:
            self.say(event="ack", seq=seq + manners.ack_offset)
        if seq == manners.error_at:
            self.say(
                event="error", code="odd_frame", message="The frame is not a whole number of 16-bit samples"
            )
        if seq == manners.expiring_at:
            self.say(event="auth_expiring", expires_in_s=30)
        if seq == manners.garbage_at:
            self.sendMessage(b"[1,2")
        if manners.close_at is not None and seq == manners.close_at[0]:
            self.end(manners.close_at[1])
        if seq == manners.drop_at:
            self.transport.abortConnection()

    def _stop(self) -> None:
        if not self.server.manners.stopped:
            return
        seq, dropped = len(self.frames), self.server.manners.dropped
        self.say(event="stopped", seq=seq, received=seq, published=seq - dropped, dropped=dropped, pending=0)
        self.end(1000)

    def say(self, **fields: Any) -> None:
        """Send one JSON message."""
        if self.state == self.STATE_OPEN:
            self.sendMessage(json.dumps(fields).encode())

    def end(self, code: int) -> None:
        """Close with any code: Autobahn's own sendClose refuses most of them."""
        self.sendCloseFrame(code=code, reasonUtf8=b"", isReply=False)


class Server:
    """Listens on a free port of the loopback until the test is over."""

    def __init__(self, manners: Manners | None = None) -> None:
        self.manners = manners or Manners()
        self.headers: list[dict[str, str]] = []
        self.controls: list[dict[str, Any]] = []
        self.connections: list[Speaker] = []
        self.port = 0

    async def listen(self, case: Any, reactor: Any, tls: tuple[Path, Path] | None = None) -> None:
        """Listen, with TLS when there is a (key, certificate)."""
        factory = WebSocketServerFactory(reactor=reactor)
        factory.protocol = type("Bound", (Speaker,), {"server": self})
        factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=0, closeHandshakeTimeout=0)
        await self._listen(case, reactor, factory, tls)

    async def listen_raw(self, case: Any, reactor: Any, answer: bytes | None) -> None:
        """Listen, answer whatever comes with ``answer`` and hang up; ``None``: say nothing."""

        class Raw(Protocol):
            def dataReceived(self, data: bytes) -> None:
                if answer is not None:
                    self.transport.write(answer)
                    self.transport.loseConnection()

        await self._listen(case, reactor, Factory.forProtocol(Raw), None)

    async def _listen(self, case: Any, reactor: Any, factory: Any, tls: tuple[Path, Path] | None) -> None:
        where = "tcp:0:interface=127.0.0.1"
        if tls is not None:
            where = f"ssl:0:interface=127.0.0.1:privateKey={tls[0]}:certKey={tls[1]}"
        port = await serverFromString(reactor, where).listen(factory)
        case.addCleanup(self._close, port)
        self.port = port.getHost().port

    def _close(self, port: Any) -> Deferred[Any]:
        for connection in self.connections:
            connection.dropConnection(abort=True)
        return maybeDeferred(port.stopListening)

    def url(self, scheme: str = "ws") -> str:
        """Where it listens."""
        return f"{scheme}://127.0.0.1:{self.port}/v1/ingest"
