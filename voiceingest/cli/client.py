"""A client of ``/v1/ingest``: open, send, watch acknowledgements, stop; over several connections.

With ``resume`` it keeps every frame until it is acknowledged and, when the connection is lost or the
daemon moves its streams elsewhere, connects again and goes on where the daemon says. What it heard
is in its :class:`~.tally.Tally`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from .failures import CommandFailed, ConnectionFailed
from .link import Link, Refused
from .resumption import START_ANEW
from .session import Identity, Session
from .tally import Ending
from .target import Target, Trust
from .waiting import Waiting

OPEN_TIMEOUT_S: Final = 15.0
CLOSE_TIMEOUT_S: Final = 1.0
# A line may break before the stream has begun; what always hangs up is no daemon.
OPEN_AGAIN_COUNT: Final = 2

# A connection that takes nothing for so long is taken for dead, where there may be another.
STALLED_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Endurance:
    """What a client does when its connection is lost: ``resume`` makes another and goes on.

    ``live`` audio comes whether or not there is a connection: the newest is kept, and what had to be
    forgotten is declared. Audio that can wait does: see ``IngestClient.room``.
    """

    resume: bool = False
    live: bool = True


class IngestClient:
    """One stream. ``renew`` mints a token: to answer ``auth_expiring``, and for each new connection.

    ``on_event`` may be set to be told every message of the daemon.
    """

    def __init__(
        self,
        reactor: Any,
        target: Target,
        identity: Identity,
        token: str | None,
        *,
        trust: Trust | None = None,
        renew: Callable[[], str] | None = None,
        open_timeout_s: float = OPEN_TIMEOUT_S,
        endurance: Endurance | None = None,
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._token = token
        self._trust = trust or Trust()
        self._renew = renew
        self._open_timeout_s = open_timeout_s
        self._endurance = endurance or Endurance()
        self._session = Session(identity, reactor.seconds, resume=self._endurance.resume, renew=renew)
        self._waiting = Waiting(reactor)
        self._link: Link | None = None
        self._aborted = False
        self.on_event: Callable[[dict[str, Any]], None] | None = None
        self.tally = self._session.tally
        self.tls_version = ""
        self.ending: Ending | None = None
        self.gave_up: CommandFailed | None = None

    # --- what a caller does

    async def open(self) -> None:
        """Connect, upgrade and start the stream; tried again where a daemon drains or the line breaks.

        Raises: ``ConnectionFailed`` where there is nobody, ``Refused`` where there is and says no.
        """
        give_up_s = self._reactor.seconds() + self._open_timeout_s
        attempt = 0
        while True:
            try:
                await self._attach()
                return
            except CommandFailed as failed:
                if self._reactor.seconds() > give_up_s or not self._may_open_again(failed, attempt):
                    self.ending = failed.ending if isinstance(failed, Refused) else self.ending
                    raise
            await self._pause(attempt)
            attempt += 1

    def send(self, audio: bytes) -> None:
        """Send one frame of PCM16LE, now or when there is a connection. Nothing once it has ended."""
        if self.ending is not None or self.tally.started is None:
            return
        session, link = self._session, self._link
        session.add(audio)
        if link is not None and session.attached:
            session.pump(link)
            if session.has_hole or (link.is_paused and session.resume and self._is_stalled(link)):
                link.abort()

    async def room(self, timeout_s: float = 60.0) -> bool:
        """Wait until a frame may be sent; false when it has ended or could not in time."""
        if self._is_held():
            await self._waiting.until(lambda: self.ending is not None or not self._is_held(), timeout_s)
        return self.ending is None and not self._is_held()

    async def stop(self, timeout_s: float) -> None:
        """Say stop, wait for ``stopped`` and for the close; after ``timeout_s`` hang up."""
        self._session.stopping = True
        if self._link is not None:
            self._session.pump(self._link)
        while self.ending is None:
            if not await self._waiting.until(lambda: self._is_over() or self._is_away(), timeout_s):
                break
            # Coming back has a deadline of its own, and says stop again.
            away_s = self._session.resumption.window_s + self._open_timeout_s * 2
            if not await self._waiting.until(lambda: self._is_over() or not self._is_away(), away_s):
                break
        if self.ending is None:
            self.abort()
            await self._waiting.until(self._is_over, CLOSE_TIMEOUT_S)

    def abort(self) -> None:
        """Hang up at once, and do not come back."""
        self._aborted = True
        self._waiting.changed()
        self.break_link()

    def break_link(self) -> None:
        """Hang up the present connection, as a network might."""
        if self._link is not None:
            self._link.abort()

    # --- what a link tells

    def refused(self, code: str, message: str) -> None:
        """An upgrade was refused with an error code."""
        self.tally.error(code, message)

    def heard(self, link: Link, payload: bytes) -> None:
        """One text message of the server."""
        if link is not self._link:
            return
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self.tally.error("bad_json", "The server sent something that is not a JSON object")
            return
        self._session.hear(link, message)
        if self.on_event is not None:
            self.on_event(message)
        if self._session.moved and self._session.resume:
            link.retire()
            self._lost(Ending(close_code=1001))
        self._waiting.changed()

    def changed(self, link: Link) -> None:
        """A link has opened, ended, or begun or stopped to take bytes."""
        if link is not self._link:
            return
        if link.ending is not None and self._session.attached:
            self._lost(link.ending)
        elif not link.is_paused:
            self._session.pump(link)
        self._waiting.changed()

    # --- inside

    def _is_over(self) -> bool:
        return self.ending is not None

    def _is_away(self) -> bool:
        return self.ending is None and not self._session.attached

    def _is_held(self) -> bool:
        session, link = self._session, self._link
        paused = link is not None and session.attached and not link.takes_frames
        if session.resume and self._endurance.live:
            return False
        return paused or (session.resume and (self._is_away() or session.backlog.is_full))

    def _is_stalled(self, link: Link) -> bool:
        return bool(self._reactor.seconds() - link.paused_at_s > STALLED_S)

    # --- coming and coming back

    async def _attach(self) -> None:
        """One connection, until the daemon has said ``started``. Raises as ``open`` does."""
        began = self.tally.started is not None
        token = self._renew() if began and self._renew is not None else self._token
        self.tally.connected()
        self._link = link = Link(self._reactor, self._target, self._trust, token, self)
        await link.connect()
        await self._waiting.until(lambda: link.is_open or link.ending is not None, self._open_timeout_s)
        failed = link.failed_to_open()
        if failed is not None:
            link.abort()
            raise failed
        self.tls_version = link.tls_version
        if link.ending is None:
            self._session.say_start(link)
            answered = self._answer_to_start(link)
            await self._waiting.until(answered, self._open_timeout_s)
        if not self._session.attached:
            if self.tally.last_code is not None and link.is_open:
                # The close frame with its code follows the error, where the error closes at all.
                await self._waiting.until(lambda: link.ending is not None, CLOSE_TIMEOUT_S)
            link.abort()
            raise Refused(self.tally, link.ending, self._target.label)

    def _answer_to_start(self, link: Link) -> Callable[[], bool]:
        def answered() -> bool:
            code = self.tally.last_code
            return self._session.attached or link.ending is not None or (code not in (None, *START_ANEW))

        return answered

    def _lost(self, ending: Ending) -> None:
        """The connection of a stream that had begun is gone: for good, or to be made again."""
        session = self._session
        session.attached = False
        again = session.resume and not self._aborted and self.tally.stopped is None
        resumption = session.resumption
        if again and resumption.token is not None and resumption.may_retry(ending):
            ensureDeferred(self._come_back()).addErrback(self._stay_away)
        else:
            self.ending = ending

    async def _come_back(self) -> None:
        """Connect until the stream goes on. Raises: ``CommandFailed`` when it does not in time."""
        give_up_s = self._reactor.seconds() + self._session.resumption.window_s
        attempt = 0
        while True:
            await self._pause(attempt)
            attempt += 1
            if self._aborted:
                raise ConnectionFailed("it was interrupted", reason="aborted")
            try:
                await self._attach()
                return
            except CommandFailed as failed:
                if not self._may_try_again(failed) or self._reactor.seconds() > give_up_s:
                    raise

    def _may_open_again(self, failed: CommandFailed, attempt: int) -> bool:
        if not self._session.resume or self._aborted:
            return False
        if isinstance(failed, Refused) and failed.code == "draining":
            return True
        broke = isinstance(failed, Refused) and failed.ending == Ending(close_code=1006)
        lost = isinstance(failed, ConnectionFailed) and failed.reason == "lost"
        return (broke or lost) and attempt < OPEN_AGAIN_COUNT

    def _may_try_again(self, failed: CommandFailed) -> bool:
        if self.tally.unanswered:
            return False
        if isinstance(failed, ConnectionFailed):
            # Whoever answers there and is not who was believed before is not asked twice.
            return not failed.reason.startswith("tls")
        if not isinstance(failed, Refused):
            return False
        return failed.ending is None or self._session.resumption.may_retry(failed.ending)

    def _stay_away(self, failure: Failure) -> None:
        problem = failure.value
        if not isinstance(problem, CommandFailed):
            problem = CommandFailed(f"a mistake of this program: {type(problem).__name__}: {problem}")
        # Where the stream has been stopped there was nothing to come back to.
        is_over = self.tally.unanswered or self.tally.stopped is not None
        self.gave_up = None if is_over else problem
        refused = problem.ending if isinstance(problem, Refused) else None
        self.ending = refused or Ending(close_code=1006)
        self._waiting.changed()

    async def _pause(self, attempt: int) -> None:
        await self._waiting.until(lambda: self._aborted, self._session.resumption.pause_s(attempt))
