"""Who has finished speaking: words, in order, and the ends of turns among them.

A turn ends by ``speech_final``, or by ``UtteranceEnd`` where no ``speech_final`` was heard since the
words (Deepgram's rule). ``Finalize`` is sent in a long silence only, so its result ends a turn as well.
Where the connection was lost after the words, silence on the next one ends it: nothing else would.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..wire.deepgram import Results


@dataclass(frozen=True, slots=True)
class Heard:
    """Words, with times in samples of the stream."""

    text: str
    start: int
    end: int
    is_final: bool
    ends_turn: bool
    confidence: float


class Turns:
    """The turn that is going on; and no transcript begins before one that was said already."""

    __slots__ = ("_is_carried", "_is_open", "_said_to")

    def __init__(self) -> None:
        self._is_open = self._is_carried = False
        self._said_to = 0

    def lost(self) -> None:
        """The connection that heard the words is gone."""
        self._is_carried = self._is_open

    def heard(self, results: Results, text: str, start: int, end: int) -> Heard | None:
        """What to say of ``results``, whose new words are ``text``; ``None`` where that is nothing."""
        is_end = results.speech_final or results.from_finalize or (self._is_carried and not text)
        if text:
            self._is_open, self._is_carried = True, False
        ends_turn = results.is_final and is_end and self._is_open
        if not text and not ends_turn:
            return None
        return self._say(Heard(text, start, end, results.is_final, ends_turn, results.confidence))

    def utterance_ended(self, at: int) -> Heard | None:
        """By the words, the speaker has finished; ``None`` where that was said already."""
        return self._say(Heard("", at, at, True, True, 0.0)) if self._is_open else None

    def _say(self, heard: Heard) -> Heard:
        self._said_to = start = max(heard.start, self._said_to)
        if heard.ends_turn:
            self._is_open = self._is_carried = False
        return Heard(
            heard.text, start, max(start, heard.end), heard.is_final, heard.ends_turn, heard.confidence
        )
