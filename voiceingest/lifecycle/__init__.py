"""How the daemon comes up, is told things while it runs, and goes down."""

from __future__ import annotations

from .daemon import Daemon
from .lag import LagSampler
from .notify import Notifier, Watchdog
from .outcome import Outcome
from .signals import Reloads, Signals
from .tree import Child, IPart, OrderedService

__all__ = [
    "Child",
    "Daemon",
    "IPart",
    "LagSampler",
    "Notifier",
    "OrderedService",
    "Outcome",
    "Reloads",
    "Signals",
    "Watchdog",
]
