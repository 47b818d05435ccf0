"""Deepgram's live transcription as a server of the test's own, faithful and, when told to, not.

    deepgram = FakeDeepgram(self)
    await deepgram.start()
    daemon = await self.start_daemon(**deepgram.settings)      # EXO_BRIDGE_ENABLED and the rest
    ...
    session = await deepgram.session()                         # the first connection; session(2) the second
    await session.until(lambda: session.audio_s > 1, "a second of audio")
    deepgram.refuse = (401, "INVALID_AUTH")                    # from the next connection on
    deepgram.close_all(1011, "NET-0000"); deepgram.drop_all(); deepgram.freeze(); deepgram.thaw()
    await deepgram.stop()                                      # nobody listens any more; start() again

It checks what is asked of it (key, path, query) and answers as the documentation says: an interim result
for every half second of audio, a final one for every second (``segment_s``), ``speech_final`` with every
second final, the rest after ``Finalize`` and ``CloseStream``, then ``Metadata`` and 1000. Times are those
of the connection's own audio. The text of a result is made from its audio by ``recognise``: by default
the first and the last number of ``audio_of`` frames, ``"50..99"``; digital silence has no words. What a
client does wrong is in ``session.violations``. It runs on the reactor's loop, without tasks; the WebSocket
is the sans-I/O server of ``websockets``, so it shares no code with the daemon's client.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from voiceingest.aio import as_deferred

from .daemon import HOST, free_port

if TYPE_CHECKING:
    from .case import TestCase

PATH: Final = "/v1/listen"
DEADLINE_S: Final = 15.0
# Without any message for so long the connection is closed (NET-0001).
NO_MESSAGE_S: Final = 12.0
_SAMPLE_BYTES: Final = 2


def numbers(pcm: bytes) -> str:
    """The words of ``audio_of`` frames: the numbers of the first and the last of them."""
    whole = pcm[: len(pcm) // 4 * 4]
    if not whole.strip(b"\0"):
        return ""
    first, last = struct.unpack_from("<I", whole, 0)[0], struct.unpack_from("<I", whole, len(whole) - 4)[0]
    return f"{first}..{last}"


class Session(asyncio.Protocol):
    """One connection: what it was asked, what it heard, what it said."""

    def __init__(self, server: FakeDeepgram) -> None:
        self._server = server
        self._websocket = ServerProtocol()
        self._timer: asyncio.TimerHandle | None = None
        self.transport: Any = None
        self.query: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.refused: int | None = None
        self.audio = bytearray()
        # When audio came (monotonic seconds) and how many samples.
        self.arrivals: list[tuple[float, int]] = []
        self.texts: list[str] = []
        self.said: list[dict[str, Any]] = []
        self.violations: list[str] = []
        self.is_lost = False
        self._final = self._interim = 0
        self._finals = 0

    def __repr__(self) -> str:
        return f"<session {self.audio_s:.2f} s, texts {self.texts[-3:]}, said {self.said[-2:]}>"

    # --- what it knows

    @property
    def rate(self) -> int:
        """Samples per second, as it was asked."""
        return int(self.query.get("sample_rate", "0")) or 1

    @property
    def audio_s(self) -> float:
        """Seconds of audio heard."""
        return len(self.audio) / _SAMPLE_BYTES / self.rate

    @property
    def is_open(self) -> bool:
        """Whether the upgrade was granted and the connection stands."""
        return bool(self.query) and self.refused is None and not self.is_lost

    async def until(
        self, condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S
    ) -> None:
        """Wait for ``condition``. Raises: ``AssertionError`` with ``what``."""
        await self._server.until(condition, f"{what}: {self!r}", deadline_s)

    # --- asyncio's hooks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP stands."""
        self.transport = transport
        # Small, so that one which reads nothing is full soon.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._server.sessions.append(self)
        if self._server.is_frozen:
            self.transport.pause_reading()
        self._expect_message()

    def connection_lost(self, exc: Exception | None) -> None:
        """TCP is gone."""
        self.is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._server.wake()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._websocket.receive_data(data)
        for event in self._websocket.events_received():
            if isinstance(event, Request):
                self._asked(event)
            elif isinstance(event, Frame):
                self._told(event)
        self._flush()
        self._server.wake()

    def eof_received(self) -> bool:
        """No more bytes will come."""
        self._websocket.receive_eof()
        self._flush()
        return False

    # --- the protocol

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.path)
        self.headers = {name.lower(): value for name, value in request.headers.raw_items()}
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        refusal = self._server.refuse or self._judge(parts.path, query)
        if refusal is not None:
            self.refused = refusal[0]
            response = self._websocket.reject(refusal[0], json.dumps({"err_code": refusal[1]}))
            response.headers["dg-error"] = refusal[1]
        else:
            response = self._websocket.accept(request)
            self.query = query
        response.headers["dg-request-id"] = self._request_id
        self._websocket.send_response(response)

    def _judge(self, path: str, query: dict[str, str]) -> tuple[int, str] | None:
        if self.headers.get("authorization") != f"Token {self._server.key}":
            return 401, "INVALID_AUTH"
        if path != PATH:
            return 404, "NOT_FOUND"
        wants = {"encoding": "linear16", "channels": "1", "interim_results": "true"}
        if any(query.get(name) != value for name, value in wants.items()) or "model" not in query:
            return 400, "INVALID_QUERY_PARAMETER"
        if not query.get("sample_rate", "").isdigit() or int(query.get("utterance_end_ms", "1000")) < 1000:
            return 400, "INVALID_QUERY_PARAMETER"
        return None

    def _told(self, frame: Frame) -> None:
        self._expect_message()
        if frame.opcode is Opcode.BINARY:
            self._hear(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            self._read(bytes(frame.data).decode())

    def _hear(self, pcm: bytes) -> None:
        if not pcm or len(pcm) % _SAMPLE_BYTES or "CloseStream" in self.texts:
            self.violations.append(f"{len(pcm)} bytes of audio after {self.texts[-1:]}")
        self.audio += pcm
        self.arrivals.append((time.monotonic(), len(pcm) // _SAMPLE_BYTES))
        heard = len(self.audio) // _SAMPLE_BYTES
        segment = int(self._server.segment_s * self.rate)
        while not self._server.is_late and heard - self._final >= segment:
            self._finals += 1
            self._results(self._final + segment, is_final=True, speech_final=self._finals % 2 == 0)
        if not self._server.is_late and heard - max(self._final, self._interim) >= segment // 2:
            self._results(heard)
            self._interim = heard

    def _read(self, text: str) -> None:
        try:
            kind = json.loads(text)["type"]
        except (ValueError, KeyError, TypeError):
            kind = ""
        self.texts.append(kind)
        heard = len(self.audio) // _SAMPLE_BYTES
        if kind == "Finalize" and heard > self._final:
            self._results(heard, is_final=True, from_finalize=True)
        elif kind == "CloseStream" and self._server.answers_close:
            if heard > self._final:
                self._results(heard, is_final=True)
            self.say(self.metadata())
            self.close(1000)
        elif kind not in ("KeepAlive", "Finalize", "CloseStream"):
            self.violations.append(f"text {text[:40]}")
            error = {"variant": "SchemaError", "description": "cannot parse", "message": text}
            self.say({"type": "Error", **error})

    # --- what it says

    def say(self, message: dict[str, Any]) -> None:
        """Send one message, unless it is to be silent."""
        if not self._server.is_silent and self._websocket.state is State.OPEN:
            self.said.append(message)
            self._websocket.send_text(json.dumps(message).encode())
            self._flush()

    def say_bytes(self, payload: bytes) -> None:
        """Send a text message of any bytes."""
        if self._websocket.state is State.OPEN:
            self._websocket.send_text(payload)
            self._flush()

    def close(self, code: int, reason: str = "") -> None:
        """Close, with a close frame."""
        if self._websocket.state is State.OPEN:
            self._websocket.send_close(code, reason)
            self._flush()

    def results(
        self, start: int, end: int, text: str, *, is_final: bool, speech_final: bool, from_finalize: bool
    ) -> dict[str, Any]:
        """A ``Results`` message for the samples ``start`` to ``end``."""
        start_s, end_s = start / self.rate, end / self.rate
        confidence = 0.9 if text else 0.0
        words = [
            {"word": word, "start": start_s, "end": end_s, "confidence": 0.9, "punctuated_word": word}
            for word in text.split()
        ]
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": end_s - start_s,
            "start": start_s,
            "is_final": is_final,
            "speech_final": speech_final,
            "channel": {"alternatives": [{"transcript": text, "confidence": confidence, "words": words}]},
            "metadata": {
                "request_id": self._request_id,
                "model_info": {"name": "general-nova-3", "version": "2026-01-01.0", "arch": "nova-3"},
                "model_uuid": "00000000-0000-0000-0000-000000000003",
            },
            "from_finalize": from_finalize,
        }

    def metadata(self) -> dict[str, Any]:
        """The account at the end."""
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": "0" * 64,
            "created": datetime.datetime.now(datetime.UTC).isoformat(),
            "duration": self.audio_s,
            "channels": 1,
        }

    def _results(
        self, end: int, *, is_final: bool = False, speech_final: bool = False, from_finalize: bool = False
    ) -> None:
        pcm = bytes(self.audio[self._final * _SAMPLE_BYTES : end * _SAMPLE_BYTES])
        text = self._server.recognise(pcm)
        self.say(
            self.results(
                self._final, end, text,
                is_final=is_final, speech_final=speech_final, from_finalize=from_finalize,
            )
        )
        if is_final:
            self._final = end

    @property
    def _request_id(self) -> str:
        return f"request-{self._server.sessions.index(self) + 1}"

    def _flush(self) -> None:
        for data in self._websocket.data_to_send():
            if data and not self.transport.is_closing():
                self.transport.write(data)
            elif not data:
                self.transport.close()

    def _expect_message(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(NO_MESSAGE_S, self.close, 1011, "NET-0001")


class FakeDeepgram:
    """See the head of this file."""

    def __init__(self, case: TestCase, *, key: str = "dg-secret", segment_s: float = 1.0) -> None:
        self._case = case
        self.key = key
        self.port = free_port()
        self.segment_s = segment_s
        self.recognise: Callable[[bytes], str] = numbers
        self.sessions: list[Session] = []
        # What the next connections are refused with: a status and a ``dg-error``.
        self.refuse: tuple[int, str] | None = None
        self.is_silent = False  # hears, and says nothing
        self.is_late = False  # no result before Finalize or CloseStream
        self.answers_close = True
        self.is_frozen = False
        self._server: asyncio.Server | None = None
        self._changed: asyncio.Future[None] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"ws://{HOST}:{self.port}{PATH}"

    @property
    def settings(self) -> dict[str, str]:
        """What makes a daemon use it."""
        return {"EXO_BRIDGE_ENABLED": "true", "DEEPGRAM_URL": self.url, "DEEPGRAM_API_KEY": self.key}

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Session(self), HOST, self.port)
        self._case.addCleanup(lambda: as_deferred(self.stop()))

    async def stop(self) -> None:
        """Nobody listens any more, and every connection is dropped. Harmless twice."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop_all()
        await asyncio.sleep(0)

    async def session(self, number: int = 1) -> Session:
        """The ``number``-th connection that was granted, once it is there."""
        await self.until(lambda: len(self.granted) >= number, f"connection {number} to Deepgram")
        return self.granted[number - 1]

    @property
    def granted(self) -> list[Session]:
        """The connections that were not refused, in their order."""
        return [session for session in self.sessions if session.query]

    @property
    def open_sessions(self) -> list[Session]:
        """Those that stand."""
        return [session for session in self.sessions if session.is_open]

    async def until(self, condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Wait for something about the connections. Raises: ``AssertionError`` with ``what``."""
        end = time.monotonic() + deadline_s
        while not condition():
            self._changed = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._changed, max(0.0, end - time.monotonic()))
            except TimeoutError:
                raise AssertionError(f"{what}: not within {deadline_s} s") from None

    def wake(self) -> None:
        """Let ``until`` look again."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    # --- misbehaving

    def freeze(self) -> None:
        """Read nothing any more, from anybody, and say nothing of it."""
        self.is_frozen = True
        for session in self.open_sessions:
            session.transport.pause_reading()

    def thaw(self) -> None:
        """Read again."""
        self.is_frozen = False
        for session in self.sessions:
            if not session.is_lost:
                session.transport.resume_reading()

    def close_all(self, code: int, reason: str = "") -> None:
        """Close every connection with a close frame."""
        for session in self.open_sessions:
            session.close(code, reason)

    def drop_all(self) -> None:
        """Abort every connection: TCP is reset."""
        for session in self.sessions:
            if not session.is_lost:
                session.transport.abort()

    def say_all(self, payload: bytes) -> None:
        """Send a text message of any bytes on every connection."""
        for session in self.open_sessions:
            session.say_bytes(payload)
