"""How much an agent may get wrong: its failure is a turn of silence, whoever wrote it, and no call's end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from ..metrics import Metrics

# Failures of an agent in one call after which it is not asked any more.
AGENT_FAILURES_MAX_COUNT: Final = 10


class AgentMistake(Exception):
    """Stands in the log for what an agent raised: its class and where. The text may quote a caller."""


class Patience:
    """Tells one agent things, and bears what it raises."""

    _log = Logger()

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._failures = 0

    def tell(self, method: Callable[..., None], *args: Any) -> None:
        """Call ``method`` of the agent, unless it has failed too often."""
        if self._failures < AGENT_FAILURES_MAX_COUNT:
            self.tell_last(method, *args)

    def tell_last(self, method: Callable[..., None], *args: Any) -> None:
        """Call it in any case: one that is never told of the end would go on behind it."""
        try:
            method(*args)
        except Exception as error:
            self._failures += 1
            self._metrics.agent_failures["exception"] += 1
            if self._failures in (1, AGENT_FAILURES_MAX_COUNT):
                mistake = Failure(AgentMistake(type(error).__name__), AgentMistake, sys.exc_info()[2])
                self._log.failure("an agent failed", mistake, event="agent_failed", failures=self._failures)
