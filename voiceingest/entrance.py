"""How a stream may begin: anew, in the place of an older one, or where its client left off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from .audio import AudioFormat
from .errors import ResumeExpired, ResumeRefused, VoiceIngestError
from .house import House
from .registry import ILive
from .stream import Wish, is_same_numbering, seq_to_resume_at

if TYPE_CHECKING:
    from .flow import Flow


@dataclass(frozen=True, slots=True)
class Entry:
    """``adopts`` is the stream to go on with; else one is begun, and ``replaces`` the one there was.

    Or, with ``last``, there is nothing to go on with: it was stopped, and this is what was said then.
    """

    adopts: Flow | None
    replaces: ILive | None
    epoch: int
    next_seq: int
    is_resumed: bool
    last: dict[str, Any] | None = None


def enter(house: House, tenant_id: str, interaction_id: str, audio: AudioFormat, wish: Wish) -> Entry:
    """Decide about a ``start`` of an authenticated client.

    Raises: ``Draining``, ``Forbidden``; ``Replaced``, ``ResumeRefused``, ``ResumeExpired`` where it
    brings a token that cannot be used.
    """
    holder = house.registry.holder(tenant_id, interaction_id)
    wall_ms = int(house.wall_clock() * 1000)
    if wish.token is None:
        after = holder.epoch if holder is not None else 0
        return Entry(None, holder, house.registry.next_epoch(wall_ms, after), 1, False)
    try:
        return _resume(house, holder, (tenant_id, interaction_id, audio), wish)
    except VoiceIngestError as error:
        house.metrics.resumes_refused[error.code] += 1
        raise


def _resume(house: House, holder: ILive | None, facts: tuple[str, str, AudioFormat], wish: Wish) -> Entry:
    tokens = house.tokens
    claim = tokens.read(wish.token or "")
    audio = AudioFormat(claim.sample_rate, claim.encoding)
    if (claim.tenant_id, claim.interaction_id, audio) != facts:
        raise ResumeRefused
    if holder is not None and is_same_numbering(claim, holder.epoch):
        house.metrics.streams_resumed["here"] += 1
        return Entry(cast("Flow", holder), None, claim.epoch, 0, True)
    name = (claim.tenant_id, claim.interaction_id, claim.epoch)
    last = house.registry.recall(name)
    if last is not None:
        return Entry(None, None, claim.epoch, 0, True, last)
    if house.registry.has_ended(name, house.wall_clock() - claim.issued_at):
        # Its last event is on the bus: nothing may follow it.
        raise ResumeExpired
    next_seq = seq_to_resume_at(
        claim, wish, node=tokens.node, window_s=tokens.window_s, now=house.wall_clock()
    )
    house.metrics.streams_resumed["elsewhere"] += 1
    house.registry.note_epoch(claim.epoch)
    return Entry(None, holder, claim.epoch, next_seq, True)
