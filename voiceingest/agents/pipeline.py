"""Talks with a caller: Deepgram hears, a language model answers, Deepgram speaks, all while it comes.

The model is reminded of what the caller has heard, not of what was written. A service that fails
costs one answer: the next turn asks again, with everything that was said.
"""

from __future__ import annotations

import itertools
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..call_interfaces import AgentContext, ICall, Transcript
from ..config import Settings
from ..errors import InternalError, VoiceIngestError
from ..stream import Conversation, Sentences
from .answer import Answer, AnswerState
from .base import Agent
from .model import Model
from .turns import Turns
from .voice import Voice

# What the model is reminded of besides its instructions: some 6,000 tokens.
_HISTORY_MAX_CHARS: Final = 24_000
# More silence than the transcriber takes for the end of a turn.
_PATIENCE_S: Final = 2.0


def problems(settings: Settings) -> list[str]:
    """What is missing for this agent, one line each."""
    found = []
    if settings.deepgram_api_key is None:
        found.append("deepgram_api_key: needed by the agent pipeline")
    for name in ("deepgram_speak_url", "llm_url"):
        if not getattr(settings, name).startswith(("https://", "http://")):
            found.append(f"{name}: http:// or https://, where the agent pipeline is used")
    return found


class Pipeline(Agent):
    """Transcripts in, answers out; one answer is under way at most."""

    wants_transcripts = True
    _log = Logger()

    def __init__(self, context: AgentContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._model = Model(context)
        self._conversation = Conversation(
            settings.llm_instructions, settings.llm_history_turns, _HISTORY_MAX_CHARS
        )
        patience_s = settings.deepgram_utterance_end_ms / 1000 + _PATIENCE_S
        self._turns = Turns(context.clock, patience_s, self._going_on, self._turn_over)
        self._marks = (f"s{number}" for number in itertools.count(1))
        self._voice: Voice
        self._answer: Answer | None = None
        self._asking: Deferred[None] | None = None
        self._has_turn_waiting = False

    # --- what the call tells (IAgent)

    def begin(self, call: ICall) -> None:
        """Greet, where there is something to say."""
        super().begin(call)
        self._voice = Voice(self.context, call.facts.audio.sample_rate)
        if self.context.settings.llm_greeting:
            self._say(self.context.settings.llm_greeting)

    def transcript(self, transcript: Transcript) -> None:
        """The caller's words."""
        self._turns.transcript(transcript)

    def dtmf(self, digit: str) -> None:
        """A key: the model is told of a whole number."""
        self._turns.digit(digit)

    def played(self, mark: str) -> None:
        """A sentence has been heard."""
        if self._answer is not None:
            self._answer.played(mark)

    def interrupted(self) -> None:
        """The caller speaks over the answer, which is silent already."""
        self._cut()
        if self._conversation.awaits_answer:
            self._turns.expect()

    def end(self, reason: str) -> None:
        """The call is over."""
        self._turns.stop()
        self._has_turn_waiting = False
        if self._answer is not None:
            self._answer.cut()
        self._stop_asking()

    # --- what the caller says

    def _going_on(self) -> None:
        """More words: an answer of which nothing has sounded is asked for anew when they end."""
        is_asked_for = self._asking is not None
        if is_asked_for and self._answer is not None and self._answer.state is AnswerState.SILENT:
            self._cut()

    def _turn_over(self, text: str) -> None:
        self._conversation.heard(text)
        if not self._conversation.awaits_answer:
            return
        sounds = self._answer is not None and self._answer.state is AnswerState.SOUNDING
        if sounds and not self.context.settings.voicebot_barge_in:
            self._has_turn_waiting = True
            return
        if sounds:
            # Too softly said to be heard as an interruption.
            self.call.clear()
        self._cut()
        self._ask()

    # --- answers

    def _ask(self) -> None:
        self._has_turn_waiting = False
        sentences, answer = Sentences(), self._new_answer()

        def take(text: str) -> None:
            for sentence in sentences.feed(text):
                answer.say(sentence)

        def written() -> None:
            for sentence in sentences.flush():
                answer.say(sentence)
            answer.finish()

        def failed(failure: Failure) -> None:
            if not failure.check(CancelledError):
                self._report("llm", failure)
                answer.finish()

        asking = self._asking = self._model.answer(self._conversation.messages(), take, written)
        asking.addErrback(failed)

    def _say(self, text: str) -> None:
        """Say a text that is there already."""
        sentences, answer = Sentences(), self._new_answer()
        for sentence in [*sentences.feed(text), *sentences.flush()]:
            answer.say(sentence)
        answer.finish()

    def _new_answer(self) -> Answer:
        self._conversation.answering()
        self._answer = answer = Answer(self.call, self._voice, self, self._marks.__next__)
        return answer

    def _cut(self) -> None:
        """The answer under way is not wanted any more; what was heard of it stays."""
        self._stop_asking()
        answer, self._answer = self._answer, None
        if answer is None or answer.state is AnswerState.OVER:
            return
        if sounding := answer.cut():
            self.sentence_heard(sounding, whole=False)
        self._conversation.interrupted()

    def _stop_asking(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()

    # --- what the answer tells (IAnswerListener)

    def sentence_heard(self, text: str, *, whole: bool) -> None:
        """Into the conversation, and onto the events channel."""
        self._conversation.spoke(text)
        self.call.publish_event("agent_said", text=text, whole=whole)

    def voice_failed(self, failure: Failure) -> None:
        """Nothing more can be said: nothing more has to be written."""
        self._stop_asking()
        self._report("voice", failure)

    def answer_over(self) -> None:
        """A turn that came meanwhile is answered now."""
        self._answer = None
        if self._has_turn_waiting:
            self._ask()

    def _report(self, source: str, failure: Failure) -> None:
        """Count and tell a failure; the call goes on."""
        if not failure.check(VoiceIngestError):
            # A bug of ours.
            self._log.failure("an answer failed", failure, event="agent_bug", source=source)
        code = getattr(failure.value, "code", InternalError.code)
        self.context.metrics.agent_failures[f"{source}_{code}"] += 1
        self._log.warn("An answer failed", event="answer_failed", source=source, code=code)
        self.call.publish_event("error", code=code, source=source)
