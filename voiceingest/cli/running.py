"""Running the asynchronous part of a command: our reactor, one coroutine, Ctrl-C done properly."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from functools import partial
from types import FrameType
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from .failures import CommandFailed, Exit

Result = TypeVar("Result")

# A terminal that is closed ends what runs in it, unless that was started by nohup.
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Ctrl-C as a request: the first asks to end, the second does not wait for the answer."""

    def __init__(self, leave: Callable[[], None] = lambda: None) -> None:
        self.asked = False
        self._leave = leave
        self._outlives_terminal = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._signal_count = 0
        self._waiting: list[Deferred[None]] = []

    def when(self) -> Deferred[None]:
        """Fires when it is asked for; at once if it has been."""
        fired: Deferred[None] = Deferred()
        if self.asked:
            fired.callback(None)
        else:
            self._waiting.append(fired)
        return fired

    def take_signals(self, reactor: Any) -> None:
        """Let Ctrl-C, SIGTERM and a hang-up ask, whoever had them before; a second one leaves at once."""
        for number in SIGNALS:
            if number is not signal.SIGHUP or not self._outlives_terminal:
                signal.signal(number, partial(self._signalled, reactor))

    def _signalled(self, reactor: Any, number: int, frame: FrameType | None) -> None:
        # callFromThread because this may run in the middle of anything.
        if self._signal_count == 0:
            reactor.callFromThread(self.ask)
        else:
            reactor.callFromThread(self._leave)
            # A third one finds the reactor itself stuck: the system ends us.
            signal.signal(number, signal.SIG_DFL)
        self._signal_count += 1

    def ask(self) -> None:
        """Ask to end."""
        self.asked = True
        waiting, self._waiting = self._waiting, []
        for fired in waiting:
            fired.callback(None)


Work = Callable[[Any, Interrupt], Coroutine[Deferred[Any], Any, Result]]


def run(work: Work[Result]) -> Result:
    """Run ``work(reactor, interrupt)`` to its end and return what it returns.

    Raises: what ``work`` raises; ``CommandFailed`` with exit code 130 after a second Ctrl-C.
    """
    # Before anything that would install another one by being imported.
    from ..reactor import install

    install()
    from twisted.internet import reactor

    outcome: Result = Run(reactor, work).result()
    return outcome


class Run:
    """One run of the reactor."""

    def __init__(self, reactor: Any, work: Work[Result]) -> None:
        self._reactor = reactor
        self._work = work
        self._interrupt = Interrupt(self._leave)
        self._outcome: list[Any] = []

    def result(self) -> Any:
        """Run, and give back the result or raise the failure."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._reactor.callWhenRunning(self._begin)
        try:
            self._reactor.run(installSignalHandlers=False)
        finally:
            for number, former in before.items():
                signal.signal(number, former)
        if not self._outcome:
            raise CommandFailed("the reactor was stopped before the command was done")
        outcome = self._outcome[0]
        if isinstance(outcome, Failure):
            outcome.raiseException()
        return outcome

    def _begin(self) -> None:
        self._interrupt.take_signals(self._reactor)
        ensureDeferred(self._work(self._reactor, self._interrupt)).addBoth(self._end)

    def _leave(self) -> None:
        self._end(Failure(CommandFailed("left without waiting", exit_code=Exit.INTERRUPTED)))

    def _end(self, outcome: Any) -> None:
        if not self._outcome:
            self._outcome.append(outcome)
            self._reactor.stop()
