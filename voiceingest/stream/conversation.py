"""What was said in a call, as the model is reminded of it. Pure.

The agent's words count when the caller has heard them, which may be after the caller has gone on to
speak: an answer has its place from the moment it begins.
"""

from __future__ import annotations

from typing import Final

# Stands where the caller cut the agent off.
CUT: Final = "…"


class _Turn:
    """What one side said until the other did."""

    __slots__ = ("role", "text")

    def __init__(self, role: str, text: str) -> None:
        self.role = role
        self.text = text

    def add(self, text: str) -> None:
        self.text = f"{self.text} {text}".lstrip()


class Conversation:
    """Turns of the caller (``user``) and the agent (``assistant``), after the instructions.

    At most ``max_turns`` turns and ``max_chars`` characters are kept, the newest; the instructions
    always are.
    """

    def __init__(self, instructions: str, max_turns: int, max_chars: int) -> None:
        self._instructions = instructions
        self._max_turns = max_turns
        self._max_chars = max_chars
        self._turns: list[_Turn] = []
        self._answer: _Turn | None = None

    def heard(self, text: str) -> None:
        """The caller said something."""
        if text := text.strip():
            self._add("user", text)

    def answering(self) -> None:
        """The agent begins a turn; what it says is noted as it is heard."""
        self._answer = self._add("assistant", "")

    def spoke(self, sentence: str) -> None:
        """The caller has heard a sentence of the agent's turn, or its beginning."""
        if self._answer is None:
            self.answering()
        assert self._answer is not None
        self._answer.add(sentence.strip())
        self._trim()

    def interrupted(self) -> None:
        """The agent's turn was cut off: no more of it will be heard."""
        if self._answer is not None and self._answer.text:
            self._answer.text = self._answer.text.rstrip(".!?…,;: ") + CUT
        self._answer = None

    @property
    def awaits_answer(self) -> bool:
        """Whether the caller had the last word."""
        told = self.messages()
        return bool(told) and told[-1]["role"] == "user"

    def messages(self) -> list[dict[str, str]]:
        """What the model is told; neither side speaks twice in a row."""
        told = [{"role": turn.role, "content": turn.text} for turn in self._joined()]
        if self._instructions:
            told.insert(0, {"role": "system", "content": self._instructions})
        return told

    def _joined(self) -> list[_Turn]:
        """The turns in which something was said, those of one side in a row as one."""
        joined: list[_Turn] = []
        for turn in self._turns:
            if not turn.text:
                continue
            if joined and joined[-1].role == turn.role:
                joined[-1].add(turn.text)
            else:
                joined.append(_Turn(turn.role, turn.text))
        return joined

    def _add(self, role: str, text: str) -> _Turn:
        last = self._turns[-1] if self._turns else None
        if last is not None and last.role == role and role == "user":
            last.add(text)
        else:
            # Of answers that were never heard only the newest may be still.
            self._turns = [turn for turn in self._turns if turn.text or turn is self._answer]
            last = _Turn(role, text)
            self._turns.append(last)
        self._trim()
        return last

    def _trim(self) -> None:
        """Forget the oldest; of a single turn that is too long, its beginning."""
        turns = self._turns
        while self._is_too_much() and len(turns) > 1:
            turns.pop(0)
        turns[0].text = turns[0].text[-self._max_chars :]

    def _is_too_much(self) -> bool:
        lengths = [len(turn.text) for turn in self._turns if turn.text]
        return len(lengths) > self._max_turns or sum(lengths) > self._max_chars
