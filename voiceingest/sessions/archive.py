"""Where sessions are kept, and what every part around that shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..config import Settings
from ..metrics import Metrics
from ..session_interfaces import ISessionCache, ISessionStore, Session
from ..stream import SessionState
from .live import LiveStreams


@dataclass(frozen=True, slots=True)
class Archive:
    """See the head of this file. ``node`` is the name of this process, and of no other, at any time."""

    store: ISessionStore
    cache: ISessionCache
    live: LiveStreams
    settings: Settings
    metrics: Metrics
    node: str
    wall_clock: Callable[[], float]

    def lapses_at(self, now: float) -> float:
        """When a session lapses that was changed now."""
        return now + self.settings.session_ttl_s

    async def write(self, before: Session, after: Session) -> Session | None:
        """Write a session as it is to be; ``None`` where somebody else has changed it since it was read.

        Returns it with its new version; the caller puts it into the cache.
        Raises: ``StoreUnavailable``.
        """
        after = replace(after, version=before.version + 1)
        try:
            is_written = await self.store.update(after, before.version)
        except BaseException:
            # It may have been written: whoever asks next reads it from the store.
            await self.cache.drop(before.session_id)
            raise
        if not is_written:
            return None
        self.count(before.status, after)
        return after

    def count(self, before: SessionState | None, session: Session) -> None:
        """Count where a session has moved to, if it has."""
        if session.status is not before:
            self.metrics.session_moves[session.status.value] += 1
