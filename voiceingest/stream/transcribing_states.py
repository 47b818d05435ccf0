"""The life of one stream's transcription as a table: when there is a connection, and what follows it.

A pair that is not in the table is a bug of ours and raises.
"""

from __future__ import annotations

import enum
from typing import Final

from .states import ImpossibleStep


class Hearing(enum.Enum):
    """How a stream is being transcribed."""

    IDLE = "idle"  # no connection, and nothing to send
    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"  # CloseStream was sent, the last results are on their way
    WAITING = "waiting"  # the connection failed; another is tried after a pause
    REFUSED = "refused"  # it is of no use to try again
    OVER = "over"


class Turn(enum.Enum):
    """What can happen to it."""

    CONNECT = "connect"
    OPENED = "opened"
    CLOSE = "close"  # CloseStream is sent
    CLOSED = "closed"  # the connection ended as we asked
    LOST = "lost"  # it ended, or did not come about, in a way that heals
    REFUSED = "refused"  # the same in a way that does not
    END = "end"


TRANSITIONS: Final[dict[tuple[Hearing, Turn], Hearing]] = {
    (Hearing.IDLE, Turn.CONNECT): Hearing.CONNECTING,
    (Hearing.CONNECTING, Turn.OPENED): Hearing.OPEN,
    (Hearing.CONNECTING, Turn.LOST): Hearing.WAITING,
    (Hearing.CONNECTING, Turn.REFUSED): Hearing.REFUSED,
    (Hearing.OPEN, Turn.CLOSE): Hearing.CLOSING,
    (Hearing.OPEN, Turn.LOST): Hearing.WAITING,
    (Hearing.OPEN, Turn.REFUSED): Hearing.REFUSED,
    (Hearing.CLOSING, Turn.CLOSED): Hearing.IDLE,
    (Hearing.CLOSING, Turn.LOST): Hearing.WAITING,
    (Hearing.CLOSING, Turn.REFUSED): Hearing.REFUSED,
    (Hearing.WAITING, Turn.CONNECT): Hearing.CONNECTING,
    **{(state, Turn.END): Hearing.OVER for state in Hearing},
}


def next_hearing(state: Hearing, turn: Turn) -> Hearing:
    """The state after ``turn``. Raises: :class:`ImpossibleStep` for a pair that cannot be."""
    try:
        return TRANSITIONS[state, turn]
    except KeyError:
        raise ImpossibleStep(f"{turn} in {state}") from None
