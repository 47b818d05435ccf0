"""What is in flight towards JetStream: numbered, confirmed from the oldest, in order per stream. Pure.

JetStream answers each message by itself, and what it has answered need not be the oldest. When the
leader of a stream changes, messages of the old one may be lost while later ones are taken by the new
one. Sending those again puts them behind their successors. So of one lane (one stream of audio) only
one message is on the way at a time: its successor is held here until it has been answered. A lane
speaks every 20 to 200 ms and an answer takes 1 to 10 ms: only a backlog is ever held.

It is no queue beside the delivery's: what is held is part of what the delivery counts as in flight.
"""

from __future__ import annotations

from collections import deque
from typing import Any

# A message in flight: [its lane, when it was written (s), its verdict: None, "" for taken, a reason].
_Entry = list[Any]


class Window:
    """Everything sent on one connection and not yet confirmed."""

    __slots__ = ("_busy", "_entries", "_first", "_next")

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._first = 0
        self._next = 0
        # A lane that has a message on the way, and what of it waits: number and message.
        self._busy: dict[object, deque[tuple[int, bytes]] | None] = {}

    def __len__(self) -> int:
        """How many are in flight."""
        return self._next - self._first

    @property
    def lanes(self) -> set[Any]:
        """The lanes that have a message in flight."""
        return {entry[0] for entry in self._entries.values()}

    def number(self) -> int:
        """The number of the message to be added next; the answer is addressed with it."""
        return self._next

    def is_busy(self, lane: object) -> bool:
        """Whether a message of this lane is on the way: the next one is to be held."""
        return lane in self._busy

    def add(self, lane: object, now: float) -> None:
        """The next message is written, at ``now`` seconds."""
        self._busy[lane] = None
        self._entries[self._next] = [lane, now, None]
        self._next += 1

    def hold(self, lane: object, message: bytes) -> None:
        """The next message waits for the one of its lane that is on the way."""
        waiting = self._busy[lane]
        if waiting is None:
            waiting = self._busy[lane] = deque()
        waiting.append((self._next, message))
        self._entries[self._next] = [lane, 0.0, None]
        self._next += 1

    def add_refused(self, lane: object, reason: str) -> None:
        """The next message is one we know will be refused; it is not written."""
        self._entries[self._next] = [lane, 0.0, reason]
        self._next += 1

    def answered(self, number: int, verdict: str, now: float) -> bytes | None:
        """Take an answer: ``""`` for taken, else why refused. Returns what is to be written instead.

        An answer to nothing, or a second one, changes nothing.
        """
        entry = self._entries.get(number)
        if entry is None or entry[2] is not None:
            return None
        entry[2] = verdict
        waiting = self._busy[entry[0]]
        if not waiting:
            del self._busy[entry[0]]
            return None
        following, message = waiting.popleft()
        self._entries[following][1] = now
        return message

    def settle(self) -> list[int | str]:
        """Let go of the oldest, as far as they are answered: a count of taken ones, or a reason each."""
        entries = self._entries
        runs: list[int | str] = []
        taken = 0
        while (entry := entries.get(self._first)) is not None and entry[2] is not None:
            del entries[self._first]
            self._first += 1
            if not entry[2]:
                taken += 1
                continue
            if taken:
                runs.append(taken)
                taken = 0
            runs.append(entry[2])
        if taken:
            runs.append(taken)
        return runs

    def passed_over(self, before: float) -> bool:
        """Whether the oldest, written before then, has no answer while a younger one has: it is lost."""
        oldest = self._entries.get(self._first)
        if oldest is None or oldest[2] is not None or oldest[1] > before:
            return False
        return any(entry[2] == "" for entry in self._entries.values())
