"""One answer under way: its sentences are spoken one after the other while it is still being written.

At most :data:`AHEAD_COUNT` sentences are given to the call and not heard yet: one sounds, the next is
there when it ends. So little is thrown away when the caller interrupts.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from ..call_interfaces import ICall
from .voice import Voice

AHEAD_COUNT: Final = 2
# Nothing is begun while so much waits to be heard.
QUEUED_MAX_MS: Final = 15_000.0


class AnswerState(enum.Enum):
    """Where an answer is in its life."""

    SILENT = "silent"  # nothing of it has been given to the call
    SOUNDING = "sounding"  # the caller hears it
    OVER = "over"  # nothing more of it will be heard


class AnswerStep(enum.Enum):
    """What can happen to an answer."""

    SOUND = "sound"  # audio was given to the call
    END = "end"  # all of it was heard
    CUT = "cut"  # it is not wanted any more


TRANSITIONS: Final[dict[tuple[AnswerState, AnswerStep], AnswerState]] = {
    (AnswerState.SILENT, AnswerStep.SOUND): AnswerState.SOUNDING,
    (AnswerState.SILENT, AnswerStep.END): AnswerState.OVER,
    (AnswerState.SILENT, AnswerStep.CUT): AnswerState.OVER,
    (AnswerState.SOUNDING, AnswerStep.SOUND): AnswerState.SOUNDING,
    (AnswerState.SOUNDING, AnswerStep.END): AnswerState.OVER,
    (AnswerState.SOUNDING, AnswerStep.CUT): AnswerState.OVER,
}


class IAnswerListener(Protocol):
    """Who has to know what became of an answer."""

    def sentence_heard(self, text: str, *, whole: bool) -> None:
        """The caller has heard a sentence, or its beginning."""

    def voice_failed(self, failure: Failure) -> None:
        """A sentence could not be spoken; the rest of the answer is dropped."""

    def answer_over(self) -> None:
        """All of it was heard that could be spoken."""


class _Begun(NamedTuple):
    """A sentence the call has: its mark, its text, and whether all of it is there."""

    mark: str
    text: str
    whole: bool


class Answer:
    """Speaks what it is given to say; ``new_mark`` names the ends of sentences, for the whole call."""

    def __init__(
        self, call: ICall, voice: Voice, listener: IAnswerListener, new_mark: Callable[[], str]
    ) -> None:
        self.state = AnswerState.SILENT
        self._call = call
        self._voice = voice
        self._listener = listener
        self._new_mark = new_mark
        self._waiting: deque[str] = deque()
        self._begun: deque[_Begun] = deque()
        self._speaking: Deferred[None] | None = None
        # The sentence that is being spoken, and whether any of it has been.
        self._text = ""
        self._has_begun = False
        self._is_whole = False

    def say(self, sentence: str) -> None:
        """Say a sentence after the others. Their number is bounded by the length of an answer."""
        if self.state is not AnswerState.OVER and not self._is_whole:
            self._waiting.append(sentence)
            self._go_on()

    def finish(self) -> None:
        """There are no more sentences."""
        self._is_whole = True
        self._go_on()

    def played(self, mark: str) -> None:
        """The caller has heard everything before ``mark``."""
        if not any(begun.mark == mark for begun in self._begun):
            return
        while self._begun:
            begun = self._begun.popleft()
            self._listener.sentence_heard(begun.text, whole=begun.whole)
            if begun.mark == mark:
                break
        self._go_on()

    def cut(self) -> str:
        """Say no more; returns the sentence that was sounding, empty where none was."""
        if self.state is AnswerState.OVER:
            return ""
        self._step(AnswerStep.CUT)
        sounding = self._begun[0].text if self._begun else self._text if self._has_begun else ""
        self._waiting.clear()
        self._begun.clear()
        speaking, self._speaking = self._speaking, None
        if speaking is not None:
            speaking.cancel()
        return sounding

    # --- speaking

    def _go_on(self) -> None:
        if self.state is AnswerState.OVER or self._speaking is not None:
            return
        if self._waiting and self._may_begin():
            self._begin(self._waiting.popleft())
        elif self._is_whole and not self._waiting and not self._begun:
            self._step(AnswerStep.END)
            self._listener.answer_over()

    def _may_begin(self) -> bool:
        """A mark that is played asks again; where none is waited for nothing would."""
        is_far_ahead = len(self._begun) >= AHEAD_COUNT or self._call.queued_ms > QUEUED_MAX_MS
        return not (self._begun and is_far_ahead)

    def _begin(self, sentence: str) -> None:
        self._text, self._has_begun = sentence, False
        speaking = self._speaking = self._voice.speak(sentence, self._take)
        speaking.addCallbacks(self._spoken, self._failed)

    def _take(self, pcm: bytes) -> None:
        if self.state is not AnswerState.OVER:
            self._has_begun = True
            self._step(AnswerStep.SOUND)
            self._call.say(pcm)

    def _spoken(self, _: None) -> None:
        self._speaking = None
        if self.state is not AnswerState.OVER:
            self._mark(whole=True)
            self._go_on()

    def _failed(self, failure: Failure) -> None:
        self._speaking = None
        if self.state is AnswerState.OVER and failure.check(CancelledError):
            return
        self._waiting.clear()
        self._is_whole = True
        if self._has_begun and self.state is not AnswerState.OVER:
            # What there is of it is heard to its end, and is not taken for all of it.
            self._mark(whole=False)
        self._listener.voice_failed(failure)
        self._go_on()

    def _mark(self, *, whole: bool) -> None:
        begun = _Begun(self._new_mark(), self._text, whole)
        self._has_begun = False
        # Noted first: a call with nothing left to play may tell of its mark at once.
        self._begun.append(begun)
        self._call.mark(begun.mark)

    def _step(self, step: AnswerStep) -> None:
        self.state = TRANSITIONS[self.state, step]
