"""The audio of one stream on its way to a transcriber, by samples: sent, final, lost.

The law: every sample is covered by a final result of a connection it was sent on, or is in exactly
one gap, or is pending. What is not final is kept to be sent again to the next connection, the newest
``max_samples`` of it. While a connection stands, older audio leaves without a gap, for it was sent;
when the connection then dies before it was final, it is in a gap (``lost``). Audio that could not be
sent within the bound is dropped, the oldest first, and is in a gap (``overflow``): the connection then
hears two stretches of the stream as if they followed each other, and what it answers is put back to
where it belongs.

Positions are samples from the beginning of the stream; "heard" ones those of the connection.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

_SAMPLE_BYTES: Final = 2

# Stretches of one connection that have not become final. There is more than one only where a peer
# reads now and then, and hears nothing out to its end.
STRETCHES_MAX_COUNT: Final = 64


@dataclass(frozen=True, slots=True)
class Stretch:
    """Samples ``first`` up to, not including, ``end`` that no result will cover, and why."""

    first: int
    end: int
    reason: str


class Backlog:
    """See the head of this file. ``lost`` collects the gaps; whoever reads it empties it."""

    __slots__ = (
        "_growing", "_heard", "_held", "_held_from", "_max_samples", "_stretches", "_why",
        "lost", "received", "sent", "settled",
    )

    def __init__(self, max_samples: int) -> None:
        self._max_samples = max_samples
        self._held = bytearray()
        self._held_from = 0
        # What the connection has heard, and where each stretch of it begins: (heard, stream).
        self._heard = 0
        self._stretches: list[tuple[int, int]] = [(0, 0)]
        self._growing: Stretch | None = None
        self._why = "overflow"
        self.lost: list[Stretch] = []
        self.received = 0
        self.sent = 0
        # All before it is final or in a gap.
        self.settled = 0

    @property
    def unsent(self) -> int:
        """Samples that wait to be sent."""
        return self.received - self.sent

    @property
    def heard(self) -> int:
        """Samples this connection was sent."""
        return self._heard

    @property
    def is_growing(self) -> bool:
        """Whether a gap is growing that has not been reported."""
        return self._growing is not None

    def take(self, pcm: bytes) -> None:
        """Audio of the stream has come."""
        self._held += pcm
        self.received += len(pcm) // _SAMPLE_BYTES
        self._bound()

    def attach(self) -> None:
        """A new connection: what is kept is sent to it from the beginning."""
        self.report()
        self._heard = 0
        self._stretches = [(0, self._held_from)]
        self.sent = self._held_from

    def next(self, max_samples: int) -> bytes:
        """Take the next audio to send, up to ``max_samples``."""
        begin = (self.sent - self._held_from) * _SAMPLE_BYTES
        piece = bytes(self._held[begin : begin + max_samples * _SAMPLE_BYTES])
        count = len(piece) // _SAMPLE_BYTES
        self.sent += count
        self._heard += count
        return piece

    def place(self, heard: int, *, is_end: bool = False) -> int:
        """Where in the stream the connection's sample ``heard`` is; an end belongs to what it ends."""
        heard = min(max(heard, 0), self._heard)
        find = bisect_left if is_end else bisect_right
        at = max(0, find(self._stretches, heard, key=lambda stretch: stretch[0]) - 1)
        began, position = self._stretches[at]
        return position + max(0, heard - began)

    def cover(self, position: int) -> None:
        """The connection's results up to ``position`` are final: it will say no more of what is before."""
        if position > self.settled:
            self._settle(position)

    def detach(self, reason: str = "lost") -> None:
        """The connection is gone: what it had not made final and is not kept is lost. Harmless twice."""
        for first, end in self._pieces():
            self._lose(first, min(end, self._held_from), reason)
        self.sent = self.settled = self._held_from
        self._stretches, self._heard = [(0, self._held_from)], 0

    def give_up(self, reason: str) -> None:
        """Nothing more is sent: what is pending is in a gap, and so is what may still come."""
        self.detach(reason)
        self._why, self._max_samples = reason, 0
        self._bound()
        self.report()

    def report(self) -> None:
        """Let what is known of the growing gap be told; what follows is another one."""
        if self._growing is not None:
            self.lost.append(self._growing)
            self._growing = None

    def _pieces(self) -> list[tuple[int, int]]:
        """What this connection was sent and has not made final, as (first, end) in the stream."""
        ends = [began for began, _ in self._stretches[1:]] + [self._heard]
        pieces = [
            (max(position, self.settled), position + end - began)
            for (began, position), end in zip(self._stretches, ends, strict=True)
        ]
        return [(first, end) for first, end in pieces if first < end]

    def _bound(self) -> None:
        first = self.received - self._max_samples
        if first > self._held_from:
            if first > self.sent:
                self._skip(first)
            self._forget(first)

    def _skip(self, to: int) -> None:
        """Drop the unsent audio before ``to``."""
        self._lose(self.sent, to, self._why)
        is_settled = self.settled == self.sent
        self.sent = to
        stretches = self._stretches
        if stretches[-1][0] == self._heard:
            stretches.pop()
        stretches.append((self._heard, to))
        if is_settled:
            self._settle(to)
        elif len(stretches) > STRETCHES_MAX_COUNT:
            first, end = self._pieces()[0]
            self._lose(first, end, "lost")
            self._settle(end)

    def _settle(self, to: int) -> None:
        stretches = self._stretches
        while len(stretches) > 1 and to >= stretches[0][1] + stretches[1][0] - stretches[0][0]:
            stretches.pop(0)
            to = max(to, stretches[0][1])
        self.settled = to
        if to > self._held_from:
            self._forget(to)

    def _forget(self, before: int) -> None:
        del self._held[: (before - self._held_from) * _SAMPLE_BYTES]
        self._held_from = before

    def _lose(self, first: int, end: int, reason: str) -> None:
        if first >= end:
            return
        growing = self._growing
        if growing is not None and (growing.end, growing.reason) == (first, reason):
            first = growing.first
        else:
            self.report()
        self._growing = Stretch(first, end, reason)
