"""Hears of every stream of the process (``IStreamRecords``): plain calls, and the writing is done later."""

from __future__ import annotations

from collections.abc import Callable

from ..interfaces import StreamFacts
from ..limits import IDENTIFIER_MAX_CHARS
from ..session_interfaces import ILiveStream
from .live import Ending, Live, LiveStreams
from .writer import Writer


class StreamRecords:
    """See the head of this file."""

    def __init__(self, live: LiveStreams, writer: Writer, wall_clock: Callable[[], float]) -> None:
        self._live = live
        self._writer = writer
        self._wall_clock = wall_clock

    def began(self, stream: ILiveStream, facts: StreamFacts, subject: str, transport: str) -> None:
        """A stream is live; ``subject`` is whose credential it came with."""
        one = Live(stream, facts, user_of(subject, facts.tenant_id), transport, self._wall_clock())
        self._live.add(one)
        self._writer.put(one)

    def ended(self, stream: ILiveStream, reason: str, frames: int) -> None:
        """It takes nothing more."""
        one = self._live.remove(stream)
        if one is not None:
            one.ending = Ending(reason, frames, self._wall_clock())
            self._writer.put(one)


def user_of(subject: str, tenant_id: str) -> str:
    """Whose the session of a stream is: its tenant's where its credential names nobody we can keep.

    What is longer than a name may be is not cut: two users must not become one.
    """
    is_name = 0 < len(subject) <= IDENTIFIER_MAX_CHARS and subject.isprintable()
    return subject if is_name else tenant_id
