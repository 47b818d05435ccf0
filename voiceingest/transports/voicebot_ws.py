"""``/voicebot/ws``: calls of Exotel, JSON text with audio in base64; Exotel is the client.

The caller's audio is a stream like any other and goes to the bus; beside it an agent hears it and
answers. What Exotel says that cannot be understood is counted and skipped: a call goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from ..audio import AudioFormat
from ..call_interfaces import CallFacts, IAgent, Transcript
from ..calls.call import Call, Line
from ..calls.introduction import introduce
from ..calls.switchboard import Switchboard
from ..driver import StreamDriver
from ..errors import AlreadyStarted, BadField, EmptyFrame, OddFrame, PeerError, VoiceIngestError
from ..interfaces import Claims, Handshake
from ..stream import TokenBucket
from ..stream.early import EarlyMedia
from ..stream.sequence import SequenceWatch
from ..websocket import HardenedProtocol
from ..wire import exotel
from ..wire.exotel_query import read_query
from ..wire.g711 import ulaw_to_pcm16

NAME: Final = "voicebot"

# A peer whose every message is broken is a line a second in the log.
_LINES_PER_S, _LINES_BURST = 1.0, 5.0

# The fastest line there is, in base64, and half as much again for what is around it.
_FASTEST_BYTES_PER_S: Final = max(exotel.EXOTEL_RATES) * 2 * 4 // 3 * 3 // 2


class VoicebotSession:
    """One call: the WebSocket, the stream's driver, and the agent that answers."""

    transport_name = NAME
    _log = Logger()

    def __init__(
        self,
        socket: HardenedProtocol,
        claims: Claims,
        handshake: Handshake,
        board: Switchboard,
        spend: Callable[[str], None],
    ) -> None:
        self._socket = socket
        self.request_id = socket.request_id
        self._claims = claims
        self._query = read_query(handshake.query)
        self._spend = spend
        self._board = board
        self._metrics = board.house.metrics
        self._now = board.house.clock.seconds
        self.session = board.new_session()
        self._agent: IAgent = board.new_agent()
        self._driver = StreamDriver(self, claims, board.house_for(self._agent, self))
        self._early = EarlyMedia()
        self._sequence = SequenceWatch()
        rate = _bytes_per_s(board.house.rules.realtime_factor)
        self._bytes = TokenBucket(rate, rate, self._now())
        self._lines = TokenBucket(_LINES_PER_S, _LINES_BURST, self._now())
        self._call: Call | None = None
        self._line = Line(8000)
        self._parts = exotel.parts("")
        self._sent_count = self._sent_chunks = self._sent_bytes = 0
        self.refused = self._driver.refused
        self.pause = socket.pause

    # --- from the connection

    def opened(self) -> None:
        """The handshake is done."""
        self.session.buffered = lambda: len(self._early)
        self._board.sessions.add(self.session)
        self._driver.opened()

    def binary(self, payload: bytes) -> None:
        """Exotel sends text only."""
        self._misunderstood(BadField("a binary message; audio comes as media"))

    def text(self, payload: bytes) -> None:
        """One message of Exotel."""
        self.session.touch()
        debt_s = self._bytes.take(len(payload), self._now())
        if debt_s:
            self.pause(debt_s)
        try:
            message = exotel.decode(payload)
        except PeerError as error:
            self._misunderstood(error)
            return
        self._metrics.call_messages[type(message).__name__.lower()] += 1
        if not isinstance(message, exotel.Connected):
            self._note_sequence(message.sequence)
        try:
            self._act(message)
        except PeerError as error:
            self._driver.refuse(error)

    def _note_sequence(self, number: int | None) -> None:
        watch, before = self._sequence, self._sequence.strange
        self._metrics.call_messages_missing += watch.note(number)
        if watch.strange != before:
            self._metrics.call_mismatches["sequence"] += 1
        self.session.sequence_number = watch.last

    def lost(self, code: int) -> None:
        """The connection is gone."""
        self._end("disconnected")
        self._board.sessions.discard(self.session)
        self._driver.lost(code)

    def _misunderstood(self, error: PeerError) -> None:
        self._metrics.call_messages["bad"] += 1
        self._driver.refuse(error)

    # --- what Exotel says

    def _act(self, message: exotel.Message) -> None:
        if self._call is not None and self._call.is_over:
            # What was under way when somebody hung up is no mistake of Exotel's.
            self._metrics.call_media_dropped["late"] += isinstance(message, exotel.Media)
            return
        if isinstance(message, exotel.Media):
            self._media(message.payload)
        elif isinstance(message, exotel.Mark):
            if self._call is not None:
                self._call.echoed(message.name)
        elif isinstance(message, exotel.Dtmf):
            self._dtmf(message)
        elif isinstance(message, exotel.Start):
            self._start(message)
        elif isinstance(message, exotel.Stop):
            self._end("stopped")
            self._driver.stop()

    def _start(self, start: exotel.Start) -> None:
        if self._call is not None:
            raise AlreadyStarted
        desk = self._board.desk
        who = introduce(start, self._query, self._claims, desk.tenant_id, self.request_id)
        for what in who.mismatches:
            self._metrics.call_mismatches[what] += 1
            self._note("a call says two things", "call_mismatch", what=what)
        self._line = Line(who.sample_rate, start.encoding)
        self._parts = exotel.parts(who.stream_sid)
        session = self.session
        session.call_id, session.stream_sid, session.tenant_id = who.call_id, who.stream_sid, who.tenant_id
        session.sample_rate = who.sample_rate
        audio = AudioFormat(self._agent.sample_rate or who.sample_rate)
        numbers = (start.caller, start.callee)
        facts = CallFacts(who.call_id, who.stream_sid, who.tenant_id, audio, *numbers, start.parameters)
        self._call = self._board.answer(facts, self._line, self, self._agent)
        # Says `started` to us where the stream may begin; else the connection is closing.
        self._driver.start(who.tenant_id, who.call_id, AudioFormat(who.sample_rate))

    def _began(self) -> None:
        self._spend(self._query.ticket)
        self.session.is_active = True
        assert self._call is not None
        self.session.buffered = self._call.chunks_waiting
        self._call.begin()
        held = self._early.take(self._now())
        self._metrics.call_media_dropped["early"] += self._early.dropped
        for payload in held:
            self._audio(payload)

    def _media(self, payload: bytes) -> None:
        if self._call is not None:
            self._audio(payload)
        else:
            self._early.hold(payload, self._now())

    def _audio(self, payload: bytes) -> None:
        pcm = ulaw_to_pcm16(payload) if self._line.encoding == "mulaw" else payload
        most = self._board.desk.max_frame_bytes & ~1
        if not pcm or len(pcm) & 1:
            self._metrics.call_media_dropped["odd" if pcm else "empty"] += 1
            raise OddFrame if pcm else EmptyFrame
        if len(pcm) <= most:
            self._driver.frame(pcm)
        else:
            for at in range(0, len(pcm), most):
                self._driver.frame(pcm[at : at + most])
        if self._call is not None:
            self._call.heard(pcm)

    def _dtmf(self, message: exotel.Dtmf) -> None:
        if self._call is None:
            return
        self._driver.publish_event("dtmf", {"digit": message.digit, "duration_ms": message.duration_ms})
        self._call.dtmf(message.digit)

    def _end(self, reason: str) -> None:
        self.session.is_active = False
        if self._call is not None:
            self._call.end(reason)

    # --- ILeg: what the call sends

    def send_audio(self, payload: bytes) -> None:
        """Send one chunk."""
        self._sent_count += 1
        self._sent_chunks += 1
        timestamp_ms = self._sent_bytes * 1000 // self._line.bytes_per_s
        self._sent_bytes += len(payload)
        self._socket.send_text(
            exotel.encode_media(self._parts, payload, self._sent_count, self._sent_chunks, timestamp_ms)
        )

    def send_mark(self, label: str) -> None:
        """Ask to be told when all that was sent has been played."""
        self._sent_count += 1
        self._socket.send_text(exotel.encode_mark(self._parts, label, self._sent_count))

    def send_clear(self) -> None:
        """Forget what was sent and not played yet."""
        self._sent_count += 1
        self._socket.send_text(exotel.encode_clear(self._parts, self._sent_count))

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        """Put an event of the call on the events channel."""
        self._driver.publish_event(event, fields)

    def hang_up(self) -> None:
        """Flush and close: that is how a bot hangs up (``protocols.md`` section 1.2)."""
        self._end("hung_up")
        self._driver.stop()

    # --- IListener: what a transcriber understands

    def transcript(self, transcript: Transcript) -> None:
        """The caller's words."""
        if self._call is not None:
            self._call.transcript(transcript)

    def speech_started(self) -> None:
        """The caller speaks."""
        if self._call is not None:
            self._call.speech_started()

    # --- IFarEnd: what the stream says; Exotel has no words for most of it

    def say(self, event: str, **fields: Any) -> None:
        """Take note of the begin; the rest is on the events channel."""
        if event == "started":
            self._began()

    def say_error(self, error: VoiceIngestError) -> None:
        """Nothing of a dialect that has no errors; a line for whoever looks for the cause."""
        if error.closes or self._lines.spare(1, self._now()):
            self._note("a call has met an error", "call_error", code=error.code)

    def ack(self, seq: int) -> None:
        """Exotel does not wait for any."""

    def close(self, code: int, reason: str) -> None:
        """End the call."""
        self._end(reason or "stopped")
        self._socket.close(code, reason)

    def _note(self, text: str, event: str, **fields: Any) -> None:
        self._log.info(text, event=event, transport=NAME, request_id=self.request_id, **fields)


def _bytes_per_s(realtime_factor: float) -> float:
    """How much text a second: of audio alone the stream would say it, of all else nobody does.

    One message of 160 KiB may take 8 ms to read: 400 a second, as frames may come, would be a core.
    """
    return realtime_factor * _FASTEST_BYTES_PER_S


class VoicebotTransport:
    """What the site needs to know of this dialect."""

    name = NAME

    def __init__(self, board: Switchboard, path: str, spend: Callable[[str], None]) -> None:
        self.path = path
        self._board = board
        self._spend = spend

    def refuse_new(self) -> bool:
        """Whether the daemon takes no one new."""
        return self._board.house.registry.draining

    def session(self, socket: HardenedProtocol, claims: Claims, handshake: Handshake) -> VoicebotSession:
        """The session of an accepted connection."""
        return VoicebotSession(socket, claims, handshake, self._board, self._spend)
