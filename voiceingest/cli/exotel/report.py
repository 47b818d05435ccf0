"""How one call went, in numbers. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from ..failures import Exit
from ..percentiles import Latencies

# Different sizes of chunks that are told apart; a bot that has more has no size.
SIZES_MAX_COUNT: Final = 16
OTHER_SIZE: Final = 0


@dataclass(slots=True)
class CallReport:
    """One call. ``failure`` is ``None`` when it stood, nothing was illegal and it ended in order."""

    call_id: str
    # What the caller did.
    sent_chunks: int = 0
    sent_samples: int = 0
    unsent_chunks: int = 0
    late: Latencies = field(default_factory=Latencies)
    digits: int = 0
    # What the bot did.
    heard_chunks: int = 0
    heard_samples: int = 0
    sizes: Counter[int] = field(default_factory=Counter)
    first_audio_s: float | None = None
    lateness: Latencies = field(default_factory=Latencies)
    gaps: Latencies = field(default_factory=Latencies)
    gap_total_s: float = 0.0
    marks: int = 0
    marks_echoed: int = 0
    clears: int = 0
    cleared_s: float = 0.0
    interrupted: bool = False
    barge_in_s: float | None = None
    played_s: float = 0.0
    identical: int = 0
    differs_at: int | None = None
    illegal: Counter[str] = field(default_factory=Counter)
    odd: Counter[str] = field(default_factory=Counter)
    # How it ended.
    began: bool = False
    seconds: float = 0.0
    webhook_s: float | None = None
    close_code: int | None = None
    http_status: int | None = None
    tls_version: str = ""
    recording: bytes = b""
    failure: str | None = None
    hint: str | None = None
    exit_code: int = Exit.OK

    def chunk(self, size: int, samples: int) -> None:
        """A chunk of the bot's came."""
        self.heard_chunks += 1
        self.heard_samples += samples
        known = size in self.sizes or len(self.sizes) < SIZES_MAX_COUNT
        self.sizes[size if known else OTHER_SIZE] += 1

    def fail(self, text: str, hint: str | None = None, exit_code: int = Exit.REFUSED) -> None:
        """It did not go well; the first reason stays."""
        if self.failure is None:
            self.failure, self.hint, self.exit_code = text, hint, int(exit_code)


def worst(reports: list[CallReport]) -> Exit:
    """The exit code of a run: the most telling one of its calls."""
    codes = {report.exit_code for report in reports}
    for code in (Exit.USAGE, Exit.REFUSED, Exit.NO_CONNECTION):
        if code in codes:
            return code
    return Exit.OK
