"""The same job in Python, with websockets, redis-py (and hiredis), PyJWT and uvloop.

It does: RS256 on the upgrade, start and started, the envelope of each frame published to Redis
pub/sub, ack every 10 frames once Redis has confirmed them, stop and stopped. As the manuals say: no
compression, uvloop, ``broadcast`` for what must not wait for a slow client, and one task that publishes
all that waits in one pipeline. The constant parts of the envelope are built once a stream.
It does not: resume, take over, pace or drop, time out, count or log; pings are the library's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from binascii import b2a_base64
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jwt
import redis.asyncio as redis
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

ACK_INTERVAL = 10
QUEUE_MAX = 1024
BATCH_MAX = 256
KEY = Path(os.environ["JWT_PUBLIC_KEY_FILE"]).read_text()


class Stream:
    """One stream: what its frames share, and how far it is."""

    def __init__(self, socket: ServerConnection, start: dict[str, Any]) -> None:
        names = json.dumps(start["tenant_id"]), json.dumps(start["interaction_id"])
        self._socket = socket
        self._prefix = b'{"tenant_id":%b,"interaction_id":%b,"seq":' % tuple(name.encode() for name in names)
        self._middle = b',"sample_rate":%d,"encoding":"pcm16","audio":"' % start["sample_rate"]
        self.received = self.confirmed = 0
        self.settled = asyncio.Event()

    def envelope(self, audio: bytes) -> bytes:
        """What is published of the next frame."""
        self.received += 1
        audio = b2a_base64(audio, newline=False)
        head = b'%b%d,"timestamp_ms":%d' % (self._prefix, self.received, time.time() * 1000)
        return b'%b%b%b"}' % (head, self._middle, audio)

    def confirm(self) -> None:
        """One more is on the bus."""
        self.confirmed += 1
        if self.confirmed % ACK_INTERVAL == 0:
            broadcast([self._socket], f'{{"event":"ack","seq":{self.confirmed}}}')
        if self.confirmed == self.received:
            self.settled.set()


Queue = asyncio.Queue[tuple[Stream, bytes]]


async def publish(bus: redis.Redis, queue: Queue) -> None:
    """All that waits, in one pipeline at a time."""
    while True:
        batch = [await queue.get()]
        while len(batch) < BATCH_MAX and not queue.empty():
            batch.append(queue.get_nowait())
        pipeline = bus.pipeline(transaction=False)
        for _, body in batch:
            pipeline.publish("audio:frames", body)
        await pipeline.execute()
        for stream, _ in batch:
            stream.confirm()


async def ingest(socket: ServerConnection, queue: Queue) -> None:
    """One connection."""
    stream = None
    async for message in socket:
        if isinstance(message, bytes):
            if stream is None or not message or len(message) % 2:
                return
            await queue.put((stream, stream.envelope(message)))
            continue
        told = json.loads(message)
        if told["event"] == "start" and stream is None and told["tenant_id"] == socket.claims["tenant_id"]:
            stream = Stream(socket, told)
            facts = {"encoding": "pcm16", "ack_interval": ACK_INTERVAL}
            await socket.send(json.dumps({**told, **facts, "event": "started"}))
        elif told["event"] == "stop" and stream is not None:
            while stream.confirmed < stream.received:
                stream.settled.clear()
                await stream.settled.wait()
            counts = {"received": stream.received, "published": stream.confirmed, "dropped": 0}
            await socket.send(json.dumps({"event": "stopped", **counts}))
            return


def admit(socket: ServerConnection, request: Any) -> Any:
    """Look at the token."""
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    try:
        socket.claims = jwt.decode(bearer, KEY, algorithms=["RS256"])
    except jwt.InvalidTokenError:
        return socket.respond(HTTPStatus.UNAUTHORIZED, "")
    return None


async def main() -> None:
    """Serve, plain and with TLS."""
    bus = redis.Redis(port=int(os.environ["REDIS_PORT"]))
    queue: Queue = asyncio.Queue(QUEUE_MAX)
    publishing = asyncio.create_task(publish(bus, queue))

    async def serving(socket: ServerConnection) -> None:
        try:
            await ingest(socket, queue)
        except ConnectionClosed:
            return

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(os.environ["SSL_CERT_PATH"], os.environ["SSL_KEY_PATH"])
    options: dict[str, Any] = {
        "process_request": admit, "compression": None, "max_size": 65536, "backlog": 1024,
    }  # fmt: skip
    async with (
        serve(serving, "127.0.0.1", int(os.environ["PLAIN_PORT"]), **options),
        serve(serving, "127.0.0.1", int(os.environ["TLS_PORT"]), ssl=tls, **options),
    ):
        await publishing


if __name__ == "__main__":
    uvloop.run(main())
