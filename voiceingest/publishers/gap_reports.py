"""When the streams are told of what was dropped: as ranges, and not at every frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..interfaces import IClock, IDelayedCall

if TYPE_CHECKING:
    from .lane import Lane

# Drops of one lane are reported at most so often: a flood of drops stays cheap.
GAP_INTERVAL_S: Final = 0.25


class GapReports:
    """The lanes that have dropped frames they have not reported yet, and one timer for all."""

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._lanes: dict[Lane, None] = {}
        self._call: IDelayedCall | None = None

    def owe(self, lane: Lane) -> None:
        """``lane`` has something to report."""
        self._lanes[lane] = None
        if self._call is None:
            self._call = self._clock.callLater(GAP_INTERVAL_S, self.report)

    def report(self) -> None:
        """Let them report now, and have no timer."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        lanes, self._lanes = self._lanes, {}
        for lane in lanes:
            lane.report_gaps()

    def stop(self) -> None:
        """Report no more."""
        self._lanes.clear()
        self.report()
