"""Reads the answer of a model out of a stream of server-sent events, in pieces of any size. Pure."""

from __future__ import annotations

import codecs
from typing import Final

from ..errors import UpstreamFailed
from ..wire import chat

# A chunk is some hundred bytes; one with logprobs or a long tool call some thousand.
EVENT_MAX_CHARS: Final = 64 * 1024
# All of a stream: 16,384 tokens in chunks of 300 bytes are 5 MiB.
STREAM_MAX_BYTES: Final = 16 * 1024 * 1024
# All of an answer: an hour of speech.
ANSWER_MAX_CHARS: Final = 64 * 1024

_TOO_LONG: Final = "the answer of the model is too long"


class ChatReader:
    """Takes bytes, gives the words in them; ``is_done`` when the model has finished its answer."""

    def __init__(self) -> None:
        self.is_done = False
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._data: list[str] = []
        self._event_chars = 0
        self._stream_bytes = 0
        self._answer_chars = 0
        self._after_return = False

    def feed(self, data: bytes) -> list[str]:
        """Take the next bytes; returns what they add to the answer.

        Raises: ``BadJson``, ``BadField``, ``UpstreamFailed``; the reader is of no use afterwards.
        """
        self._stream_bytes += len(data)
        if self._stream_bytes > STREAM_MAX_BYTES:
            raise UpstreamFailed(_TOO_LONG)
        texts: list[str] = []
        *lines, self._line = self._lines(self._line + self._utf8.decode(data))
        for line in lines:
            if text := self._take(line):
                texts.append(text)
        if len(self._line) + self._event_chars > EVENT_MAX_CHARS:
            raise UpstreamFailed(_TOO_LONG)
        return texts

    def _lines(self, text: str) -> list[str]:
        """The lines of ``text``; the last one is not whole. They end with CR, LF or both."""
        # A CR at the very end may be half of a line's end: the LF that may follow is then no line.
        if text and self._after_return:
            text = text.removeprefix("\n")
            self._after_return = False
        if text:
            self._after_return = text.endswith("\r")
        return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

    def _take(self, line: str) -> str:
        """One line: a field, a comment, or the end of an event."""
        if line:
            name, _, value = line.partition(":")
            if name.lstrip("\ufeff") == "data":
                self._data.append(value.removeprefix(" "))
                self._event_chars += len(value)
                if self._event_chars > EVENT_MAX_CHARS:
                    raise UpstreamFailed(_TOO_LONG)
            return ""
        event, self._data, self._event_chars = "\n".join(self._data), [], 0
        if not event or self.is_done:
            return ""
        delta = chat.decode(event)
        self.is_done = delta.is_last
        self._answer_chars += len(delta.text)
        if self._answer_chars > ANSWER_MAX_CHARS:
            raise UpstreamFailed(_TOO_LONG)
        return delta.text
