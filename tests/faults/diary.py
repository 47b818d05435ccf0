"""Who a caller is, and what happened to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """Where a caller dials and who it is. ``ways`` are (host, port); one is taken at each attempt."""

    ways: list[tuple[str, int]]
    token: str
    tenant_id: str
    interaction_id: str
    resumes: bool


@dataclass(slots=True)
class Diary:
    """What happened to one caller; times are monotonic seconds."""

    connects: int = 0
    resumed: int = 0
    restarted: int = 0
    refused: int = 0
    resets: int = 0
    unavailable: int = 0
    moved: int = 0
    closes: list[list[Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    gaps: list[list[Any]] = field(default_factory=list)
    acks_ms: list[list[float]] = field(default_factory=list)
    pongs_ms: list[list[float]] = field(default_factory=list)
    ack_gap_s: float = 0.0
    back_s: list[float] = field(default_factory=list)
    stopped: dict[str, Any] | None = None
