"""How late the reactor is: the one number that says whether audio is being delayed."""

from __future__ import annotations

from typing import Final, Protocol

from ..interfaces import IClock, IDelayedCall

# Twice a second: a stall of half a second is seen at once, the cost is nothing.
SAMPLE_S: Final = 0.5

# Later than this and new streams had better go elsewhere: five 200 ms frames.
LATE_S: Final = 1.0


class IObserver(Protocol):
    """A histogram of seconds."""

    def observe(self, seconds: float) -> None:
        """Take one measurement."""


class LagSampler:
    """Asks to be called and measures how much later it was: a child of the service tree."""

    name = "reactor_lag"

    def __init__(self, clock: IClock, lag: IObserver) -> None:
        self._clock = clock
        self._lag = lag
        self._due = 0.0
        self._timer: IDelayedCall | None = None
        self._last_s = 0.0

    @property
    def ready(self) -> str | None:
        """``None`` when the reactor keeps up, else how late it was."""
        return f"the reactor was {self._last_s:.1f} s late" if self._last_s > LATE_S else None

    def start(self) -> None:
        """Sample until stopped."""
        self._due = self._clock.seconds() + SAMPLE_S
        self._timer = self._clock.callLater(SAMPLE_S, self._sample)

    def _sample(self) -> None:
        self._last_s = max(0.0, self._clock.seconds() - self._due)
        self._lag.observe(self._last_s)
        self.start()

    def stop(self) -> None:
        """Sample no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
