"""One row of the table: what a scenario recorded, and every promise that did not hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Row:
    """The figures of one scenario; ``None`` where one has no meaning there."""

    number: str
    name: str
    what: str
    streams: int = 0
    frames: int = 0
    ended: int | None = None
    missing: int | None = None
    repeated: int | None = None
    in_flight_twice: int | None = None
    out_of_order: int | None = None
    declared: int | None = None
    ack_gap_s: float | None = None
    lag_s: float | None = None
    neighbour_p99_ms: float | None = None
    neighbour_bus_p99_ms: float | None = None
    rss_growth_mib: float | None = None
    queue_peak_kib: float | None = None
    not_ready_s: float | None = None
    ready_s: float | None = None
    livez_ms: float | None = None
    log_lines: int | None = None
    took_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def hold(self, promise: str, held: bool, found: object = "") -> None:
        """Note a promise that was not kept, with what was found instead."""
        if not held:
            self.broken.append(f"{promise}: {found}" if found != "" else promise)

    def note(self, text: str) -> None:
        """A figure that belongs to this scenario alone."""
        self.notes.append(text)

    @property
    def held(self) -> bool:
        """Whether every promise was kept."""
        return not self.broken

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {**asdict(self), "held": self.held}
