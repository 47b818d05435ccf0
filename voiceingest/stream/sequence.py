"""What the sequence numbers of a peer's messages tell: how many are missing."""

from __future__ import annotations

from typing import Final

# A larger step is no loss but another count that was begun.
STEP_MAX_COUNT: Final = 1000


class SequenceWatch:
    """Counts; it never refuses: a call with a hole in it is still a call."""

    __slots__ = ("last", "missing", "strange")

    def __init__(self) -> None:
        self.last = 0
        self.missing = 0
        self.strange = 0

    def note(self, number: int | None) -> int:
        """Take the number of the next message, where it has one; returns how many came before it too few."""
        if number is None:
            return 0
        step, first = number - self.last, not self.last
        if first or step == 1:
            self.last = number
            return 0
        if 1 < step <= STEP_MAX_COUNT:
            self.last = number
            self.missing += step - 1
            return step - 1
        # A repetition, something late, or a new count.
        self.strange += 1
        if abs(step) > STEP_MAX_COUNT:
            self.last = number
        return 0
