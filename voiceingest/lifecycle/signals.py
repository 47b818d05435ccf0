"""What the operator says while the daemon runs: stop, stop now, read the files again."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

from twisted.logger import Logger

from ..errors import VoiceIngestError

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

# A forced stop that Python code is too busy to make is made by the kernel after this.
FORCE_S: Final = 2.0

Handler = Callable[[int, FrameType | None], None]


class Reloads:
    """What is read again on SIGHUP, by name. What is broken stays as it was and is counted."""

    _log = Logger()

    def __init__(self, targets: Mapping[str, Callable[[], None]], results: Counter[tuple[str, str]]) -> None:
        """``results`` counts ``(name, "ok" | "failed")``."""
        self._targets = dict(targets)
        self._results = results

    def reload(self) -> None:
        """Read all of them again, each for itself."""
        for name, read_again in self._targets.items():
            try:
                read_again()
            except VoiceIngestError as error:
                self._failed(name, error.message)
            except Exception:
                # Ours to mend; the other targets are none the worse for it.
                self._log.failure("{what} could not be read again", event="reload_error", what=name)
                self._failed(name, "an unexpected error, which is in the log")
            else:
                self._results[name, "ok"] += 1
                self._log.info("{what} has been read again", event="reloaded", what=name)

    def _failed(self, name: str, problem: str) -> None:
        self._results[name, "failed"] += 1
        self._log.error(
            "{what} is kept as it was: {problem}", event="reload_failed", what=name, problem=problem
        )


class Signals:
    """Takes SIGTERM, SIGINT and SIGHUP over from the reactor and calls back in its thread.

    The reactor's own handlers would make the exit code -15 after a clean drain, and a second signal
    would only be logged.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        stop: Callable[[str], None],
        force: Callable[[str], None],
        reload: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._stop = stop
        self._force = force
        self._reload = reload
        self._asked_count = 0
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take over; the reactor must be running, for it installs its own when it starts."""
        for number in STOP_SIGNALS:
            self._before[number] = signal.signal(number, self._asked_to_stop)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._asked_to_reload)

    def restore(self) -> None:
        """Give back what was there before."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._asked_count += 1
        name = signal.Signals(number).name
        if self._asked_count == 1:
            self._reactor.callFromThread(self._stop, name)
            return
        # The reactor may be what hangs: then the default action of SIGALRM ends the process.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, FORCE_S)
        self._reactor.callFromThread(self._force, name)

    def _asked_to_reload(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reload)
