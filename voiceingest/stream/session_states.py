"""The states of a session's record, as a table: the one place where a move is allowed.

The drawing in ``docs/explanation/sessions.md`` is made from it.
"""

from __future__ import annotations

import enum
from typing import Final

from ..errors import IllegalMove


class SessionState(enum.Enum):
    """Where a session stands; the values are what the API shows and the database keeps."""

    PENDING = "pending"
    ACTIVE = "active"
    COMPLETED = "completed"
    ERROR = "error"
    EXPIRED = "expired"

    @property
    def is_open(self) -> bool:
        """Whether it can still change."""
        return self in (SessionState.PENDING, SessionState.ACTIVE)


class SessionStep(enum.Enum):
    """What may happen to a session."""

    START = "start"
    END = "end"
    FAIL = "fail"
    EXPIRE = "expire"
    EDIT = "edit"


SESSION_MOVES: Final[dict[tuple[SessionState, SessionStep], SessionState]] = {
    (SessionState.PENDING, SessionStep.START): SessionState.ACTIVE,
    (SessionState.PENDING, SessionStep.END): SessionState.COMPLETED,
    (SessionState.PENDING, SessionStep.FAIL): SessionState.ERROR,
    (SessionState.PENDING, SessionStep.EXPIRE): SessionState.EXPIRED,
    (SessionState.PENDING, SessionStep.EDIT): SessionState.PENDING,
    (SessionState.ACTIVE, SessionStep.END): SessionState.COMPLETED,
    (SessionState.ACTIVE, SessionStep.FAIL): SessionState.ERROR,
    (SessionState.ACTIVE, SessionStep.EXPIRE): SessionState.EXPIRED,
    (SessionState.ACTIVE, SessionStep.EDIT): SessionState.ACTIVE,
}


def next_session_state(state: SessionState, step: SessionStep) -> SessionState:
    """Where ``step`` leads from ``state``. Raises: ``IllegalMove`` for what is not in the table."""
    found = SESSION_MOVES.get((state, step))
    if found is None:
        raise IllegalMove
    return found


def session_mermaid() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {SessionState.PENDING.value}"]
    lines += [
        f"    {before.value} --> {after.value}: {step.value}"
        for (before, step), after in SESSION_MOVES.items()
    ]
    lines += [f"    {state.value} --> [*]" for state in SessionState if not state.is_open]
    return "\n".join(lines) + "\n"
