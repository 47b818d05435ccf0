"""Transcribes one stream: drives its ``stream.transcription`` and owns its connection to Deepgram.

Whoever has the stream calls ``audio`` for every frame: a plain call that appends, and writes at most.
Nothing here waits, blocks or raises; a failure of ours is counted, logged, and ends the transcription,
never the stream.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Final, ParamSpec

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ..audio import AudioFormat
from ..call_interfaces import IListener
from ..config import Settings
from ..deadlines import Deadlines
from ..errors import BadField, BadJson, UpstreamFailed, UpstreamRefused
from ..interfaces import IClock
from ..metrics import Metrics
from ..stream.transcribing_states import Hearing
from ..stream.transcription import CUTS, Transcription, Wake
from ..wire.deepgram import (
    CLOSE_STREAM,
    FINALIZE,
    KEEP_ALIVE,
    Failed,
    Metadata,
    Results,
    SpeechStarted,
    UtteranceEnd,
    decode,
    is_refusal,
)
from .dial import Dial
from .notices import Notices
from .socket import DeepgramSocket, Ending
from .telling import Telling

# Messages in a row that make no sense, from a peer that is then no Deepgram.
UNREADABLE_MAX_COUNT: Final = 10

_ENDPOINT: Final = "transcribing"

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Means:
    """What all transcribers of the daemon share; ``chance`` answers 0 to 1."""

    settings: Settings
    dial: Dial
    clock: IClock
    deadlines: Deadlines
    metrics: Metrics
    notices: Notices
    chance: Callable[[], float]


def _guarded(
    method: Callable[Concatenate[Transcriber, P], None],
) -> Callable[Concatenate[Transcriber, P], None]:
    """Nothing that fails in here reaches the stream, nor the reactor."""

    @functools.wraps(method)
    def call(self: Transcriber, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            self._broke()

    return call


class Transcriber:
    """See the head of this file. ``publish_event`` puts what is heard on the stream's events channel."""

    _log = Logger()

    def __init__(
        self,
        audio: AudioFormat,
        means: Means,
        publish_event: Callable[[str, dict[str, Any]], None],
        listeners: tuple[IListener, ...] = (),
    ) -> None:
        settings = means.settings
        self._means = means
        self._metrics = means.metrics
        self._now = means.clock.seconds
        self._rate = audio.sample_rate
        self._memory = Transcription(audio.sample_rate, settings.exo_max_buffer_ms, settings.exo_idle_close_s)
        self._telling = Telling(publish_event, listeners, means.metrics, self._memory.to_ms)
        self._socket: DeepgramSocket | None = None
        self._is_open = self._is_over = False
        self._unreadable = 0
        self._waiting: list[Deferred[None]] = []

    # --- from the stream

    @_guarded
    def audio(self, pcm: bytes) -> None:
        """Hear PCM16LE, whole samples, whatever has become of Deepgram."""
        if not self._is_over:
            self._metrics.transcriber_samples["received"] += len(pcm) >> 1
            self._memory.audio(pcm, self._now())
            self._turn()

    def finish(self) -> Deferred[None]:
        """No more audio will come. Fires when the last words are in, after 3 s at most."""
        over = self.when_over()
        self._finish()
        return over

    def when_over(self) -> Deferred[None]:
        """Fires when nothing more will be heard, for whatever reason."""
        if self._is_over:
            return succeed(None)
        over: Deferred[None] = Deferred()
        self._waiting.append(over)
        return over

    @_guarded
    def cut(self) -> None:
        """End it now; what Deepgram has not answered is reported as a gap."""
        if not self._is_over:
            self._end()

    # --- from the connection (ISocketOwner)

    @_guarded
    def opened(self, request_id: str) -> None:
        """The connection stands."""
        self._is_open = True
        self._metrics.transcriber_connects["ok"] += 1
        self._metrics.transcribers += 1
        self._log.debug(
            "Deepgram listens", event="transcriber_opened", rate=self._rate, deepgram_request_id=request_id
        )
        self._memory.opened(self._now())
        self._turn()

    @_guarded
    def blocked(self, is_blocked: bool) -> None:
        """The connection has stopped, or begun again, to take bytes."""
        self._memory.blocked(is_blocked, self._now())
        if not is_blocked:
            self._turn()

    @_guarded
    def heard(self, payload: bytes) -> None:
        """Deepgram says something."""
        memory = self._memory
        try:
            answer = decode(payload)
        except (BadJson, BadField) as error:
            self._metrics.errors[error.code, _ENDPOINT] += 1
            self._unreadable += 1
            if self._unreadable >= UNREADABLE_MAX_COUNT:
                self._lose("unreadable")
            self._turn()
            return
        self._unreadable = 0
        memory.answered()
        if isinstance(answer, Results | UtteranceEnd):
            heard = memory.results(answer) if isinstance(answer, Results) else memory.utterance_ended()
            if heard is not None:
                self._telling.heard(heard)
        elif isinstance(answer, SpeechStarted):
            self._telling.speech_started()
        elif isinstance(answer, Metadata):
            memory.accounted(answer.duration_s)
        elif isinstance(answer, Failed):
            # In its own words, which may quote us: they are not logged.
            self._metrics.errors[UpstreamFailed.code, _ENDPOINT] += 1
            self._means.notices.trouble("error")
        self._turn()

    @_guarded
    def ended(self, ending: Ending) -> None:
        """The connection is gone, or has not come about."""
        memory = self._memory
        is_refused = is_refusal(ending.http_status, ending.close_code)
        is_normal = ending.close_code == 1000 and memory.state is Hearing.CLOSING
        self._gone("refused" if is_refused else "failed", ending.reason)
        if is_refused:
            memory.refused()
            self._metrics.errors[UpstreamRefused.code, _ENDPOINT] += 1
            self._telling.refused()
        else:
            memory.ended(self._now(), self._means.chance(), is_normal=is_normal)
        if not is_normal:
            self._means.notices.trouble(ending.reason)
        self._turn()

    # --- what is to be done

    @_guarded
    def _finish(self) -> None:
        if not self._is_over:
            self._memory.finish(self._now())
            self._turn()

    def _due(self, now: float) -> float:
        self._wake()
        return float("inf") if self._is_over else self._memory.next_deadline()

    @_guarded
    def _wake(self) -> None:
        self._turn()

    def _turn(self) -> None:
        """Do what there is to do, and be woken when there is more."""
        if self._is_over:
            return
        memory, now = self._memory, self._now()
        while (wake := memory.wake(now)) is not Wake.NOTHING:
            self._do(wake, now)
        self._tell_gaps()
        if not self._is_over:
            self._means.deadlines.wake(self._due, memory.next_deadline())

    def _do(self, wake: Wake, now: float) -> None:
        memory, socket = self._memory, self._socket
        if wake is Wake.CONNECT:
            memory.connecting(now)
            # It may fail before it returns.
            self._socket = DeepgramSocket(self)
            self._means.dial.connect(self._socket, self._rate)
        elif wake in CUTS:
            self._lose(wake.value)
        elif wake is Wake.END:
            self._end()
        elif socket is None:
            raise AssertionError(f"{wake} without a connection")
        elif wake is Wake.SEND:
            piece = memory.piece(now)
            self._metrics.transcriber_samples["sent"] += len(piece) >> 1
            socket.send(piece)
        elif wake is Wake.KEEP_ALIVE:
            memory.said(now)
            socket.say(KEEP_ALIVE)
        elif wake is Wake.FINALIZE:
            memory.finalizing(now)
            socket.say(FINALIZE)
        else:
            memory.closing(now)
            socket.say(CLOSE_STREAM)

    def _lose(self, reason: str) -> None:
        """Hang up: it does not do what it should."""
        self._hang_up(reason)
        self._memory.ended(self._now(), self._means.chance())
        self._means.notices.trouble(reason)

    def _end(self) -> None:
        self._hang_up("ended")
        self._memory.end()
        self._tell_gaps()
        self._leave()

    def _tell_gaps(self) -> None:
        if self._memory.has_gaps:
            for gap in self._memory.take_gaps():
                self._telling.unheard(gap)

    def _hang_up(self, reason: str) -> None:
        if self._socket is not None:
            self._socket.abort()
            self._gone("failed", reason)

    def _gone(self, result: str, reason: str) -> None:
        """Count the end of a connection, or an attempt that came to nothing."""
        self._socket = None
        if self._is_open:
            self._is_open = False
            self._metrics.transcribers -= 1
            self._metrics.transcriber_disconnects[reason] += 1
        else:
            self._metrics.transcriber_connects[result] += 1

    def _leave(self) -> None:
        self._is_over = True
        self._means.deadlines.forget(self._due)
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)

    def _broke(self) -> None:
        """Called from an ``except``: it is our own failure."""
        self._metrics.errors["internal", _ENDPOINT] += 1
        if not self._is_over:
            self._log.failure("A transcription failed", event="transcription_failed")
            self._hang_up("internal")
            self._leave()
