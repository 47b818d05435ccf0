"""One WebSocket connection, hardened.

What stock Autobahn leaves open (``docs/explanation/security.md`` has the list with figures) is
shut here: sizes, rates of frames of any kind, peers that do not read, peers that do not answer a
close, pings, close codes that ``sendClose`` refuses, exceptions that reach the peer.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from ..deadlines import Deadlines
from ..errors import FrameTooBig, InternalError, PeerGone, PeerTooSlow, RateLimited, VoiceIngestError
from ..interfaces import IClock
from ..limits import CLOSE_ABORT_S, CLOSING_READ_MAX_BYTES, FRAMES_PER_REALTIME_PER_S, RATE_DEBT_MAX_S
from ..metrics import Metrics
from ..stream import TokenBucket
from .frames import FIN_BINARY, FIN_TEXT, server_frame, take_frames
from .heartbeat import Beat, Heartbeat
from .quiet import QuietProtocol
from .session import GONE, ISocketSession, SocketRules

_NEVER = float("inf")


@implementer(IPushProducer)
class HardenedProtocol(QuietProtocol):
    """A connection. What is declared without a value is set by the factory before it is connected."""

    session: ISocketSession
    address: str
    request_id: str
    subprotocol: str | None = None
    current_frame: Any  # Autobahn's, of the frame it is in the middle of

    _log = Logger()

    def __init__(self, rules: SocketRules, clock: IClock, deadlines: Deadlines, metrics: Metrics) -> None:
        super().__init__()
        self._rules = rules
        self._now = clock.seconds
        self._deadlines = deadlines
        self._metrics = metrics
        now = clock.seconds()
        self._heart = Heartbeat(rules.ping_interval_s, rules.ping_timeout_s, now)
        frames_per_s = rules.realtime_factor * FRAMES_PER_REALTIME_PER_S
        self._frames = TokenBucket(frames_per_s, frames_per_s, now)
        self._tail = b""
        self._resume_at: float | None = None  # paced until then
        self._blocked_at: float | None = None  # the peer has not read since then
        self._abort_at: float | None = None  # the closing has begun: the connection is cut then
        self._close_code = 1006
        self._closing_bytes = 0
        self._is_deaf = False  # a flood: nothing more is looked at

    # --- reading

    def dataReceived(self, data: bytes) -> None:
        """Take whole audio frames at once; leave the rest to Autobahn. Twisted's hook."""
        if self._is_deaf:
            return
        self._heart.heard_at = self._now()
        if self._abort_at is not None:
            self._closing_bytes += len(data)
            if self._closing_bytes > CLOSING_READ_MAX_BYTES:
                self._go_deaf()
                return
        data, self._tail = self._tail + data, b""
        if (
            self.state == self.STATE_OPEN
            and not self.data
            and self.current_frame is None
            and not self.inside_message
        ):
            used, partial = take_frames(data, self._rules.max_message_bytes, self._take_frame)
            if partial and self.state == self.STATE_OPEN:
                self._tail = data[used:]
                return
            data = data[used:]
        if data:
            self._dataReceived(data)  # what the adapter's dataReceived does after a log line

    def _take_frame(self, payload: bytes, is_binary: bool) -> bool:
        if debt := self._frames.take(1, self._heart.heard_at):
            self._owe(debt)
        self.onMessage(payload, is_binary)
        return bool(self.state == self.STATE_OPEN)

    def _owe(self, debt: float) -> None:
        if debt > RATE_DEBT_MAX_S:
            self.refuse(RateLimited())
            self._go_deaf()
        else:
            self.pause(debt)

    def _go_deaf(self) -> None:
        # The abort that follows our close ends it; until then it costs nothing but its socket.
        self._is_deaf = True
        self.transport.pauseProducing()

    def processData(self) -> bool:
        """One step of Autobahn's state machine; one read may hold 10000 frames of a flood."""
        if self._is_deaf:
            self.data = b""
            return False
        return bool(super().processData())

    def onFrameBegin(self) -> None:
        """Count what the straight line did not take: fragments, pings, text. Autobahn's hook."""
        if debt := self._frames.take(1, self._heart.heard_at):
            self._owe(debt)
        super().onFrameBegin()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """A whole message. Autobahn's hook, never a coroutine."""
        if self.state != self.STATE_OPEN:
            self._metrics.frames_fenced += isBinary
            return
        try:
            if isBinary:
                self.session.binary(payload)
            else:
                self.session.text(payload)
        except Exception:
            self._fail_session()

    def _fail_session(self) -> None:
        # Last resort: an exception that escapes from here would drop TCP without a close frame.
        self._blame_session()
        self.refuse(InternalError())

    def _blame_session(self) -> None:
        self._log.failure("session failed", event="session_failed", request_id=self.request_id)

    def _max_message_size_exceeded(self, msg_size: int, max_msg_size: int, reason: str) -> None:
        self.refuse(FrameTooBig())

    # --- writing

    def send_text(self, payload: bytes) -> None:
        """Send one text message; nothing is sent once the connection is closing."""
        if self.state == self.STATE_OPEN:
            self.transport.write(server_frame(FIN_TEXT, payload))

    def send_binary(self, payload: bytes) -> None:
        """Send one binary message; nothing is sent once the connection is closing."""
        if self.state == self.STATE_OPEN:
            self.transport.write(server_frame(FIN_BINARY, payload))

    def pauseProducing(self) -> None:
        """The peer does not read: stop reading from it and give it a deadline. Twisted's hook."""
        self._blocked_at = self._now()
        self._stop_reading()
        self._wake_by(self._blocked_at + self._rules.write_timeout_s)

    def resumeProducing(self) -> None:
        """The peer reads again. Twisted's hook."""
        self._blocked_at = None
        self._read_again()

    def stopProducing(self) -> None:
        """The transport is gone: let go of each other, TLS would not. Twisted's hook."""
        self.transport.unregisterProducer()

    def pause(self, seconds: float) -> None:
        """Pace the peer: do not read from it for ``seconds``."""
        if self._resume_at is None:
            self._metrics.streams_paced += 1
            self._resume_at = 0.0
        self._resume_at = max(self._resume_at, self._now() + seconds)
        self._stop_reading()
        self._wake_by(self._resume_at)

    def _stop_reading(self) -> None:
        if self.state == self.STATE_OPEN:
            self.transport.pauseProducing()

    def _read_again(self) -> None:
        if self._blocked_at is None and self._resume_at is None:
            self.transport.resumeProducing()

    # --- closing

    def refuse(self, error: VoiceIngestError) -> None:
        """Tell the session and close with the error's code. Harmless when closing already."""
        if self.state != self.STATE_OPEN:
            return
        try:
            self.session.refused(error)
        except Exception:
            self._blame_session()
        self.close(error.close_code, error.code)

    def close(self, code: int, reason: str) -> None:
        """Close with ``code``; Autobahn's own ``sendClose`` refuses 1001-1015."""
        if self.state != self.STATE_OPEN:
            return
        self._close_code = code
        self.sendCloseFrame(code=code, reasonUtf8=reason.encode()[:123], isReply=False)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Begin the closing: ours, Autobahn's own and the answer to the peer's pass through here."""
        super().sendCloseFrame(code, reasonUtf8, isReply)
        if code is not None and self._close_code == 1006:
            self._close_code = code
        # The peer's answer can only be seen by reading; the abort bounds how long that may take.
        self._resume_at = self._blocked_at = None
        self._read_again()
        self._abort_by(CLOSE_ABORT_S)

    def _closeConnection(self, abort: bool = False) -> None:
        # Both close frames have been seen: end TCP in order, so that no client reads a reset.
        self._abort_by(CLOSE_ABORT_S)
        if abort and not self.wasClean:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    def _abort_by(self, seconds: float) -> None:
        if self._abort_at is None:
            self._abort_at = self._now() + seconds
            self._wake_by(self._abort_at)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The connection is gone. Autobahn's hook."""
        self._deadlines.forget(self._due)
        if self._close_code == 1006 and wasClean and code is not None:
            self._close_code = code
        self._metrics.close_codes[str(self._close_code)] += 1
        try:
            self.session.lost(self._close_code)
        except Exception:
            self._blame_session()
        self.session = GONE

    # --- time

    def onOpen(self) -> None:
        """The handshake is done. Autobahn's hook."""
        # The HTTP channel has left itself registered; see docs/explanation/security.md, back-pressure.
        self.transport.registerProducer(self, True)
        self._wake_by(self._heart.look(self._now())[1])
        try:
            self.session.opened()
        except Exception:
            self._fail_session()

    def accept(self, key: str) -> None:
        """Answer the request with this ``Sec-WebSocket-Key``, which the site has let in."""
        self.shake_hands(key, self.subprotocol, f"X-Request-Id: {self.request_id}\r\n")

    def _wake_by(self, when: float) -> None:
        if when != _NEVER:
            self._deadlines.wake(self._due, when)

    def _due(self, now: float) -> float:
        if self._abort_at is not None:
            if now < self._abort_at:
                return self._abort_at
            self.wasClean = False
            self.transport.abortConnection()
            return _NEVER
        blocked_until = _NEVER if self._blocked_at is None else self._blocked_at + self._rules.write_timeout_s
        if now >= blocked_until:
            self._cut(PeerTooSlow())
            return _NEVER
        if self._resume_at is not None and now >= self._resume_at:
            self._resume_at = None
            self._heart.heard_at = now
            self._read_again()
        paced_until = _NEVER if self._resume_at is None else self._resume_at
        return min(self._heartbeat(now), blocked_until, paced_until)

    def _heartbeat(self, now: float) -> float:
        """Ping a silent peer, cut a dead one; returns when to look again."""
        if self.state != self.STATE_OPEN:
            return _NEVER
        if self._resume_at is not None or self._blocked_at is not None:
            # It is we who do not read: its silence says nothing.
            return now + self._rules.ping_interval_s if self._rules.ping_interval_s else _NEVER
        beat, again = self._heart.look(now)
        if beat is Beat.PING:
            self.sendPing()
        elif beat is Beat.GONE:
            self._cut(PeerGone())
        return again

    def _cut(self, error: VoiceIngestError) -> None:
        # Nobody is there to read a close frame.
        self._close_code = error.close_code
        self._metrics.errors[error.code, self.session.transport_name] += 1
        self._log.info("connection cut", event="connection_cut", code=error.code, request_id=self.request_id)
        self.wasClean = False
        self.transport.abortConnection()
