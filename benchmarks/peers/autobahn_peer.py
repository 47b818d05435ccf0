"""The same job with what the daemon is made of, used plainly: Autobahn, txredisapi, PyJWT, Twisted.

It does: RS256 on the upgrade, start and started, the envelope of each frame published to Redis
pub/sub, ack every 10 frames once Redis has confirmed them, stop and stopped. Commands are not waited
for one by one (txredisapi pipelines them over its connection); a socket that is ahead of Redis is
paused. Autobahn with its C parts, Twisted on its default reactor. The constant parts of the envelope
are built once a stream.
It does not: resume, take over, pace or drop, time out, ping, count, log, or bound what is queued.
"""

from __future__ import annotations

import json
import os
import time
from binascii import b2a_base64
from pathlib import Path
from typing import Any

import jwt
import txredisapi
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString

ACK_INTERVAL = 10
AHEAD_MAX = 64
KEY = Path(os.environ["JWT_PUBLIC_KEY_FILE"]).read_text()


class Ingest(WebSocketServerProtocol):
    """One connection."""

    prefix = b""
    received = confirmed = 0
    stopping = paused = False

    def onConnect(self, request: Any) -> None:
        """Look at the token."""
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            self.claims = jwt.decode(bearer, KEY, algorithms=["RS256"])
        except jwt.InvalidTokenError:
            raise ConnectionDeny(401) from None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """A frame, or a word."""
        if isBinary:
            if not self.prefix or not payload or len(payload) % 2:
                self.sendClose(1000)
            else:
                self.frame(payload)
            return
        told = json.loads(payload)
        if told["event"] == "start" and not self.prefix and told["tenant_id"] == self.claims["tenant_id"]:
            names = json.dumps(told["tenant_id"]), json.dumps(told["interaction_id"])
            self.prefix = b'{"tenant_id":%b,"interaction_id":%b,"seq":' % tuple(n.encode() for n in names)
            self.middle = b',"sample_rate":%d,"encoding":"pcm16","audio":"' % told["sample_rate"]
            facts = {"encoding": "pcm16", "ack_interval": ACK_INTERVAL}
            self.sendMessage(json.dumps({**told, **facts, "event": "started"}).encode())
        elif told["event"] == "stop":
            self.stopping = True
            self.finish()

    def frame(self, audio: bytes) -> None:
        """Publish one."""
        self.received += 1
        head = b'%b%d,"timestamp_ms":%d' % (self.prefix, self.received, time.time() * 1000)
        body = b'%b%b%b"}' % (head, self.middle, b2a_base64(audio, newline=False))
        BUS.publish("audio:frames", body).addCallback(self.settle)
        if self.received - self.confirmed > AHEAD_MAX and not self.paused:
            self.paused = True
            self.transport.pauseProducing()

    def settle(self, _listeners: Any) -> None:
        """One more is on the bus."""
        self.confirmed += 1
        if self.paused and self.received - self.confirmed < AHEAD_MAX / 2:
            self.paused = False
            self.transport.resumeProducing()
        if self.confirmed % ACK_INTERVAL == 0:
            self.sendMessage(b'{"event":"ack","seq":%d}' % self.confirmed)
        if self.stopping:
            self.finish()

    def finish(self) -> None:
        """Say ``stopped`` once everything is on the bus."""
        if self.confirmed == self.received:
            counts = {"received": self.received, "published": self.confirmed, "dropped": 0}
            self.sendMessage(json.dumps({"event": "stopped", **counts}).encode())
            self.sendClose(1000)


BUS = txredisapi.lazyConnection(port=int(os.environ["REDIS_PORT"]), charset=None, convertNumbers=False)


def main() -> None:
    """Serve, plain and with TLS."""
    factory = WebSocketServerFactory()
    factory.protocol = Ingest
    factory.setProtocolOptions(maxMessagePayloadSize=65536, tcpNoDelay=True)
    plain = f"tcp:{os.environ['PLAIN_PORT']}:interface=127.0.0.1:backlog=1024"
    files = f"privateKey={os.environ['SSL_KEY_PATH']}:certKey={os.environ['SSL_CERT_PATH']}"
    tls = f"ssl:{os.environ['TLS_PORT']}:interface=127.0.0.1:backlog=1024:{files}"
    for description in (plain, tls):
        serverFromString(reactor, description).listen(factory)
    reactor.run()


if __name__ == "__main__":
    main()
