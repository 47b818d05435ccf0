"""One client connection of the load generator, on a socket that never blocks."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

from .speech import ExotelSpeech, IngestSpeech, farewell, opening, upgrade_request

if TYPE_CHECKING:
    from .generator import Order

_PATHS: Final = {"ingest": "/v1/ingest", "exotel": "/voicebot/ws"}
_READ_BYTES: Final = 65536
_AGAIN: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_STOPPED: Final = re.compile(rb'"stopped".*?"dropped":(\d+)')
_ACK: Final = b'"ack","seq":'
_HEAD: Final = re.compile(rb"\r\n\r\n")
_STARTED: Final = re.compile(rb'\{[^{}]*"started"[^{}]*\}')
# A close frame with the code 1000.
_CLOSED: Final = b"\x88\x02\x03\xe8"


class Refused(Exception):
    """The other side did not take the connection."""


class Client:
    """One connection, from its handshake to its end; ``goes_on`` is the one whose stream it resumes."""

    def __init__(
        self,
        order: Order,
        number: int,
        context: ssl.SSLContext | None,
        *,
        started: bool,
        goes_on: Client | None = None,
    ) -> None:
        load, key = order.load, os.urandom(4)
        self._dialect, self._run, self._number, self._key = load.dialect, order.run, number, key
        self._request = upgrade_request(
            _PATHS[load.dialect], order.bearers[number % len(order.bearers)]
        )
        self.resume_token = ""
        self.seq = self.acks = self.acked = self.dropped = 0
        more: dict[str, Any] = {}
        if goes_on is not None:
            self.seq, self.acked = goes_on.seq, goes_on.acked
            more = {"resume_token": goes_on.resume_token, "acked": goes_on.acked}
        self._opening = b""
        if started:
            self._opening = opening(load.dialect, order.run, number, load.rate_hz, key, **more)
        self._speech: IngestSpeech | ExotelSpeech
        if load.dialect == "ingest":
            self._speech = IngestSpeech(order.run, number, load.size, key)
        else:
            self._speech = ExotelSpeech(order.run, number, load.size, key, load.per_s)
        self._said = b""
        self._pending = bytearray()
        self._stage = 0
        self.stopped = self.ended = False
        plain = socket.create_connection(("127.0.0.1", order.port), timeout=10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setblocking(False)
        self._socket: socket.socket = plain
        if context is not None:
            self._socket = context.wrap_socket(
                plain, server_hostname="localhost", do_handshake_on_connect=False
            )

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno()

    @property
    def held_up(self) -> bool:
        """Whether something could not be sent yet."""
        return bool(self._pending)

    def advance(self) -> bool:
        """A step of the opening; whether it is over. Raises: ``Refused``."""
        try:
            if self._stage == 0:
                if isinstance(self._socket, ssl.SSLSocket):
                    self._socket.do_handshake()
                self._stage = 1
                self._socket.send(self._request)
            if self._stage == 1:
                self._until(_HEAD)
                head, _, self._said = self._said.partition(b"\r\n\r\n")
                if b" 101 " not in head.partition(b"\r\n")[0]:
                    raise Refused(head[:200].decode(errors="replace"))
                if not self._opening:
                    return True
                self._stage = 2
                self._socket.send(self._opening)
            if self._dialect == "ingest":
                told = json.loads(self._until(_STARTED))
                # The peers of the benchmark neither resume nor say where.
                self.seq, self.resume_token = told.get("next_seq", 1) - 1, told.get("resume_token", "")
            self._said = b""
        except _AGAIN:
            return False
        return True

    def _until(self, words: re.Pattern[bytes]) -> bytes:
        while (found := words.search(self._said)) is None:
            read = self._socket.recv(_READ_BYTES)
            if not read:
                raise Refused(f"closed after {self._said[-200:]!r}")
            self._said += read
        return found[0]

    def say(self, now_ns: int) -> None:
        """Send the next frame, made now; what the socket does not take is kept and sent in order."""
        if self.ended:
            return
        self.seq += 1
        self._send(self._speech.frame(self.seq, now_ns))

    def fill(self, window: int) -> None:
        """Say frames until ``window`` of them are not acknowledged, or the socket is full."""
        while not self._pending and not self.ended and self.seq - self.acked < window:
            self.say(time.monotonic_ns())

    def _send(self, data: bytes | bytearray) -> None:
        if self._pending:
            self._pending += data
            return
        try:
            sent = self._socket.send(data)
        except _AGAIN:
            sent = 0
        except OSError:
            self.ended = True
            return
        if sent < len(data):
            self._pending += memoryview(data)[sent:]

    def flush(self) -> None:
        """Send what is kept, as far as it goes."""
        try:
            while self._pending:
                del self._pending[: self._socket.send(self._pending)]
        except _AGAIN:
            return
        except OSError:
            self.ended = True

    def read(self) -> None:
        """Take what the other side says."""
        try:
            while not self.ended:
                read = self._socket.recv(_READ_BYTES)
                self.acks += read.count(b'"ack"')
                said = self._said + read
                at = said.rfind(_ACK)
                if at >= 0 and b"}" in said[at:]:
                    self.acked = int(said[at + len(_ACK) : said.index(b"}", at)])
                stopped = _STOPPED.search(said)
                if stopped:
                    self.dropped = int(stopped[1])
                self._said = said[-512:]
                if not read or _CLOSED in self._said:
                    self.stopped |= _CLOSED in self._said
                    self.ended = True
                if len(read) < _READ_BYTES and not isinstance(self._socket, ssl.SSLSocket):
                    return
        except _AGAIN:
            return
        except OSError:
            self.ended = True

    def stop(self) -> None:
        """Say that no more will come."""
        self._send(farewell(self._dialect, self._run, self._number, self._key))

    def cut(self) -> None:
        """Close the socket."""
        self._socket.close()
        self.ended = True
