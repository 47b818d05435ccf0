"""A service tree with an order: each part is waited for before the next, up and down.

Twisted's ``MultiService`` calls the stop of all its children at once and waits for none: the bus is
closed while streams still flush to it. Here the parts start first to last and stop last to first,
each with a deadline of its own. What does not stop in time is logged, counted and left behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, maybeDeferred
from twisted.internet.defer import TimeoutError as OutOfTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import InternalError, OperatorError, VoiceIngestError


class IPart(Protocol):
    """A part of the daemon that is started and stopped."""

    @property
    def name(self) -> str:
        """What the logs call it."""

    def start(self) -> Deferred[Any] | None:
        """Come up. A failure stops the daemon; what was half done is the part's own to undo."""

    def stop(self) -> Deferred[Any] | None:
        """Go down. A Deferred that is cancelled is out of time."""


@dataclass(frozen=True, slots=True)
class Child:
    """A part and how long it may take, in seconds."""

    part: IPart
    start_deadline_s: float = 10.0
    stop_deadline_s: float = 5.0


class OrderedService(Service):
    """Starts its children in order once the reactor runs, and stops them in reverse."""

    _log = Logger()

    def __init__(
        self,
        children: Sequence[Child],
        reactor: Any,
        errors: Counter[tuple[str, str]],
        *,
        started: Callable[[], None] = lambda: None,
        failed: Callable[[VoiceIngestError], None] = lambda error: None,
    ) -> None:
        """``errors`` counts what does not stop as it should: ``("internal", part)``.

        ``started`` is called when all are up; ``failed`` when one is not and the others are down again.
        """
        self._children = tuple(children)
        self._reactor = reactor
        self._errors = errors
        self._when_started = started
        self._when_failed = failed
        self._up: list[Child] = []
        self._starting: Deferred[None] | None = None
        self._stopping: Deferred[None] | None = None
        self._waiting: Deferred[Any] | None = None
        self._forced = False

    def startService(self) -> None:
        """Twisted's hook. It comes before the reactor runs, where nothing may be waited for."""
        super().startService()
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        if self.running:
            self._starting = ensureDeferred(self._start_all())
            self._starting.addErrback(self._start_cut)

    def _start_cut(self, failure: Failure) -> None:
        """Whoever cut the start short stops what is up; anything else is a bug of ours."""
        if not failure.check(CancelledError):
            self._log.failure("The start went wrong", failure, event="start_error")
            self._when_failed(InternalError())

    async def _start_all(self) -> None:
        for child in self._children:
            error = await self._start_one(child)
            if error is not None:
                self._log.critical(
                    "Not started: {problem}", event="start_failed", part=child.part.name, code=error.code,
                    problem=error.message,
                )
                await self._stop_once()
                self._when_failed(error)
                return
            self._up.append(child)
        self._when_started()

    async def _start_one(self, child: Child) -> VoiceIngestError | None:
        """Start one child. Returns why it did not start, if it did not; a cancellation passes."""
        try:
            await maybeDeferred(child.part.start).addTimeout(child.start_deadline_s, self._reactor)
        except CancelledError:
            raise
        except VoiceIngestError as error:
            return error
        except OutOfTime:
            return OperatorError(f"{child.part.name}: not up within {child.start_deadline_s:g} s")
        except Exception:
            self._log.failure("{part} failed to start", event="start_error", part=child.part.name)
            return InternalError(f"{child.part.name}: an unexpected error, which is in the log")
        return None

    def stopService(self) -> Deferred[None]:
        """Twisted's hook: fires when every child is down or out of time."""
        if self.running:
            super().stopService()
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
        return self._stop_once()

    def _stop_once(self) -> Deferred[None]:
        """Stop the children that are up; whoever asks again waits for the same stop."""
        if self._stopping is None:
            self._stopping = ensureDeferred(self._stop_all())
        mine: Deferred[None] = Deferred()

        def pass_on(result: None) -> None:
            mine.callback(None)

        self._stopping.addCallback(pass_on)
        return mine

    async def _stop_all(self) -> None:
        while self._up:
            child = self._up.pop()
            stopped = maybeDeferred(child.part.stop)
            stopped.addTimeout(child.stop_deadline_s, self._reactor)
            stopped.addErrback(self._not_stopped, child)
            if self._forced:
                stopped.cancel()
            self._waiting = stopped
            await stopped
        self._waiting = None

    def _not_stopped(self, failure: Failure, child: Child) -> None:
        """Leave a child behind: what comes after it must be stopped all the same."""
        name = child.part.name
        if failure.check(OutOfTime):
            event, text = "stop_timeout", "{part} did not stop within {deadline_s} s; it is left behind"
        elif failure.check(CancelledError):
            event, text = "stop_forced", "{part} was not waited for"
        else:
            event, text = "stop_failed", "{part} failed to stop"
            self._log.failure("{part} failed to stop", failure, event="stop_error", part=name)
        self._errors[InternalError.code, name] += 1
        self._log.error(text, event=event, part=name, deadline_s=child.stop_deadline_s)

    def force(self) -> None:
        """Wait for nothing any more: cut the stop that is under way and those to come."""
        self._forced = True
        if self._waiting is not None:
            self._waiting.cancel()

