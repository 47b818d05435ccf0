"""The life of an ingest stream as a table.

Two rules: every change of state goes through :func:`next_state`, and this file knows no socket,
no message and no clock. The drawing in ``docs/explanation/architecture.md`` is made from it.
"""

from __future__ import annotations

import enum
from typing import Final

from ..errors import AlreadyStarted, AlreadyStopped, NotStarted, PeerError


class State(enum.Enum):
    """Where a stream is in its life."""

    WAITING = "waiting"  # connected, authenticated, no start yet
    LIVE = "live"  # audio flows
    DETACHED = "detached"  # its connection was lost; the client may come back
    STOPPING = "stopping"  # stop was said, the last frames are being flushed
    ENDED = "ended"  # nothing more will be taken or sent


class Step(enum.Enum):
    """What can happen to a stream."""

    START = "start"
    FRAME = "frame"
    STOP = "stop"
    AUTH = "auth"
    DETACH = "detach"  # the connection is gone, and the client may come back
    RESUME = "resume"  # it has, at a new connection
    FLUSHED = "flushed"  # the bus has confirmed or dropped the last frame
    CUT = "cut"  # we end it: an error that closes, a deadline, a drain
    GONE = "gone"  # the peer is gone


TRANSITIONS: Final[dict[tuple[State, Step], State]] = {
    (State.WAITING, Step.START): State.LIVE,
    (State.WAITING, Step.AUTH): State.WAITING,
    (State.WAITING, Step.CUT): State.ENDED,
    (State.WAITING, Step.GONE): State.ENDED,
    (State.LIVE, Step.FRAME): State.LIVE,
    (State.LIVE, Step.AUTH): State.LIVE,
    (State.LIVE, Step.STOP): State.STOPPING,
    (State.LIVE, Step.DETACH): State.DETACHED,
    (State.LIVE, Step.RESUME): State.LIVE,
    (State.LIVE, Step.CUT): State.ENDED,
    (State.LIVE, Step.GONE): State.ENDED,
    (State.DETACHED, Step.RESUME): State.LIVE,
    (State.DETACHED, Step.STOP): State.STOPPING,
    (State.DETACHED, Step.CUT): State.ENDED,
    (State.DETACHED, Step.GONE): State.ENDED,
    (State.STOPPING, Step.AUTH): State.STOPPING,
    (State.STOPPING, Step.RESUME): State.STOPPING,
    (State.STOPPING, Step.FLUSHED): State.ENDED,
    (State.STOPPING, Step.CUT): State.ENDED,
    (State.STOPPING, Step.GONE): State.ENDED,
    (State.ENDED, Step.GONE): State.ENDED,
}

# What a peer may well say at the wrong time, and the answer it gets; the state stays as it is.
REFUSALS: Final[dict[tuple[State, Step], type[PeerError]]] = {
    (State.WAITING, Step.FRAME): NotStarted,
    (State.WAITING, Step.STOP): NotStarted,
    (State.LIVE, Step.START): AlreadyStarted,
    (State.DETACHED, Step.START): AlreadyStarted,
    (State.DETACHED, Step.FRAME): AlreadyStopped,
    (State.DETACHED, Step.AUTH): AlreadyStopped,
    (State.STOPPING, Step.START): AlreadyStarted,
    (State.STOPPING, Step.FRAME): AlreadyStopped,
    (State.STOPPING, Step.STOP): AlreadyStopped,
    (State.ENDED, Step.START): AlreadyStopped,
    (State.ENDED, Step.FRAME): AlreadyStopped,
    (State.ENDED, Step.STOP): AlreadyStopped,
    (State.ENDED, Step.AUTH): AlreadyStopped,
}


class ImpossibleStep(AssertionError):
    """A pair that is in neither table: a bug of ours, never the peer's doing."""


def next_state(state: State, step: Step) -> State:
    """The state after ``step``.

    Raises: the ``PeerError`` of :data:`REFUSALS` when the peer may not say this now;
    :class:`ImpossibleStep` for a pair in neither table.
    """
    try:
        return TRANSITIONS[state, step]
    except KeyError:
        pass
    refusal = REFUSALS.get((state, step))
    if refusal is None:
        raise ImpossibleStep(f"{step} in {state}")
    raise refusal()


def mermaid() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.WAITING.value}"]
    lines += [
        f"    {before.value} --> {after.value}: {step.value}"
        for (before, step), after in TRANSITIONS.items()
        if before is not State.ENDED
    ]
    lines.append(f"    {State.ENDED.value} --> [*]")
    return "\n".join(lines) + "\n"
