"""A call from ``connected`` to ``stop``: speaks in step with the clock, listens, echoes marks.

Knows no connection: it is given what comes, and a way to send. Per message there are plain calls only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from ..pacing import Pace
from .echo import Echo
from .incoming import Incoming
from .outgoing import Leg, Outgoing
from .player import Player
from .report import CallReport
from .voice import Source, Voice
from .wheel import Wheel

# How long a caller who wants to interrupt waits for something to interrupt.
BARGE_WAIT_S: Final = 30.0
DIGIT_MS: Final = 200

# Float seconds near a boundary of frames.
_ROUNDING_S: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Script:
    """What every caller of a run does. ``decode`` makes PCM16 of what is on the wire.

    ``linger_s`` is how long the line stays open and silent after the speech, ``patience_s`` how much
    longer where an echo is not whole yet, ``barge_in_s`` how long the bot is listened to before it is
    interrupted, ``digits`` are keys with their seconds.
    """

    source: Source
    frame_bytes: int
    frame_s: float
    linger_s: float
    decode: Callable[[bytes], bytes]
    patience_s: float = 0.0
    barge_in_s: float | None = None
    digits: tuple[tuple[float, str], ...] = ()
    record: bool = False


class ILine(Protocol):
    """What carries a call."""

    def insist(self, payload: bytes) -> None:
        """Send a message, read or not."""

    def send_text(self, payload: bytes) -> bool:
        """Send a message; false where the bot does not read."""

    def say_goodbye(self) -> None:
        """Close in order."""


class Conversation:
    """One call. ``spoke`` is told every piece of audio that was due."""

    def __init__(
        self,
        leg: Leg,
        script: Script,
        wheel: Wheel,
        report: CallReport,
        line: ILine,
        spoke: Callable[[bytes], None] | None = None,
    ) -> None:
        self._leg = leg
        self._script = script
        self._wheel = wheel
        self._report = report
        self._line = line
        self._spoke = spoke
        self._outgoing = Outgoing(leg)
        self._incoming = Incoming(leg)
        self._voice = Voice(script.source)
        self._echo = Echo(self._voice, leg.sample_bytes, script.decode)
        self._player: Player | None = None
        self._pace = Pace(0.0, script.frame_s)
        self._index = 0
        self._start_s = 0.0
        self._loud_s: float | None = None
        self.ended = False

    # --- what the line tells

    def begin(self, now_s: float, lag_s: float = 0.0) -> None:
        """The line stands. ``lag_s`` moves the beat of one call against another's."""
        script = self._script
        self._start_s = now_s
        self._report.began = True
        self._player = Player(self._leg.sample_rate, now_s, record=script.record)
        self._pace = Pace(now_s + lag_s, script.frame_s)
        if script.barge_in_s is None:
            self._voice.begin(0)
        self._line.insist(self._outgoing.connected())
        self._line.insist(self._outgoing.start())
        self._wheel.at(self._pace.due_s(0), self._speak)
        for at_s, digit in script.digits:
            self._wheel.at(self._pace.start_s + at_s, partial(self._press, digit))

    def heard(self, payload: bytes, now_s: float) -> None:
        """A text message of the bot. Nothing is listened to any more after ``stop``."""
        player = self._player
        if self.ended or player is None:
            return
        message = self._incoming.read(payload)
        report = self._report
        if message.illegal:
            report.illegal.update(message.illegal)
        if message.odd:
            report.odd.update(message.odd)
        if message.audio:
            self._listen(player, message.audio, now_s)
        elif message.mark:
            self._take_mark(player, message.mark, now_s)
        elif message.event == "clear":
            self._clear(player, now_s)

    def heard_binary(self) -> None:
        """A binary message of the bot, which has no meaning."""
        if not self.ended:
            self._report.illegal["binary"] += 1

    def hang_up(self, now_s: float) -> None:
        """Put the receiver down: say ``stop``, and let the line be closed."""
        if self.ended or self._player is None:
            return
        self._line.insist(self._outgoing.stop())
        self.end(now_s)
        self._line.say_goodbye()

    def end(self, now_s: float) -> None:
        """It is over, whoever ended it: count what there is to count."""
        player, report = self._player, self._report
        if self.ended or player is None:
            return
        self.ended = True
        player.hang_up(now_s)
        report.seconds = now_s - self._start_s
        report.lateness, report.gaps, report.gap_total_s = player.lateness, player.gaps, player.gap_total_s
        report.played_s, report.cleared_s = player.played_s, player.cleared_s
        report.recording = player.recording
        report.identical = min(self._echo.identical, report.sent_samples)
        report.differs_at = self._echo.differs_at

    # --- what the caller does

    def _speak(self, now_s: float) -> None:
        if self.ended:
            return
        report, size = self._report, self._script.frame_bytes
        report.late.observe(self._pace.late_s(self._index, now_s))
        audio = self._voice.read(self._index * size, size)
        if self._line.send_text(self._outgoing.media(audio)):
            report.sent_chunks += 1
            report.sent_samples += size // self._leg.sample_bytes
        else:
            report.unsent_chunks += 1
        if self._spoke is not None:
            self._spoke(audio)
        self._index += 1
        if self._voice.began_at is None:
            self._consider_barging_in(now_s)
        if self._is_finished():
            self.hang_up(now_s)
        else:
            self._wheel.at(self._pace.due_s(self._index), self._speak)

    def _is_finished(self) -> bool:
        """Whether nothing more is to be said or waited for."""
        script, ends_at = self._script, self._voice.ends_at
        if ends_at is None:
            return self._index * script.frame_s + _ROUNDING_S >= BARGE_WAIT_S
        sample_bytes = self._leg.sample_bytes
        silent_s = (self._index * script.frame_bytes - ends_at) / (self._leg.sample_rate * sample_bytes)
        if silent_s + _ROUNDING_S < script.linger_s:
            return False
        # An echo that is another one does not become whole.
        is_whole = self._echo.identical * sample_bytes >= ends_at or self._echo.differs_at is not None
        return is_whole or silent_s + _ROUNDING_S >= script.linger_s + script.patience_s

    def _consider_barging_in(self, now_s: float) -> None:
        script, player = self._script, self._player
        if player is None or script.barge_in_s is None or player.heard_s(now_s) < script.barge_in_s:
            return
        self._voice.begin(self._index * script.frame_bytes)
        self._report.interrupted = True
        # A frame is due when the time is over that it was spoken in: this is when the sample was spoken.
        self._loud_s = (
            self._pace.start_s + self._index * script.frame_s + script.source.loud_at / self._leg.sample_rate
        )

    def _press(self, digit: str, now_s: float) -> None:
        if not self.ended and self._line.send_text(self._outgoing.dtmf(digit, DIGIT_MS)):
            self._report.digits += 1

    # --- what the caller hears

    def _listen(self, player: Player, audio: bytes, now_s: float) -> None:
        report = self._report
        if report.first_audio_s is None:
            report.first_audio_s = now_s - self._start_s
        report.chunk(len(audio), len(audio) // self._leg.sample_bytes)
        self._echo.take(audio)
        if not player.play(self._script.decode(audio), now_s):
            report.illegal["too_far_ahead"] += 1

    def _take_mark(self, player: Player, name: str, now_s: float) -> None:
        self._report.marks += 1
        due_s = player.mark(name, now_s)
        if due_s is None:
            self._report.illegal["too_far_ahead"] += 1
        elif due_s <= now_s:
            self._echo_marks(now_s)
        else:
            self._wheel.at(due_s, self._echo_marks)

    def _echo_marks(self, now_s: float) -> None:
        if self.ended or self._player is None:
            return
        for name in self._player.reached(now_s):
            if self._line.send_text(self._outgoing.mark(name)):
                self._report.marks_echoed += 1

    def _clear(self, player: Player, now_s: float) -> None:
        self._report.clears += 1
        player.clear(now_s)
        if self._loud_s is not None and self._report.barge_in_s is None and now_s >= self._loud_s:
            self._report.barge_in_s = now_s - self._loud_s
