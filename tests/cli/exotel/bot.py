"""A bot for the tests of the caller: well or badly behaved, as it is told. Knows nothing of the daemon."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.web.resource import Resource
from twisted.web.server import Site


@dataclass(slots=True)
class Ways:
    """What the bot does; the default listens and says nothing."""

    echo: bool = False
    # Said as soon as the call has started: JSON with $SID for the stream, or bytes for a binary message.
    greeting: list[Any] = field(default_factory=list)
    # Said when the first loud audio comes.
    on_speech: list[Any] = field(default_factory=list)
    # After so many chunks: this close code; 0 breaks the connection.
    close_at: tuple[int, int] | None = None
    deny: tuple[int, str] | None = None
    # Does not read any more after ``start``.
    deaf: bool = False


def media(audio: bytes, **more: Any) -> dict[str, Any]:
    """A message of the documented shape."""
    payload = base64.b64encode(audio).decode()
    return {"event": "media", "stream_sid": "$SID", "media": {"payload": payload, **more}}


Pair = tuple[Path, Path]


def where(tls: Pair | None) -> str:
    """A free port of the loopback."""
    if tls is None:
        return "tcp:0:interface=127.0.0.1"
    return f"ssl:0:interface=127.0.0.1:privateKey={tls[0]}:certKey={tls[1]}"


MARK = {"event": "mark", "stream_sid": "$SID", "mark": {"name": "spoken"}}
CLEAR = {"event": "clear", "stream_sid": "$SID"}


class Leg(WebSocketServerProtocol):  # type: ignore[misc]
    """One call."""

    bot: Bot

    def onConnect(self, request: Any) -> None:
        self.bot.headers.append(dict(request.headers))
        self.bot.queries.append({key: values[0] for key, values in request.params.items()})
        if self.bot.ways.deny is not None:
            raise ConnectionDeny(*self.bot.ways.deny)

    def onOpen(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.audio = b""
        self.sid = ""
        self.echoed = 0
        self.is_answered = False
        self.ponged = False
        self.bot.legs.append(self)

    def onPong(self, payload: bytes) -> None:
        self.ponged = True

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        self.heard.append(message)
        ways = self.bot.ways
        if message["event"] == "start":
            self.sid = message["start"]["stream_sid"]
            self._say(ways.greeting)
            if ways.deaf:
                self.transport.pauseProducing()
        elif message["event"] == "media":
            self._listen(base64.b64decode(message["media"]["payload"]))

    def _listen(self, audio: bytes) -> None:
        ways = self.bot.ways
        self.audio += audio
        if ways.echo:
            whole = len(self.audio) // 320 * 320
            self._say([media(self.audio[self.echoed : whole])] if whole > self.echoed else [])
            self.echoed = whole
        if any(audio) and not self.is_answered:
            self.is_answered = True
            self._say(ways.on_speech)
        if ways.close_at is not None and len(self.chunks) == ways.close_at[0]:
            if ways.close_at[1]:
                self.sendCloseFrame(code=ways.close_at[1], reasonUtf8=b"", isReply=False)
            else:
                self.transport.abortConnection()

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return self.of("media")

    def of(self, event: str) -> list[dict[str, Any]]:
        """The messages of one kind."""
        return [message for message in self.heard if message["event"] == event]

    def _say(self, messages: list[Any]) -> None:
        for message in messages:
            if isinstance(message, bytes):
                self.sendMessage(message, isBinary=True)
            else:
                text = message if isinstance(message, str) else json.dumps(message)
                self.sendMessage(text.replace("$SID", self.sid).encode())


class Webhook(Resource):
    """Answers what it is told, and remembers what it was asked."""

    isLeaf = True

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__()
        self.status = status
        self.body = body
        self.asked: list[dict[str, str]] = []
        self.authorizations: list[str | None] = []
        self.port = 0

    async def listen(self, case: Any, reactor: Any, tls: Pair | None = None) -> None:
        """Listen, with TLS when there is a (key, certificate)."""
        port = await serverFromString(reactor, where(tls)).listen(Site(self))
        case.addCleanup(port.stopListening)
        self.port = port.getHost().port

    def render_GET(self, request: Any) -> bytes:
        self.asked.append({key.decode(): values[0].decode() for key, values in request.args.items()})
        self.authorizations.append(request.getHeader("authorization"))
        request.setResponseCode(self.status)
        # Twisted's client would keep the connection, and the test is over before it lets go.
        request.setHeader("Connection", "close")
        return self.body


class Bot:
    """Listens on a free port of the loopback until the test is over."""

    def __init__(self, ways: Ways | None = None) -> None:
        self.ways = ways or Ways()
        self.headers: list[dict[str, str]] = []
        self.queries: list[dict[str, str]] = []
        self.legs: list[Leg] = []
        self.port = 0

    async def listen(self, case: Any, reactor: Any, tls: Pair | None = None) -> None:
        """Listen, with TLS when there is a (key, certificate)."""
        factory = WebSocketServerFactory(reactor=reactor)
        factory.protocol = type("Bound", (Leg,), {"bot": self})
        factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=0, closeHandshakeTimeout=0)
        port = await serverFromString(reactor, where(tls)).listen(factory)
        case.addCleanup(self._close, port)
        self.port = port.getHost().port

    def _close(self, port: Any) -> Deferred[Any]:
        for leg in self.legs:
            leg.dropConnection(abort=True)
        return maybeDeferred(port.stopListening)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ws://127.0.0.1:{self.port}/voicebot/ws"
