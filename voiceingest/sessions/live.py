"""The streams that are live in this process, and the sessions they are the audio of."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from twisted.logger import Logger

from ..interfaces import StreamFacts
from ..session_interfaces import ILiveStream, Session


def new_session_id() -> str:
    """128 random bits."""
    return f"ses_{secrets.token_urlsafe(16)}"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stream ended, and when by the wall clock."""

    reason: str
    frames: int
    at: float


@dataclass(slots=True, eq=False)
class Live:
    """A stream and what is known of its session: nothing before it was written.

    ``fresh_id`` names the session that is made for it, where there is none yet.
    """

    stream: ILiveStream
    facts: StreamFacts
    user_id: str
    transport: str
    began_at: float
    session: Session | None = None
    ending: Ending | None = None
    fresh_id: str = field(default_factory=new_session_id)


class LiveStreams:
    """See the head of this file. As many as there are connections, and those that wait for their client."""

    _log = Logger()

    def __init__(self) -> None:
        self._by_stream: dict[ILiveStream, Live] = {}
        self._by_session: dict[str, Live] = {}

    def __len__(self) -> int:
        return len(self._by_stream)

    def add(self, one: Live) -> None:
        """A stream has begun."""
        self._by_stream[one.stream] = one

    def remove(self, stream: ILiveStream) -> Live | None:
        """A stream has ended; what was known of it, where it had begun."""
        one = self._by_stream.pop(stream, None)
        if one is not None:
            self._unname(one)
        return one

    def name(self, one: Live, session: Session | None) -> None:
        """Its session is known now; or, with ``None``, no more."""
        self._unname(one)
        one.session = session
        if session is not None and one.stream in self._by_stream:
            self._by_session[session.session_id] = one

    def _unname(self, one: Live) -> None:
        session_id = None if one.session is None else one.session.session_id
        if session_id is not None and self._by_session.get(session_id) is one:
            del self._by_session[session_id]

    def of_session(self, session_id: str) -> Live | None:
        """The stream that is the audio of a session, where it is here."""
        return self._by_session.get(session_id)

    @property
    def session_ids(self) -> list[str]:
        """The sessions whose streams are here."""
        return list(self._by_session)

    @property
    def nameless(self) -> list[Live]:
        """The streams that no session is known of."""
        return [one for one in self._by_stream.values() if one.session is None]

    # --- ending them

    def hang_up(self, session_id: str) -> bool:
        """End the stream of a session in order, where it is here."""
        one = self._by_session.get(session_id)
        if one is None:
            return False
        try:
            one.stream.hang_up(None)
        except Exception:
            # Its session is over all the same.
            self._log.failure("a stream could not be ended", event="hang_up_failed")
        return True
