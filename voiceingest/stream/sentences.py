"""Cuts a text that is still being written into sentences to be spoken, as early as may be. Pure.

Every character is looked at once, when it comes; so the pieces do not depend on how the text came.
"""

from __future__ import annotations

from typing import Final

# Ends of a sentence where white space follows; the others end one by themselves.
_ENDS: Final = ".!?…"
_FULL_ENDS: Final = "।॥。\uff01\uff1f"
# What may still follow the end and belongs to it.
_CLOSERS: Final = "\"'\u201d\u2019»)]"
_OPENERS: Final = "\"'\u201c\u2018«(["
_PAUSES: Final = ",;:—"

_MARKS: Final = "*`"

# Never the end of a sentence: something follows.
_TITLES: Final = frozenset(
    {
        *("mr", "mrs", "ms", "mx", "dr", "prof", "st", "rev", "hon", "gen", "col", "capt", "lt", "sgt"),
        *("sr", "sra", "smt", "shri", "mt", "vs", "e.g", "i.e", "cf", "approx", "viz"),
    }
)
# Not the end where a number follows.
_NUMBERED: Final = frozenset({"no", "nos", "fig", "vol", "p", "pp", "art", "sec", "ch", "rs", "tel", "ext"})
# The end only where a sentence visibly begins.
_OPEN: Final = frozenset(
    {"etc", "a.m", "p.m", "inc", "ltd", "co", "corp", "jr", "ave", "rd", "dept", "est", "u.s", "u.k"}
)

# A first piece of so many characters may end at a comma: the caller waits for it.
_FIRST_CHARS: Final = 40


class Sentences:
    """Give it a text as it is written; it gives the sentences that are whole.

    Marks of Markdown are left out, and pieces without a letter or a digit; white space becomes a
    blank. No piece is longer than ``max_chars``.
    """

    def __init__(self, max_chars: int = 300) -> None:
        self._max_chars = max_chars
        self._text = ""
        # Where a sentence ends if what comes next allows it; 0: nowhere.
        self._end = 0
        self._is_first = True
        self._at_line_start = True

    def feed(self, text: str) -> list[str]:
        """Take more of the text; returns the sentences it made whole."""
        pieces: list[str] = []
        for character in text:
            if self._is_mark(character):
                continue
            self._take(character, pieces)
        return pieces

    def flush(self) -> list[str]:
        """The text is whole: return the rest."""
        pieces: list[str] = []
        self._cut(len(self._text), pieces)
        self._is_first = self._at_line_start = True
        return pieces

    def _is_mark(self, character: str) -> bool:
        if character in _MARKS or (character == "#" and self._at_line_start):
            return True
        if not character.isspace():
            self._at_line_start = False
        elif character == "\n":
            self._at_line_start = True
        return False

    def _take(self, character: str, pieces: list[str]) -> None:
        if character in "\n\r":
            self._cut(len(self._text), pieces)
        elif character.isspace():
            self._space(pieces)
        else:
            if self._end and self._begins_anew(character):
                self._cut(self._end, pieces)
            self._end = 0
            self._text += character
            if len(self._text) > self._max_chars:
                self._cut(self._room(), pieces)
            if character in _FULL_ENDS:
                self._cut(len(self._text), pieces)

    def _space(self, pieces: list[str]) -> None:
        """White space: what is before it may be a sentence."""
        if not self._text or self._text[-1] == " ":
            return
        words = self._text.rstrip(_CLOSERS)
        if words and words[-1] in _ENDS:
            if words[-1] != "." or words.endswith(".."):
                self._cut(len(self._text), pieces)
                return
            self._full_stop(words[:-1], pieces)
        elif self._is_first and len(self._text) >= _FIRST_CHARS and self._text[-1] in _PAUSES:
            self._cut(len(self._text), pieces)
            return
        if self._text:
            self._text += " "

    def _full_stop(self, words: str, pieces: list[str]) -> None:
        """White space after a full stop: cut, wait for what comes next, or leave it."""
        word = _last_word(words)
        is_initial = len(word) == 1 and word.isalpha() and word != "i"
        is_list_number = word.isdigit() and not any(map(str.isalnum, words[: -len(word)]))
        if word in _TITLES or is_initial or is_list_number:
            return
        if word in _NUMBERED or word in _OPEN:
            self._end = len(self._text)
        else:
            self._cut(len(self._text), pieces)

    def _begins_anew(self, character: str) -> bool:
        """Whether a sentence begins with ``character``, after a word that may be an abbreviation."""
        word = _last_word(self._text[: self._end].rstrip(_CLOSERS)[:-1])
        return not character.isdigit() and (word in _NUMBERED or not character.islower())

    def _room(self) -> int:
        """Where to cut a text that is too long: after a comma, between words, anywhere."""
        text = self._text[: self._max_chars]
        pause = max(text.rfind(mark + " ") for mark in _PAUSES)
        if pause > len(text) // 2:
            return pause + 1
        blank = text.rfind(" ")
        return blank if blank > 0 else len(text)

    def _cut(self, at: int, pieces: list[str]) -> None:
        piece, self._text = self._text[:at].strip(), self._text[at:].lstrip()
        self._end = 0
        if any(map(str.isalnum, piece)):
            pieces.append(piece)
            self._is_first = False


def _last_word(words: str) -> str:
    return words.rsplit(" ", 1)[-1].lstrip(_OPENERS).lower()
