"""The way of a frame through the whole daemon, in memory: from the read of a socket to its ack.

The real connection, session, stream, delivery and bus; only the two sockets and the clock are not.
What a frame costs here is exact: the same on every machine, however busy, and on every Python that is
supported. ``tests/test_hot_line.py`` holds it to its ceilings, ``benchmarks/hot_line.py`` times it.
"""

from __future__ import annotations

import base64
import gc
import json
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, cast

from pydantic import SecretStr
from twisted.internet.testing import MemoryReactorClock, StringTransport

from voiceingest.agents.silence import Silence
from voiceingest.auth.resume import ResumeTokens
from voiceingest.calls.call import CallRules
from voiceingest.calls.switchboard import Desk, Switchboard
from voiceingest.config import Settings
from voiceingest.deadlines import Deadlines
from voiceingest.house import House
from voiceingest.interfaces import Claims, Handshake
from voiceingest.limits import COALESCE_S
from voiceingest.metrics import Metrics
from voiceingest.publishers.delivery import Delivery
from voiceingest.publishers.redis_pubsub import RedisPubSub
from voiceingest.registry import Registry
from voiceingest.stream import StreamRules
from voiceingest.transports.ingest_ws import IngestSession
from voiceingest.transports.voicebot_ws import VoicebotSession
from voiceingest.websocket import HardenedFactory, HardenedProtocol, ISocketSession, SocketRules
from voiceingest.websocket.frames import FIN_BINARY, FIN_TEXT, client_frame

WALL: Final = 1_800_000_000.0

# No ack falls into what is counted; a stream cannot be longer (limits.SEQ_MAX_COUNT).
NO_ACKS: Final = 2**40

# Faster than any caller, so that nobody is paced.
_FAST: Final = 1e6

_MASK: Final = b"\x5a\xc3\x0f\x99"


