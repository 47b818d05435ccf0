"""What the end of a stream makes of its session, as a table.

Well ended is what either side wanted, and what happens to every line some day: the caller said stop, or was
cut off and did not come back; its credential lapsed or was revoked. All else is an error: ours, that of
something we depend on, or of a caller who broke the rules, did not read, or was not allowed.
"""

from __future__ import annotations

from typing import Final

from ..stream import SessionStep

# Why a session ended whose user ended it. A stream that has ended so is never begun again in its name.
ENDED: Final = "ended"
EXPIRED: Final = "expired"
LOST: Final = "lost"

WELL: Final = frozenset(
    {
        "stopped",  # the caller has said its last
        ENDED,
        "disconnected",  # its connection was lost, and it did not come back in time
        "ping_timeout",  # the same, found out by us
        "idle_timeout",  # it was silent for too long
        "replaced",  # it has begun anew at another connection
        "token_expired",
        "token_revoked",
        "device_revoked",
    }
)

# The daemon shuts down, and another process is to go on with the stream.
GOES_ON: Final = "moved"


def step_for(reason: str, *, is_its_name: bool) -> SessionStep | None:
    """What happens to the session of a stream that ended so; ``None``: it stays active.

    ``is_its_name``: the interaction is named after the session, and who begins it anew goes on with it.
    """
    if reason == GOES_ON or (reason == "replaced" and is_its_name):
        return None
    return SessionStep.END if reason in WELL else SessionStep.FAIL
