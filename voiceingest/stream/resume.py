"""Whether a stream can be gone on with, and from which frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import Replaced, ResumeExpired
from ..limits import RESUME_TOKEN_MAX_AGE_S


@dataclass(frozen=True, slots=True)
class ResumeClaim:
    """What a resume token says; ``issued_at`` in seconds since the epoch.

    ``next_seq`` is the frame to go on with, as far as was known: for certain when ``is_exact``, which
    it is in the token of ``moved``. ``node`` names the process that issued it.
    """

    node: str
    tenant_id: str
    interaction_id: str
    epoch: int
    sample_rate: int
    encoding: str
    next_seq: int
    is_exact: bool
    issued_at: float


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client says about resuming when it starts.

    ``acked`` is the last seq acknowledged to it, ``from_seq`` the first it can still send, ``resumable``
    that it would rather be moved early than stay until the deadline of a shutdown.
    """

    token: str | None = None
    acked: int = 0
    from_seq: int = 1
    resumable: bool = False


NO_WISH: Final = Wish()


def seq_to_resume_at(claim: ResumeClaim, wish: Wish, *, node: str, window_s: float, now: float) -> int:
    """The frame that a stream which is not live in this process is gone on with.

    ``now`` is in seconds since the epoch. Raises: ``ResumeExpired``.
    """
    age_s = now - claim.issued_at
    if claim.is_exact:
        if age_s > window_s:
            raise ResumeExpired
        return claim.next_seq
    # Of our own streams we know that it is over; of another process' only what the client knows.
    if claim.node == node or age_s > RESUME_TOKEN_MAX_AGE_S:
        raise ResumeExpired
    return max(claim.next_seq, wish.acked + 1)


def is_same_numbering(claim: ResumeClaim, live_epoch: int) -> bool:
    """Whether the live stream is the one of the token; false when the token is of a newer one.

    Raises: ``Replaced`` when the interaction has begun anew since.
    """
    if claim.epoch < live_epoch:
        raise Replaced
    return claim.epoch == live_epoch
