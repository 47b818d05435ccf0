"""The consumer, a process of its own: counts what comes on the bus and how long it was on its way.

It is told what to do over a pipe, ``(word, argument)``: ``begin`` ((run, size): what follows belongs to
that run, and latencies begin anew), ``count``, ``fresh`` (forget latencies), ``follow`` (listen, or not),
``report``, ``lasts`` (of each stream the number that came last), ``quit``. Each frame is compared: its mark
is of the run and next in its stream, and the rest is what was said.
"""

from __future__ import annotations

import base64
import binascii
import select
import socket
import time
from array import array
from multiprocessing.connection import Connection
from typing import Any, Final

import hiredis

from .results import percentiles_ms
from .speech import MARK_BYTES, MARK_CHARS, filler, read_mark

_AUDIO: Final = b'"audio":"'
_CHANNEL: Final = "audio:frames"
_SUBJECT: Final = "audio.frames"
_XREAD: Final = ("XREAD", "COUNT", "500", "BLOCK", "100", "STREAMS", _CHANNEL)


class Count:
    """What came."""

    def __init__(self) -> None:
        self._run = 0
        self._tail = self._tail_base64 = b""
        self._last: dict[int, int] = {}
        self._latencies = array("d")
        self.frames = self.wrong = self.foreign = 0

    @property
    def lasts(self) -> dict[int, int]:
        """Of each stream the number that came last."""
        return dict(self._last)

    def begin(self, run: int, size: int) -> None:
        """Expect frames of ``size`` bytes of this run."""
        self._run, self._last = run, {}
        self._tail = filler(size)
        self._tail_base64 = base64.b64encode(self._tail) + b'"}'
        self.frames = self.wrong = self.foreign = 0
        self.fresh()

    def fresh(self) -> None:
        """Forget latencies."""
        self._latencies = array("d")

    def envelope(self, body: bytes) -> None:
        """One frame as JSON."""
        at = body.find(_AUDIO) + len(_AUDIO)
        self._frame(binascii.a2b_base64(body[at : at + MARK_CHARS]), body.endswith(self._tail_base64))

    def audio(self, audio: bytes) -> None:
        """One frame as it was spoken."""
        self._frame(audio, audio[MARK_BYTES:] == self._tail)

    def _frame(self, mark_bytes: bytes, is_whole: bool) -> None:
        now_ns = time.monotonic_ns()
        run, stream, seq, made_ns = read_mark(mark_bytes)
        if run != self._run:
            self.foreign += 1
            return
        self.frames += 1
        if not is_whole or seq != self._last.get(stream, 0) + 1:
            self.wrong += 1
        self._last[stream] = seq
        self._latencies.append((now_ns - made_ns) / 1e6)

    def report(self) -> dict[str, Any]:
        """All of it."""
        counts = {"frames": self.frames, "wrong": self.wrong, "foreign": self.foreign}
        return {**counts, "latency_ms": percentiles_ms(self._latencies)}


class PubSub:
    """Redis pub/sub."""

    def __init__(self, port: int, count: Count) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._count, self._reader = count, hiredis.Reader()
        self.follow("SUBSCRIBE")

    def follow(self, word: str) -> None:
        """``SUBSCRIBE``, or ``UNSUBSCRIBE`` while nobody is to listen."""
        self.socket.sendall(hiredis.pack_command((word, _CHANNEL)))

    def take(self, read: bytes) -> None:
        """What was read."""
        self._reader.feed(read)
        while (reply := self._reader.gets()) is not False:
            if reply[0] == b"message":
                self._count.envelope(reply[2])


class Streams:
    """Redis Streams, from now on."""

    def __init__(self, port: int, count: Count) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._count, self._reader, self._last = count, hiredis.Reader(), "$"
        self._ask()

    def _ask(self) -> None:
        self.socket.sendall(hiredis.pack_command((*_XREAD, self._last)))

    def take(self, read: bytes) -> None:
        """What was read; ask for more."""
        self._reader.feed(read)
        while (reply := self._reader.gets()) is not False:
            for _, entries in reply or ():
                for entry, words in entries:
                    self._last = entry.decode()
                    self._count.audio(words[words.index(b"audio") + 1])
            self._ask()


class Nats:
    """The subject of a JetStream stream, as any subscriber of NATS has it."""

    def __init__(self, port: int, count: Count) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._count, self._held = count, bytearray()
        hello = f'CONNECT {{"verbose":false,"pedantic":false,"headers":true}}\r\nSUB {_SUBJECT} 1\r\n'
        self.socket.sendall(hello.encode())

    def take(self, read: bytes) -> None:
        """What was read: HMSG and MSG, PING, and what does not matter."""
        self._held += read
        at = 0
        while (end := self._held.find(b"\r\n", at)) >= 0:
            words = bytes(self._held[at:end]).split()
            if words[0] in (b"MSG", b"HMSG"):
                begin, size = end + 2, int(words[-1])
                if len(self._held) < begin + size + 2:
                    break
                head = int(words[-2]) if words[0] == b"HMSG" else 0
                self._count.envelope(bytes(self._held[begin + head : begin + size]))
                end = begin + size
            elif words[0] == b"PING":
                self.socket.sendall(b"PONG\r\n")
            at = end + 2
        del self._held[:at]


SOURCES: Final = {"pubsub": PubSub, "redis-streams": Streams, "jetstream": Nats}


def consume(pipe: Connection, bus: str, port: int) -> None:
    """The process."""
    count = Count()
    source = SOURCES[bus](port, count)
    poll = select.epoll()
    poll.register(source.socket.fileno(), select.EPOLLIN)
    poll.register(pipe.fileno(), select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd != pipe.fileno():
                source.take(source.socket.recv(1 << 18))
                continue
            word, argument = pipe.recv()
            if word == "quit":
                return
            if word == "begin":
                count.begin(*argument)
            elif word == "follow" and isinstance(source, PubSub):
                source.follow(argument)
            elif word == "fresh":
                count.fresh()
            answers = {"report": count.report, "lasts": lambda: count.lasts}
            pipe.send(answers[word]() if word in answers else count.frames)
