"""One caller of the load: a WebSocket by hand that paces audio, and comes back where it may.

Its audio is numbered from 1 for its whole life. What it may still have to say again is not kept but
made again: a frame follows from its number and the time it was spoken.
"""

from __future__ import annotations

import asyncio
import random
import struct
import time
from array import array
from collections.abc import Callable
from typing import Any, Final

from tests.support.sockets import PING, frame, handshake

from .audio import RATE_HZ, Mark, frame_of
from .diary import Diary, Line
from .wire import Wire

_AUDIO_HEAD: Final = struct.Struct("!BBH")
# What a caller whose line broke waits before it dials again, in seconds.
_AGAIN_S: Final = (0.02, 0.2)
_ANSWER_S: Final = 8.0


class Caller:
    """One stream of paced audio. ``speak`` is called at 50 Hz; ``stop`` ends it in good order."""

    def __init__(self, line: Line, source: int, index: int) -> None:
        self._line = line
        self._source = source
        self.index = index
        self.diary = Diary()
        self._spoken_ns = array("Q")
        # seq of the epoch in use + _base = number; what is confirmed, epoch by epoch.
        self._base = 0
        self._seq = 0
        self._acked = 0
        self._confirmed: list[list[int]] = []
        self._ack_at = 0.0
        self._lost_at: float | None = None
        self._resume_token: str | None = None
        self._wire: Wire | None = None
        self._speaking = False
        self._stopping = False
        self._dialling: asyncio.Task[None] | None = None
        self._leftover: list[Wire] = []
        self._epochs = 0
        self.over = asyncio.Event()

    # --- what the load does with it

    @property
    def live(self) -> bool:
        """Whether it is connected and its stream goes on."""
        return self._speaking

    def dial(self, delay_s: float = 0.0) -> None:
        """Connect, in the background, until it works."""
        if self._dialling is None or self._dialling.done():
            self._dialling = asyncio.get_running_loop().create_task(self._dial(delay_s))

    def speak(self) -> None:
        """Make the next 20 ms, and send what may be sent."""
        self._spoken_ns.append(time.monotonic_ns())
        if self._speaking:
            self._catch_up()

    def ping(self) -> None:
        """Ask the daemon for a sign of life; the answer is timed."""
        if self._speaking and self._wire is not None:
            self._wire.send(frame(PING, time.monotonic_ns().to_bytes(8, "big")))

    def stop(self) -> None:
        """Say ``stop``, now or as soon as the stream is back."""
        self._stopping = True
        if self._speaking and self._wire is not None:
            self._wire.say("stop")
        elif not self._line.resumes:
            self.over.set()

    def cut(self, way: str) -> None:
        """Break the line: ``reset``, ``close`` (FIN), or ``leave`` it open and dial again."""
        wire = self._wire
        if wire is None or not self._speaking:
            return
        if way == "reset":
            wire.reset()
        elif way == "close":
            wire.transport.abort()
        else:
            self._leftover.append(wire)
            self._is_lost(None)

    def hang_up(self) -> None:
        """End everything at once."""
        if self._dialling is not None:
            self._dialling.cancel()
        for wire in [*self._leftover, *([self._wire] if self._wire else [])]:
            wire.transport.abort()

    def report(self) -> dict[str, Any]:
        """What is to be known of it, as JSON."""
        told = {name: getattr(self.diary, name) for name in Diary.__slots__}
        confirmed = [*self._confirmed, [self._base + 1, self._base + self._acked]]
        return {
            "index": self.index,
            "name": self._line.interaction_id,
            "sent": len(self._spoken_ns),
            "said": self._base + self._seq,
            "acked": [pair for pair in confirmed if pair[0] <= pair[1]],
            **told,
        }

    # --- connecting

    async def _dial(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        while not self.over.is_set():
            wire = Wire(self)
            host, port = random.choice(self._line.ways)
            try:
                await asyncio.get_running_loop().create_connection(_always(wire), host, port)
            except OSError:
                self.diary.refused += 1
                await asyncio.sleep(random.uniform(*_AGAIN_S))
                continue
            self._wire = wire
            wire.send(handshake(Authorization=f"Bearer {self._line.token}"))
            try:
                began = await asyncio.wait_for(asyncio.shield(wire.settled), _ANSWER_S)
                # It may have broken again since, and whoever saw that has left the dialling to us.
                if began and (self._wire is wire or not self._line.resumes):
                    return
            except TimeoutError:
                wire.transport.abort()
            await asyncio.sleep(random.uniform(*_AGAIN_S))

    def answered(self, wire: Wire, status: int) -> None:
        """The handshake was answered."""
        if status != 101:
            self.diary.unavailable += 1
            wire.transport.abort()
            return
        self.diary.connects += 1
        self._begin(wire, resume=self._resume_token is not None)

    def _begin(self, wire: Wire, *, resume: bool) -> None:
        line = self._line
        fields: dict[str, Any] = {"tenant_id": line.tenant_id, "interaction_id": line.interaction_id}
        if line.resumes:
            fields["resumable"] = True
        if resume:
            fields |= {"resume_token": self._resume_token, "acked": self._acked, "from_seq": self._acked + 1}
        wire.say("start", sample_rate=RATE_HZ, encoding="pcm16", **fields)

    # --- what the daemon says

    def told(self, wire: Wire, message: dict[str, Any]) -> None:
        """One message; of a connection that was left behind only the gaps count."""
        event = message["event"]
        if wire is not self._wire and event != "gap":
            return
        if event == "ack":
            self._acked_to(message["seq"])
        elif event == "started":
            self._started(wire, message)
        elif event == "gap":
            self._gap(message)
        elif event == "error":
            self._error(wire, str(message["code"]))
        elif event == "goaway":
            self._resume_token = message.get("resume_token", self._resume_token)
        elif event in ("moved", "stopped"):
            self._ended(event, message)

    def _started(self, wire: Wire, message: dict[str, Any]) -> None:
        now = time.monotonic()
        self._resume_token = message.get("resume_token") if self._line.resumes else None
        if message.get("resumed"):
            self.diary.resumed += 1
            self._seq = message["next_seq"] - 1
            if self._seq < self._acked:
                self.diary.errors.append("asked_for_what_is_acked")
        else:
            self._epochs += 1
            if self._epochs > 1:
                self.diary.restarted += 1
                self._confirmed.append([self._base + 1, self._base + self._acked])
            self._base, self._seq, self._acked = self._base + self._acked, 0, 0
        if self._lost_at is not None:
            self.diary.back_s.append(now - self._lost_at)
            self._lost_at = None
        self._ack_at = now
        self._speaking = True
        wire.settled.set_result(True)
        self._catch_up()
        if self._stopping:
            wire.say("stop")

    def _catch_up(self) -> None:
        wire = self._wire
        at = self._base + self._seq
        if wire is None:
            return
        for number in range(at + 1, len(self._spoken_ns) + 1):
            audio = frame_of(Mark(self._source, self.index, number, self._spoken_ns[number - 1]))
            # Masked with zeros: as sound as any mask, and it costs nothing.
            wire.send(_AUDIO_HEAD.pack(0x82, 0xFE, len(audio)) + b"\0\0\0\0" + audio)
            self._seq += 1

    def _acked_to(self, seq: int) -> None:
        now_ns = time.monotonic_ns()
        self._acked = max(self._acked, seq)
        late_ms = (now_ns - self._spoken_ns[self._base + seq - 1]) / 1e6
        self.diary.acks_ms.append([round(now_ns / 1e9, 3), round(late_ms, 2)])
        self.diary.ack_gap_s = max(self.diary.ack_gap_s, now_ns / 1e9 - self._ack_at)
        self._ack_at = now_ns / 1e9

    def _gap(self, message: dict[str, Any]) -> None:
        first, last = self._base + message["from"], self._base + message["to"]
        self.diary.gaps.append([first, last, message["reason"]])

    def ponged(self, sent_ns: int) -> None:
        """A sign of life came back."""
        now_ns = time.monotonic_ns()
        self.diary.pongs_ms.append([round(now_ns / 1e9, 3), round((now_ns - sent_ns) / 1e6, 2)])

    def _error(self, wire: Wire, code: str) -> None:
        self.diary.errors.append(code)
        if code in ("resume_refused", "resume_expired"):
            self._resume_token = None
            self._begin(wire, resume=False)

    def _ended(self, event: str, message: dict[str, Any]) -> None:
        self._speaking = False
        if message["seq"] < self._seq:
            if self._stopping:
                self.diary.errors.append("stopped_short")
            else:
                # The daemon goes: what came after its last word was not taken, and we know it.
                self._seq = message["seq"]
        if event == "moved":
            self.diary.moved += 1
            # What the daemon could not deliver any more is given back: it is said again elsewhere.
            self._acked = max(self._acked, message["next_seq"] - 1)
            if not self._line.resumes:
                self.diary.stopped = message
                self.over.set()
            self._resume_token = message.get("resume_token")
        else:
            if not message["pending"]:
                self._acked = max(self._acked, message["seq"])
            self.diary.stopped = message
            self.over.set()

    # --- losing the line

    def lost(self, wire: Wire, why: Exception | None) -> None:
        """A connection is gone."""
        if not wire.head and isinstance(why, ConnectionResetError):
            self.diary.resets += 1
        if wire is self._wire:
            self._is_lost(wire.code)

    def _is_lost(self, code: int | None) -> None:
        wire, self._wire, self._speaking = self._wire, None, False
        if wire is None or not wire.settled.done() or not wire.settled.result():
            return
        self.diary.closes.append([round(time.monotonic(), 3), code])
        self._lost_at = time.monotonic()
        if self.over.is_set():
            return
        if self._line.resumes:
            self.dial(random.uniform(*_AGAIN_S))
        elif self._stopping:
            self.over.set()


def _always(wire: Wire) -> Callable[[], Wire]:
    return lambda: wire
