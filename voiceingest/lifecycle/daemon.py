"""The top of the service tree: what twistd starts and stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger
from zope.interface import implementer

from ..errors import VoiceIngestError
from .notify import Notifier, Watchdog
from .outcome import Outcome
from .signals import Reloads, Signals
from .tree import Child, OrderedService


@implementer(IService)
class Daemon(OrderedService):
    """The ordered tree, with systemd, signals and the exit code around it."""

    _log = Logger()

    def __init__(
        self,
        children: Sequence[Child],
        reactor: Any,
        errors: Counter[tuple[str, str]],
        *,
        environ: Mapping[str, str],
        outcome: Outcome,
        reloads: Reloads,
        draining: Sequence[Callable[[], object]],
        observer: ILogObserver | None = None,
    ) -> None:
        """``draining`` are called first of all when a stop begins: the first makes ``/readyz`` say so.

        ``observer`` becomes twistd's log observer in place of its text one.
        """
        super().__init__(children, reactor, errors, started=self._serving, failed=self._start_failed)
        self._outcome = outcome
        self._notifier = Notifier(environ, reactor)
        self._watchdog = Watchdog(environ, self._notifier, reactor)
        self._reloads = reloads
        self._draining = draining
        self._observer = observer
        self._signals = Signals(reactor, stop=self._stop_asked, force=self._force_asked, reload=self._reload)
        self._is_serving = False
        self._asked_to_stop = False
        self._is_stopping = False

    def setServiceParent(self, parent: Any) -> None:
        """Twisted's hook; ``parent`` is the Application, where twistd looks for a log observer."""
        if self._observer is not None:
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Twisted's hook: after the fork, before the reactor runs."""
        self._outcome.hold()
        super().startService()

    def _begin(self) -> None:
        self._signals.install()
        self._watchdog.start()
        super()._begin()

    def _serving(self) -> None:
        self._is_serving = True
        self._log.info("Serving", event="serving")
        self._notifier.ready()
        self._outcome.started()

    def _start_failed(self, error: VoiceIngestError) -> None:
        self._outcome.failed(error.message)
        self.begin_stop()

    def stopService(self) -> Deferred[None]:
        """Twisted's hook: drain, then stop what is below."""
        if not self._is_stopping:
            self._is_stopping = True
            self._log.info("Stopping", event="stopping")
            self._notifier.stopping()
            for begin in self._draining:
                begin()
        return super().stopService().addCallback(self._all_stopped)

    def _all_stopped(self, result: None) -> None:
        self._watchdog.stop()
        self._log.info("Stopped", event="stopped")

    def begin_stop(self) -> None:
        """Do as SIGTERM does: stop the reactor, which first stops this service.

        Harmless when it has begun; to the reactor a second stop is an error.
        """
        if self.running and not self._asked_to_stop and not self._is_stopping:
            self._asked_to_stop = True
            self._reactor.stop()

    def _stop_asked(self, signal_name: str) -> None:
        self._log.info("{signal}: draining", event="stop_asked", signal=signal_name)
        self.begin_stop()

    def _force_asked(self, signal_name: str) -> None:
        self._log.warn("{signal} again: stopping at once", event="force_asked", signal=signal_name)
        self._outcome.exit_with(1)
        self.force()

    def _reload(self) -> None:
        if self._is_stopping:
            return
        if not self._is_serving:
            # READY=1 ends a reload, and it would be a lie.
            self._reloads.reload()
            return
        self._notifier.reloading()
        self._reloads.reload()
        self._notifier.ready()
