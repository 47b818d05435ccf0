"""Stream audio to /v1/ingest in real time, and go on where it stood when the connection is lost.

    pip install websockets
    WS_URL=wss://voice.example.com/v1/ingest JWT_TOKEN=... TENANT_ID=acme python resume_client.py call.wav

A 16-bit mono WAV file, or ten seconds of a tone. Why it does what it does: docs/how-to/resume.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import ssl
import sys
import wave
from array import array
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

URL = os.environ.get("WS_URL", "ws://localhost:8443/v1/ingest")
WHO = {name: os.environ.get(name.upper(), "demo") for name in ("tenant_id", "interaction_id")}
FRAME_S = 0.2
# Closes of a connection, and refusals of one, that are worth another.
COME_BACK = {1001, 1005, 1006, 1011, 1012, 1013, 4408, 429, 502, 503, 504}
KEPT_MAX = 1000  # frames kept for sending again; when there are more, the oldest is forgotten


class Stream:
    """Frames by number, kept from when they are spoken until they are acknowledged."""

    def __init__(self, rate: int) -> None:
        self.rate, self.last, self.acked, self.window_s = rate, 0, 0, 30.0
        self.kept: dict[int, bytes] = {}
        self.token: str | None = None
        self.stopped: dict[str, Any] | None = None
        self.began = self.finished = self.stop_said = False
        self.resumes = self.restarts = 0
        self.news = asyncio.Event()
        self.sending: asyncio.Task[None] | None = None

    async def speak(self, audio: bytes) -> None:
        """Number the frames as they are spoken, connected or not."""
        size, now = int(self.rate * FRAME_S) * 2, asyncio.get_running_loop().time
        begun = now()
        for count, at in enumerate(range(0, len(audio), size), 1):
            await asyncio.sleep(begun + count * FRAME_S - now())
            self.last += 1
            self.kept[self.last] = audio[at : at + size]
            self.kept.pop(self.last - KEPT_MAX, None)
            self.finished = at + size >= len(audio)
            self.news.set()

    async def run(self) -> None:
        """Connect until the stream is stopped. Raises: SystemExit when it cannot go on."""
        attempt, lost_at, now = 0, 0.0, asyncio.get_running_loop().time
        before = (False, -1, -1)
        while not self.stopped:
            try:
                why = await self.connection()
            except ConnectionClosed as closed:
                why = closed.rcvd.code if closed.rcvd else 1006
            except InvalidStatus as refused:
                why = refused.response.status_code
            except (OSError, InvalidHandshake):  # no connection, or it ended before it was one
                why = 1006 if self.began else 0
            if self.sending is not None:
                self.sending.cancel()
            so_far = (self.began, self.resumes, self.restarts)
            if before != so_far:  # there was a stream: this is a new loss
                attempt, lost_at, before = 0, now(), so_far
            if not self.stopped and (why not in COME_BACK or now() - lost_at > self.window_s):
                sys.exit(f"the stream is over: {why}")
            # Growing pauses, and never the same: all the other clients were cut off as well.
            await asyncio.sleep(min(3.0, 0.1 * 2**attempt) * random.SystemRandom().uniform(0.5, 1))
            attempt += 1

    async def connection(self) -> int:
        """One connection, from ``start`` to its close code."""
        trust = ssl.create_default_context(cafile=os.environ.get("CA_PATH")) if URL[:3] == "wss" else None
        bearer = {"Authorization": f"Bearer {os.environ.get('JWT_TOKEN', '')}"}
        async with connect(URL, additional_headers=bearer, ssl=trust) as socket:
            await self.start(socket)
            async for text in socket:
                told = json.loads(text)
                self.token = told.get("resume_token", self.token)  # the newest one counts
                if told["event"] == "started":
                    self.sending = asyncio.create_task(self.send_from(socket, self.next_seq(told)))
                elif told["event"] == "ack":
                    self.acked = max(self.acked, told["seq"])
                    self.kept = {seq: frame for seq, frame in self.kept.items() if seq > self.acked}
                elif told["event"] == "stopped":
                    self.stopped = told
                elif told["event"] == "moved":
                    return 1001  # this process takes no more; another one goes on
                elif told.get("code") == "resume_expired" and self.stop_said:
                    self.stopped = told  # it was stopped as we asked; only the answer was lost
                    break
                elif told.get("code") in ("resume_refused", "resume_expired"):
                    self.token = None
                    await self.start(socket)  # another stream, on the same connection
        return socket.close_code or 1006

    async def start(self, socket: Any) -> None:
        """Say who we are and, of a stream that has begun, from where on we still have it."""
        fields: dict[str, Any] = {"event": "start", **WHO, "sample_rate": self.rate, "resumable": True}
        if self.token:
            from_seq = min(self.kept, default=self.last + 1)
            fields |= {"resume_token": self.token, "acked": self.acked, "from_seq": from_seq}
        await socket.send(json.dumps(fields))

    def next_seq(self, told: dict[str, Any]) -> int:
        """The number to go on with. A stream that begins anew has what is not acknowledged, from 1."""
        self.window_s = told.get("resume_window_s", self.window_s)
        if self.began and not told["resumed"]:
            self.kept = dict(enumerate(self.kept.values(), 1))
            self.last, self.acked, self.restarts = len(self.kept), 0, self.restarts + 1
        self.resumes += told["resumed"]
        self.began = True
        return int(told["next_seq"])

    async def send_from(self, socket: Any, seq: int) -> None:
        """Send what there is and what comes, then say ``stop``."""
        with contextlib.suppress(ConnectionClosed):
            while seq <= self.last or not self.finished:
                self.news.clear()
                if seq > self.last:
                    await self.news.wait()
                elif seq not in self.kept:
                    await socket.close(1001)  # forgotten: the next start says so by from_seq
                else:
                    await socket.send(self.kept[seq])
                    seq += 1
            self.stop_said = True
            await socket.send('{"event": "stop"}')


async def main() -> None:
    """Speak and send at once; tell what became of it."""
    rate, audio = 24000, array("h", (round(9000 * math.sin(n / 9)) for n in range(240000))).tobytes()
    if len(sys.argv) > 1:
        with wave.open(sys.argv[1]) as wav:
            rate, audio = wav.getframerate(), wav.readframes(wav.getnframes())
    stream = Stream(rate)
    await asyncio.gather(stream.speak(audio), stream.run())
    told = {"resumes": stream.resumes, "restarts": stream.restarts, "stopped": stream.stopped}
    sys.stdout.write(json.dumps(told) + "\n")


asyncio.run(main())
