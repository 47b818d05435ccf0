"""Whose streams are live, to end them when their tokens are revoked.

A credential is checked some time before its stream begins: a ticket waits to be redeemed, a
connection to say ``start``. So a user whose tokens were revoked stays marked for as long as that may
take; what begins meanwhile is ended too, unless the user has been let in anew since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from ..config import Settings
from ..deadlines import Deadlines
from ..errors import TokenRevoked, VoiceIngestError
from ..interfaces import IClock, StreamFacts
from ..session_interfaces import ILiveStream

if TYPE_CHECKING:
    from ..metrics import Metrics

# Users who are marked at once, about 200 bytes each; past it the oldest mark goes.
MARKS_MAX_COUNT: Final = 10_000

# How much longer than a ticket and a connection may wait: their handshake, their clocks.
_MARGIN_S: Final = 15.0

_NEVER: Final = float("inf")


class UserStreams:
    """Keeps them by user (``IStreamRecords``, ``devices.IUserStreams``)."""

    _log = Logger()

    def __init__(self, settings: Settings, clock: IClock, deadlines: Deadlines, metrics: Metrics) -> None:
        self._marked_s = settings.ticket_ttl_s + settings.start_timeout_s + _MARGIN_S
        self._now = clock.seconds
        self._deadlines = deadlines
        self._metrics = metrics
        self._user: dict[ILiveStream, str] = {}
        # When each has begun. Dictionaries keep the order: what began first is hung up first.
        self._of_user: dict[str, dict[ILiveStream, float]] = {}
        self._marked: dict[str, float] = {}
        self._late: dict[ILiveStream, None] = {}

    def __len__(self) -> int:
        return len(self._user)

    def began(self, stream: ILiveStream, facts: StreamFacts, subject: str, transport: str) -> None:
        """A stream is live."""
        self._user[stream] = subject
        self._of_user.setdefault(subject, {})[stream] = self._now()
        if self._marked.get(subject, 0.0) > self._now():
            # Not from within its own start, which is not over.
            self._late[stream] = None
            self._deadlines.wake(self._end_late, self._now())

    def ended(self, stream: ILiveStream, reason: str, frames: int) -> None:
        """It takes nothing more."""
        self._late.pop(stream, None)
        subject = self._user.pop(stream, None)
        if subject is None:
            return
        streams = self._of_user[subject]
        del streams[stream]
        if not streams:
            del self._of_user[subject]

    def end_streams(self, user_id: str, error: VoiceIngestError) -> None:
        """End every stream of a user, and for a while what was let in before and begins later."""
        self._mark(user_id)
        self._hang_up(list(self._of_user.get(user_id, ())), error)

    @property
    def users(self) -> list[str]:
        """Whose streams are live."""
        return list(self._of_user)

    def end_older(self, user_id: str, age_s: float, error: VoiceIngestError) -> None:
        """End every stream of a user that began at least ``age_s`` seconds ago: with -inf, every one."""
        before = self._now() - age_s
        streams = self._of_user.get(user_id, {})
        self._hang_up([stream for stream, began in streams.items() if began <= before], error)

    def let_in(self, user_id: str) -> None:
        """The user has brought a token that was not revoked."""
        if self._marked:
            self._marked.pop(user_id, None)

    def _mark(self, user_id: str) -> None:
        now = self._now()
        self._marked.pop(user_id, None)
        # All are marked equally long, so the oldest are in front.
        while self._marked:
            oldest = next(iter(self._marked))
            if self._marked[oldest] > now and len(self._marked) < MARKS_MAX_COUNT:
                break
            del self._marked[oldest]
        self._marked[user_id] = now + self._marked_s

    def _end_late(self, now: float) -> float:
        streams, self._late = list(self._late), {}
        self._hang_up(streams, TokenRevoked(reason="revoked"))
        return _NEVER

    def _hang_up(self, streams: list[ILiveStream], error: VoiceIngestError) -> None:
        for stream in streams:
            self._metrics.streams_revoked += 1
            try:
                stream.hang_up(error)
            except Exception:
                # The others are to be ended all the same.
                self._log.failure("a stream could not be ended", event="hang_up_failed")