def _audio(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


class Socket(StringTransport):
    """The transport of the connection and that of the bus: keeps what is written, at one call each."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written.append(data)

    def abortConnection(self) -> None:
        """Nobody may get here."""
        raise AssertionError("the connection was cut")

    def setTcpNoDelay(self, enabled: bool) -> None:
        """A TCP transport has it."""

    def close(self) -> None:
        """It holds nothing."""


class HotLine:
    """A caller whose stream is live, over a Redis that answers when it is told to."""

    def __init__(self, *, ack_interval: int = NO_ACKS, dialect: str = "ingest") -> None:
        self._dialect = dialect
        self._said = 1  # what Exotel has numbered so far
        self.reactor: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
        # Room for all that is read before the first flush: nothing is sent early.
        settings = Settings(redis_url=SecretStr("unix:///redis.sock"), buffer_duration_ms=30000)
        self.metrics = Metrics()
        bus: Any = RedisPubSub(settings, self.reactor, self.metrics)
        self.delivery = Delivery(bus, settings, self.reactor, lambda: WALL, self.metrics)
        self.redis = Socket()
        self._bring_up()
        rules = StreamRules(ack_interval=ack_interval, realtime_factor=_FAST)
        deadlines = Deadlines(self.reactor)
        self.house = House(
            rules, self.delivery, Registry(self.reactor), cast("Any", None), deadlines, self.reactor,
            lambda: WALL, self.metrics, ResumeTokens(None, 0.0, lambda: WALL),
        )  # fmt: skip
        self.sockets = HardenedFactory(
            SocketRules(realtime_factor=_FAST), self.reactor, deadlines, self.metrics
        )
        self.caller = Socket()
        self.protocol = self.connect(self.caller)
        self.start(self.protocol)
        self.flush()
        self.confirm(1)  # the event of the start
        assert self.protocol.state == self.protocol.STATE_OPEN

    def connect(self, caller: Socket) -> HardenedProtocol:
        """A connection that stands, and has said nothing yet."""
        make = self._caller if self._dialect == "ingest" else self._call
        protocol = self.sockets.build("192.0.2.1", "id-1", None, make)
        protocol.makeConnection(caller)
        protocol.accept("dGhlIHNhbXBsZSBub25jZQ==")
        return protocol

    def start(self, protocol: HardenedProtocol, name: str = "call-1") -> None:
        """Begin the stream of a connection."""
        for event in self._opening(self._dialect, name):
            protocol.dataReceived(client_frame(FIN_TEXT, json.dumps(event).encode(), _MASK))

    # --- the stages

    def read(self, *reads: bytes) -> None:
        """The connection reads."""
        take = self.protocol.dataReceived
        for data in reads:
            take(data)

    def flush(self) -> None:
        """The timer of the delivery is due: all that waits is written."""
        self.reactor.advance(COALESCE_S)

    def confirm(self, count: int) -> None:
        """Redis answers so many commands, in one read."""
        self._link.dataReceived(b":1\r\n" * count)

    # --- what is read

    def reads(self, count: int, size: int) -> list[bytes]:
        """So many frames of so many bytes of audio, each as it is read from the socket."""
        if self._dialect == "ingest":
            return [client_frame(FIN_BINARY, _audio(size), _MASK)] * count
        self._said += count
        return [self._media(number, size) for number in range(self._said - count + 1, self._said + 1)]

    @staticmethod
    def _media(number: int, size: int) -> bytes:
        payload = base64.b64encode(_audio(size)).decode()
        media = {"chunk": str(number - 1), "timestamp": "100", "payload": payload}
        said = {"event": "media", "sequence_number": str(number), "stream_sid": "sid-1", "media": media}
        return client_frame(FIN_TEXT, json.dumps(said).encode(), _MASK)

    # --- how it comes about

    def _bring_up(self) -> None:
        self.delivery.start()
        _, factory, _, _ = self.reactor.unixClients.pop()
        self._link = factory.buildProtocol(None)
        self._link.makeConnection(self.redis)
        self._link.dataReceived(b"+PONG\r\n")
        # It has answered something already: no probe goes ahead.
        self.delivery.bus_confirmed(0)

    def _caller(self, socket: HardenedProtocol) -> ISocketSession:
        return IngestSession(socket, Claims("s", "acme", None, WALL + 3600), self.house)

    def _call(self, socket: HardenedProtocol) -> ISocketSession:
        desk = Desk(
            CallRules(), "silence", Silence, cast("Any", None), self.delivery, None, False, "acme", 65536
        )
        claims = Claims("exotel", None, None, float("inf"), any_tenant=True)
        board = Switchboard(self.house, desk)
        return VoicebotSession(socket, claims, Handshake("192.0.2.1"), board, lambda ticket: None)

    @staticmethod
    def _opening(dialect: str, name: str) -> list[dict[str, Any]]:
        if dialect == "ingest":
            names = {"interaction_id": name, "tenant_id": "acme"}
            return [{"event": "start", **names, "sample_rate": 24000, "encoding": "pcm16"}]
        form = {"encoding": "audio/x-raw", "sample_rate": "8000", "bit_rate": "16"}
        start = {"stream_sid": "sid-1", "call_sid": name, "account_sid": "acme", "media_format": form}
        return [
            {"event": "connected"},
            {"event": "start", "sequence_number": "1", "stream_sid": "sid-1", "start": start},
        ]


Names = Counter[str]


def _ours(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_globals.get("__name__", "").startswith("voiceingest.")


def calls(act: Callable[..., object], *arguments: Any) -> Names:
    """The calls of Python and of C functions that the daemon makes in ``act``, by name.

    Those that a library makes on are its own: they change with its version, and not by our doing.
    """
    made: Names = Counter()

    def note(caller: FrameType, event: str, called: Any) -> None:
        if event == "call" and (_ours(caller) or _ours(caller.f_back)):
            made[f"{caller.f_globals.get('__name__')}.{caller.f_code.co_qualname}"] += 1
        elif event == "c_call" and _ours(caller):
            made[called.__qualname__] += 1

    _undisturbed(sys.setprofile, sys.getprofile(), note, act, arguments)
    return made


def lines(act: Callable[..., object], *arguments: Any) -> int:
    """The lines of the daemon's own source that ``act`` runs."""
    count = 0

    def line(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return line

    def call(called: FrameType, _event: str, _argument: Any) -> Any:
        return line if _ours(called) else None

    _undisturbed(sys.settrace, sys.gettrace(), call, act, arguments)
    return count


def _undisturbed(
    watch: Callable[[Any], object], before: Any, watcher: Any, act: Callable[..., object], arguments: Any
) -> None:
    """Run ``act`` watched; whoever watched before (coverage) watches again afterwards."""
    gc.collect()
    gc.disable()
    watch(watcher)
    try:
        act(*arguments)
    finally:
        watch(None)
        gc.enable()
        watch(before)


def memory(act: Callable[..., object], *arguments: Any) -> tuple[int, int]:
    """The bytes that ``act`` has at most beyond what was there, and those it leaves behind."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        act(*arguments)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    return peak - before, after - before
