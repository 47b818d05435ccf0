"""The circuit breaker in front of a bus, as a table.

Open: there is no connection, nothing is sent. Half-open: a connection stands, one small batch is
out as a probe. Closed: it has been answered, everything flows. A bus that takes connections and
answers nothing is so never given more than a probe.
"""

from __future__ import annotations

import enum
from typing import Final


class BreakerState(enum.IntEnum):
    """How far the bus is trusted; the number is the value of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class BreakerStep(enum.Enum):
    """What the bus does."""

    UP = "up"  # a connection stands
    ANSWERED = "answered"  # a message was confirmed or refused: somebody is there
    DOWN = "down"  # the connection is gone, or an attempt to connect failed


TRANSITIONS: Final[dict[tuple[BreakerState, BreakerStep], BreakerState]] = {
    (BreakerState.OPEN, BreakerStep.UP): BreakerState.HALF_OPEN,
    (BreakerState.OPEN, BreakerStep.DOWN): BreakerState.OPEN,
    (BreakerState.HALF_OPEN, BreakerStep.ANSWERED): BreakerState.CLOSED,
    (BreakerState.HALF_OPEN, BreakerStep.DOWN): BreakerState.OPEN,
    (BreakerState.CLOSED, BreakerStep.ANSWERED): BreakerState.CLOSED,
    (BreakerState.CLOSED, BreakerStep.DOWN): BreakerState.OPEN,
}


class Breaker:
    """The state, and how often it went open after it had not been."""

    __slots__ = ("opens", "state")

    def __init__(self) -> None:
        self.state = BreakerState.OPEN
        self.opens = 0

    def step(self, step: BreakerStep) -> None:
        """Move on. Raises: ``KeyError`` for a pair that is not in the table, which is a bug of the bus."""
        after = TRANSITIONS[self.state, step]
        if after is BreakerState.OPEN and self.state is not BreakerState.OPEN:
            self.opens += 1
        self.state = after
