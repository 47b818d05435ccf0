"""What became of every sample that was sent: received, repeated, out of order, declared lost, lost. Pure.

It looks at the marks in the audio (``watermark``) and not at the numbers of frames; the numbers are
needed only to know which samples a ``gap`` means. ``sent = received + declared + lost``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..wire.envelope import FrameMessage
from .intervals import Interval, common, size, union, without
from .percentiles import Latencies
from .reading import BusMessage
from .watermark import Mark, read_mark

LATENCIES_MAX_COUNT: Final = 2_000_000
RANKS: Final = (50, 99, 99.9)


@dataclass(slots=True)
class Account:
    """One stream, in samples. ``holes`` lie below ``next`` and have not been received."""

    number: int
    next: int = 0
    received: int = 0
    repeated: int = 0
    misordered: int = 0
    holes: list[Interval] = field(default_factory=list)
    declared: list[Interval] = field(default_factory=list)
    # Samples before the first of each numbering.
    bases: dict[int | None, int] = field(default_factory=dict)

    def take(self, mark: Mark) -> bool:
        """A frame has come; whether any of it is new."""
        end = mark.first + mark.samples
        if mark.first >= self.next:
            if mark.first > self.next:
                self.holes.append((self.next, mark.first))
            self.next = end
            self.received += mark.samples
            return True
        # Below what has been heard: it fills a hole, too late, or it is there twice.
        filled = size(common(self.holes, [(mark.first, min(end, self.next))]))
        beyond = max(0, end - self.next)
        self.holes = without(self.holes, (mark.first, end))
        self.next = max(self.next, end)
        self.misordered += filled
        self.received += filled + beyond
        self.repeated += mark.samples - filled - beyond
        return filled + beyond > 0

    def balance(self, sent: int) -> dict[str, int]:
        """What became of the first ``sent`` samples."""
        missing = union([*self.holes, (self.next, sent)])
        declared = common(union(self.declared), [(0, sent)]) if sent else []
        known = size(common(missing, declared))
        return {
            "sent": sent,
            "received": self.received,
            "declared": known,
            "lost": size(missing) - known,
            "repeated": self.repeated,
            "misordered": self.misordered,
            # Said to be lost, and there all the same.
            "misdeclared": size(declared) - known,
            "unsent": max(0, self.next - sent),
        }


class Reckoning:
    """All streams of a run; ``run`` is its name in the marks, ``frame_samples`` the length of a frame."""

    def __init__(self, run: bytes, interactions: list[str], frame_samples: int) -> None:
        self._run = run
        self._frame_samples = frame_samples
        self._accounts = {name: Account(number) for number, name in enumerate(interactions)}
        self.damaged = 0
        self.messages = 0
        self.latencies = Latencies(max_count=LATENCIES_MAX_COUNT)

    def heard(self, message: BusMessage, now_us: int) -> None:
        """A message of the bus; those of other interactions are not looked at."""
        if message.frame is not None:
            account = self._accounts.get(message.frame.interaction_id)
            if account is not None:
                self.messages += 1
                self._frame(account, message.frame, now_us)
        elif message.event is not None and message.event["event"] == "gap":
            account = self._accounts.get(message.event["interaction_id"])
            if account is not None:
                self.messages += 1
                self._gap(account, message.event)

    def began(self, interaction: str, epoch: int | None, base_frames: int) -> None:
        """The caller was told of a numbering; ``base_frames`` of its frames were before it."""
        bases = self._accounts[interaction].bases
        bases[epoch] = bases[None] = base_frames * self._frame_samples

    def _frame(self, account: Account, frame: FrameMessage, now_us: int) -> None:
        mark = read_mark(self._run, frame.audio)
        if mark is None or mark.stream != account.number:
            self.damaged += 1
        elif account.take(mark):
            self.latencies.observe((now_us - mark.spoken_us) / 1e6)

    def _gap(self, account: Account, event: Mapping[str, Any]) -> None:
        first, last = event.get("from"), event.get("to")
        if isinstance(first, int) and isinstance(last, int):
            base = account.bases.get(event.get("epoch"), account.bases.get(None, 0))
            unit = self._frame_samples
            account.declared.append((base + (first - 1) * unit, base + last * unit))

    def balance(self, sent: Mapping[str, int]) -> dict[str, int]:
        """What became of all samples; ``sent`` tells for each interaction how many there were."""
        total: dict[str, int] = {}
        for name, account in self._accounts.items():
            for key, value in account.balance(sent.get(name, 0)).items():
                total[key] = total.get(key, 0) + value
        return total

    def is_complete(self, sent: Mapping[str, int]) -> bool:
        """Whether nothing more is to be waited for."""
        balance = self.balance(sent)
        return balance["lost"] == 0
