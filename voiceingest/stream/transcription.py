"""What one stream's transcription remembers: its audio, its connection's state, its results.

Pure: time is an argument (monotonic seconds), and so is chance. ``wake`` says the next thing to be
done and ``next_deadline`` when to ask again; whoever drives it asks after everything that happened.
Where the audio is, is in ``backlog``; the states are in ``transcribing_states``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from ..wire.deepgram import Results
from .backlog import Backlog
from .pace import Pace
from .transcribing_states import Hearing, Turn, next_hearing
from .turns import Heard, Turns

CONNECT_TIMEOUT_S: Final = 5.0
STALLED_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 3.0

# Deepgram hangs up after 10 s without a message and asks for one every 3 to 5.
KEEP_ALIVE_S: Final = 4.0

# Audio that may go without an answer: there is an interim result about every second.
UNANSWERED_MAX_S: Final = 10.0

RETRY_FIRST_S: Final = 0.25
RETRY_MAX_S: Final = 5.0
_DOUBLINGS_MAX_COUNT: Final = 16

# A gap that grows is told so often: an outage of an hour is not fifty events a second.
GAP_REPORT_S: Final = 5.0

# What the account of a connection may be short of what was sent, its times being rounded.
_ROUNDING_S: Final = 0.1

_NEVER: Final = float("inf")


class Wake(enum.Enum):
    """What is to be done; the value of one that cuts the connection is the reason to count."""

    NOTHING = "nothing"
    CONNECT = "connect"
    SEND = "send"
    KEEP_ALIVE = "keep_alive"
    FINALIZE = "finalize"
    CLOSE_STREAM = "close_stream"
    CUT_CONNECTING = "timeout"
    CUT_STALLED = "stalled"
    CUT_SILENT = "silent"
    CUT_CLOSING = "unclosed"
    END = "end"


CUTS: Final = (Wake.CUT_CONNECTING, Wake.CUT_STALLED, Wake.CUT_SILENT, Wake.CUT_CLOSING)


@dataclass(frozen=True, slots=True)
class Unheard:
    """A stretch of the stream, ``samples`` long, that will not be transcribed, and why."""

    from_ms: int
    to_ms: int
    reason: str
    samples: int


class Transcription:
    """See the head of this file."""

    __slots__ = (
        "_audio_at", "_backlog", "_blocked_at", "_close_until", "_connect_until", "_failures", "_finalized",
        "_finish_until", "_gap_told_at", "_idle_close_s", "_is_accounted", "_pace", "_rate", "_retry_at",
        "_said_at", "_turns", "_unanswered", "state",
    )

    def __init__(self, sample_rate: int, max_buffer_ms: int, idle_close_s: float) -> None:
        self.state = Hearing.IDLE
        self._rate = sample_rate
        self._idle_close_s = idle_close_s
        self._backlog = Backlog(sample_rate * max_buffer_ms // 1000)
        self._pace = Pace(sample_rate)
        self._failures = 0
        self._retry_at = self._connect_until = self._close_until = 0.0
        self._finish_until = self._blocked_at = _NEVER
        # When audio came last, when anything was sent last, when a gap was told last.
        self._audio_at = self._said_at = self._gap_told_at = 0.0
        self._finalized = self._is_accounted = False
        # Samples sent since the connection said anything.
        self._unanswered = 0
        self._turns = Turns()

    # --- audio

    def audio(self, pcm: bytes, now: float) -> None:
        """Audio of the stream has come, in whole samples."""
        if self.state is not Hearing.OVER and pcm:
            was_growing = self._backlog.is_growing
            self._backlog.take(pcm)
            self._audio_at = now
            self._finalized = False
            if not was_growing:
                self._gap_told_at = now

    def piece(self, now: float) -> bytes:
        """What to send now, after ``Wake.SEND``."""
        backlog = self._backlog
        piece = backlog.next(self._pace.room(backlog.unsent, now))
        count = len(piece) // 2
        self._pace.spent(count, backlog.unsent, now)
        self._unanswered += count
        self._said_at = now
        return piece

    def take_gaps(self) -> list[Unheard]:
        """What has become known not to be transcribed, since the last time."""
        lost, self._backlog.lost = self._backlog.lost, []
        ms = self.to_ms
        return [Unheard(ms(gap.first), ms(gap.end), gap.reason, gap.end - gap.first) for gap in lost]

    @property
    def has_gaps(self) -> bool:
        """Whether ``take_gaps`` has something."""
        return bool(self._backlog.lost)

    # --- the connection

    def connecting(self, now: float) -> None:
        """An attempt has begun, after ``Wake.CONNECT``."""
        self.state = next_hearing(self.state, Turn.CONNECT)
        self._connect_until = now + CONNECT_TIMEOUT_S

    def opened(self, now: float) -> None:
        """The connection stands: what is kept is sent to it first."""
        self.state = next_hearing(self.state, Turn.OPENED)
        self._backlog.attach()
        self._pace.begin(now)
        self._said_at = now
        self._blocked_at = _NEVER
        self._unanswered = 0
        self._finalized = self._is_accounted = False

    def blocked(self, is_blocked: bool, now: float) -> None:
        """The connection has stopped, or begun again, to take bytes."""
        self._blocked_at = now if is_blocked else _NEVER

    def said(self, now: float) -> None:
        """A text was sent: ``KeepAlive`` or ``Finalize``."""
        self._said_at = now

    def finalizing(self, now: float) -> None:
        """``Finalize`` was sent; once for each silence."""
        self._finalized = True
        self.said(now)

    def closing(self, now: float) -> None:
        """``CloseStream`` was sent."""
        self.state = next_hearing(self.state, Turn.CLOSE)
        self._close_until = now + CLOSE_TIMEOUT_S

    def ended(self, now: float, jitter: float, *, is_normal: bool = False) -> None:
        """The connection is gone, or has not come about, in a way that heals.

        ``jitter`` is 0 to 1; ``is_normal``: it was closed with 1000.
        """
        backlog = self._backlog
        stood = self.state is not Hearing.CONNECTING
        if self.state is Hearing.CLOSING and (self._is_accounted or is_normal):
            if not self._is_accounted:
                backlog.cover(backlog.sent)
            self.state = next_hearing(self.state, Turn.CLOSED)
        else:
            self.state = next_hearing(self.state, Turn.LOST)
            pause_s = min(RETRY_FIRST_S * 2.0 ** min(self._failures, _DOUBLINGS_MAX_COUNT), RETRY_MAX_S)
            self._failures += 1
            self._retry_at = now + pause_s * (1 + jitter) / 2
        self._turns.lost()
        backlog.detach()
        if stood:
            backlog.report()

    def refused(self) -> None:
        """It is of no use to try again: what is pending will not be heard, nor what still comes."""
        self.state = next_hearing(self.state, Turn.REFUSED)
        self._backlog.give_up("refused")

    def finish(self, now: float) -> None:
        """No more audio will come: send what is left, hear what is still said, for so long at most."""
        self._finish_until = min(self._finish_until, now + CLOSE_TIMEOUT_S)

    def end(self) -> None:
        """It is over: whatever is pending will not be heard."""
        if self.state is not Hearing.OVER:
            self.state = next_hearing(self.state, Turn.END)
            self._backlog.give_up("ended")

    # --- what the connection says

    def answered(self) -> None:
        """Deepgram has said something."""
        self._unanswered = 0

    def results(self, results: Results) -> Heard | None:
        """The words of it, or ``None`` where it says nothing new."""
        self._failures = 0
        backlog = self._backlog
        begin = backlog.place(round(results.start_s * self._rate))
        end = round((results.start_s + results.duration_s) * self._rate)
        end = backlog.place(end, is_end=True)
        # What ends before the last final has been said already.
        is_new = end > backlog.settled
        begin, end = max(begin, backlog.settled), max(end, backlog.settled)
        if results.is_final:
            backlog.cover(end)
        return self._turns.heard(results, results.text if is_new else "", begin, end)

    def utterance_ended(self) -> Heard | None:
        """By the words, the speaker has finished; ``None`` where that was known already."""
        return self._turns.utterance_ended(self._backlog.settled)

    def accounted(self, duration_s: float) -> None:
        """The account: Deepgram has said everything it has to say of ``duration_s`` of audio."""
        if self.state is Hearing.CLOSING:
            self._is_accounted = True
            end = round((duration_s + _ROUNDING_S) * self._rate)
            self._backlog.cover(self._backlog.place(end, is_end=True))

    def to_ms(self, position: int) -> int:
        """Samples of the stream as milliseconds of it."""
        return position * 1000 // self._rate

    # --- time

    def wake(self, now: float) -> Wake:
        """The next thing to be done; ask again when it is done."""
        state = self.state
        if state is Hearing.OVER:
            return Wake.NOTHING
        if now >= self._finish_until:
            return Wake.END
        is_growing = self._backlog.is_growing and state is not Hearing.REFUSED
        if is_growing and now >= self._gap_told_at + GAP_REPORT_S:
            self._backlog.report()
        if state is Hearing.OPEN:
            return self._wake_open(now)
        if state is Hearing.CONNECTING:
            return Wake.CUT_CONNECTING if now >= self._connect_until else Wake.NOTHING
        if state is Hearing.CLOSING:
            return Wake.CUT_CLOSING if now >= self._close_until else Wake.NOTHING
        if self._backlog.unsent and state is not Hearing.REFUSED:
            return Wake.CONNECT if state is Hearing.IDLE or now >= self._retry_at else Wake.NOTHING
        return Wake.END if self._finish_until < _NEVER else Wake.NOTHING

    def _wake_open(self, now: float) -> Wake:
        if self._blocked_at < _NEVER:
            return Wake.CUT_STALLED if now >= self._blocked_at + STALLED_S else Wake.NOTHING
        if self._unanswered >= UNANSWERED_MAX_S * self._rate:
            return Wake.CUT_SILENT
        backlog = self._backlog
        if backlog.unsent:
            return Wake.SEND if now >= self._pace.next_at else Wake.NOTHING
        if self._finish_until < _NEVER or now >= self._audio_at + self._idle_close_s:
            return Wake.CLOSE_STREAM
        if now < self._said_at + KEEP_ALIVE_S:
            return Wake.NOTHING
        return Wake.KEEP_ALIVE if self._finalized or backlog.settled == backlog.sent else Wake.FINALIZE

    def next_deadline(self) -> float:
        """When ``wake`` has something to say at the latest, if nothing happens before."""
        times = [self._finish_until]
        backlog, state = self._backlog, self.state
        if backlog.is_growing and state not in (Hearing.REFUSED, Hearing.OVER):
            times.append(self._gap_told_at + GAP_REPORT_S)
        if state is Hearing.CONNECTING:
            times.append(self._connect_until)
        elif state is Hearing.CLOSING:
            times.append(self._close_until)
        elif state is Hearing.WAITING and backlog.unsent:
            times.append(self._retry_at)
        elif state is Hearing.OPEN and self._blocked_at < _NEVER:
            times.append(self._blocked_at + STALLED_S)
        elif state is Hearing.OPEN and backlog.unsent:
            times.append(self._pace.next_at)
        elif state is Hearing.OPEN:
            times += [self._audio_at + self._idle_close_s, self._said_at + KEEP_ALIVE_S]
        return _NEVER if state is Hearing.OVER else min(times)
