"""A server that speaks the ingest dialect, well or badly as it is told, for the tests of clients."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol

ACK_INTERVAL = 10
_BODY = b'{"code":"draining","message":"The daemon is shutting down","request_id":"r"}'
_DRAINING = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


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
    # What follows counts frames of the whole stream, over all its connections.
    resumable: bool = False
    window_s: float = 30.0
    lose_at: tuple[int, ...] = ()
    close_once_at: tuple[int, int] | None = None
    move_at: int | None = None
    forget_unacked: bool = False
    resume_error: str | None = None
    lose_at_stop: bool = False
    stopped_at_resume: bool = False
    deny_count: int = 0
    deny_after: int = 0


class Speaker(WebSocketServerProtocol):  # type: ignore[misc]
    """One connection."""

    server: Server

    def onConnect(self, request: Any) -> str | None:
        self.server.headers.append(dict(request.headers))
        manners = self.server.manners
        if manners.deny is not None:
            raise ConnectionDeny(*manners.deny)
        if len(self.server.connections) >= manners.deny_after and manners.deny_count > 0:
            manners.deny_count -= 1
            # Autobahn's own answer, which comes after this one, has no body.
            self.transport.write(_DRAINING)
            raise ConnectionDeny(503, "draining")
        return None

    def onOpen(self) -> None:
        self.frames: list[bytes] = []
        self.stream: list[bytes] = self.frames
        self.name = ""
        self.lost = False
        self.server.connections.append(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.lost:
            return
        if self.server.taken is not None:
            self.server.taken(self, payload, isBinary)
        if isBinary:
            self.frames.append(payload)
            if self.stream is not self.frames:
                self.stream.append(payload)
            self._frame(len(self.stream))
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
        elif manners.resumable:
            self._start_resumable(message)
        elif not manners.silent_start:
            self.say(event="started", interaction_id=message["interaction_id"])

    def _start_resumable(self, message: dict[str, Any]) -> None:
        """As the daemon does it: a token goes on where the stream stands, a plain start begins anew."""
        manners, self.name = self.server.manners, message["interaction_id"]
        epochs = self.server.streams.setdefault(self.name, [])
        resumed = "resume_token" in message
        if resumed and manners.resume_error is not None:
            self.say(event="error", code=manners.resume_error, message="start without it")
            manners.resume_error = None
            return
        if not resumed:
            epochs.append([])
        self.stream = epochs[-1]
        if resumed and manners.stopped_at_resume:
            manners.lose_at_stop = False
            self._stop()
            return
        if resumed and manners.forget_unacked:
            del self.stream[message["acked"] :]
        if resumed and message["from_seq"] > len(self.stream) + 1:
            first, last = len(self.stream) + 1, message["from_seq"] - 1
            self.stream += [b""] * (last - first + 1)
            self.say(event="gap", **{"from": first, "to": last}, reason="client")
        self.say(
            event="started",
            interaction_id=self.name,
            epoch=len(epochs),
            resumed=resumed,
            next_seq=len(self.stream) + 1,
            resume_token=f"token-{len(self.server.connections)}",
            resume_window_s=manners.window_s,
        )

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
        if manners.close_once_at is not None and seq == manners.close_once_at[0]:
            code, manners.close_once_at = manners.close_once_at[1], None
            self.end(code)
        if seq == manners.move_at:
            manners.move_at = None
            self.say(event="goaway", after_ms=0, resume_token="token-goaway")
            self.say(event="moved", seq=seq, next_seq=seq + 1, resume_token="token-moved")
            self.end(1001)
        if seq == manners.drop_at:
            self.transport.abortConnection()
        if seq in manners.lose_at:
            manners.lose_at = tuple(place for place in manners.lose_at if place != seq)
            self.lost = True
            self.transport.abortConnection()

    def _stop(self) -> None:
        if self.server.manners.lose_at_stop:
            self.lost = True
            self.transport.abortConnection()
        if not self.server.manners.stopped:
            return
        seq, dropped = len(self.stream), self.server.manners.dropped
        lost = sum(not frame for frame in self.stream)
        published = seq - dropped - lost
        counts = {"received": seq - lost, "published": published, "dropped": dropped, "pending": 0}
        self.say(event="stopped", seq=seq, **counts)
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
        # The frames of each numbering of each interaction, where streams are resumable.
        self.streams: dict[str, list[list[bytes]]] = {}
        self.port = 0
        self.raw_count = 0
        # Called with the connection, the payload and whether it is audio, for every message.
        self.taken: Callable[[Speaker, bytes, bool], None] | None = None

    async def listen(self, case: Any, reactor: Any, tls: tuple[Path, Path] | None = None) -> None:
        """Listen, with TLS when there is a (key, certificate)."""
        factory = WebSocketServerFactory(reactor=reactor)
        factory.protocol = type("Bound", (Speaker,), {"server": self})
        factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=0, closeHandshakeTimeout=0)
        await self._listen(case, reactor, factory, tls)

    async def listen_raw(self, case: Any, reactor: Any, answer: bytes | None) -> None:
        """Listen, answer whatever comes with ``answer`` and hang up; ``None``: say nothing."""

        class Raw(Protocol):
            def connectionMade(raw) -> None:
                self.raw_count += 1

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
