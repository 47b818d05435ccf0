"""What a benchmark has found, for people and for programs."""

from __future__ import annotations

from typing import Any, Final

from .console import Console
from .failures import Exit
from .load import LATE_S, Load
from .percentiles import in_words
from .reckoning import RANKS, Reckoning
from .streams import StreamReport, worst
from .summaries import complaints, latencies_of, remarks

# In the balance, what must not be there, and how it is told.
FAULTS: Final = {
    "lost": "lost, and nobody said so",
    "repeated": "came more than once",
    "misordered": "came out of order",
    "misdeclared": "were declared lost and came all the same",
    "unsent": "came and were never sent",
}

# From so large a share of late frames on, the figures are those of this program.
LATE_SHARE: Final = 0.01


class Verdict:
    """The account of one run; ``took_s`` is how long the load lasted."""

    def __init__(
        self, reports: list[StreamReport], reckoning: Reckoning, load: Load, sample_rate: int, took_s: float
    ) -> None:
        self._reports = reports
        self._rate = sample_rate
        self._took_s = max(took_s, 1e-9)
        self._load = load
        self.balance = reckoning.balance(load.sent)
        self.damaged = reckoning.damaged
        self.latency_ms = reckoning.latencies.summary_ms(RANKS)
        self.ack_latency_ms = latencies_of(reports).summary_ms()

    @property
    def faults(self) -> list[str]:
        """What must not be, in words; empty when nothing is."""
        found = [
            f"{self.balance[name]} samples ({self.balance[name] / self._rate:.3f} s of audio) {text}"
            for name, text in FAULTS.items()
            if self.balance[name]
        ]
        if self.damaged:
            found.append(f"{self.damaged} frames were changed on the way")
        return found

    @property
    def was_late(self) -> bool:
        """Whether this program was too slow for the load it was to make."""
        return self._load.late_count > self._load.frames * LATE_SHARE

    @property
    def exit_code(self) -> int:
        """0 when every sample was received in order, or declared lost, and no stream failed otherwise."""
        if self.faults or not self.balance["sent"]:
            return worst(self._reports) or Exit.REFUSED
        # A declared loss is the daemon's to say and ours to show: the stream counts as kept.
        failed = [report for report in self._reports if report.failure is not None]
        if any(report.tally.stopped is None and not report.tally.unanswered for report in failed):
            return worst(self._reports)
        return Exit.OK

    def document(self) -> dict[str, Any]:
        """Everything, for programs; the balance is in samples."""
        tallies = [report.tally for report in self._reports]
        return {
            "ok": self.exit_code == Exit.OK,
            "exit_code": int(self.exit_code),
            "streams": len(self._reports),
            "sample_rate": self._rate,
            "frames": self._load.frames,
            "frames_per_s": round(self._load.frames / self._took_s, 1),
            "seconds": round(self._took_s, 3),
            "samples": {**self.balance, "damaged_frames": self.damaged},
            "mouth_to_bus_ms": self.latency_ms,
            "ack_latency_ms": self.ack_latency_ms,
            "gaps": sum(tally.gaps for tally in tallies),
            "resumes": sum(tally.resumes for tally in tallies),
            "restarts": sum(tally.restarts for tally in tallies),
            "late_max_ms": round(self._load.late_max_s * 1000, 1),
            "late_frames": self._load.late_count,
            "faults": self.faults,
            "failures": [text for text, _ in complaints(self._reports)],
        }

    def tell(self, console: Console) -> None:
        """The same for people."""
        facts = self.document()
        balance = self.balance
        console.pairs(
            {
                "load": f"{facts['streams']} streams, {facts['frames']} frames in {facts['seconds']:.1f} s,"
                f" {facts['frames_per_s']:.0f} a second",
                "sent": self._amount(balance["sent"]),
                "received": self._amount(balance["received"]),
                "declared lost": self._amount(balance["declared"]),
                "lost": self._amount(balance["lost"]),
                "repeated": self._amount(balance["repeated"]),
                "out of order": self._amount(balance["misordered"]),
                "changed": f"{self.damaged} frames",
                "mouth to bus": in_words(self.latency_ms),
                "ack latency": in_words(self.ack_latency_ms),
                "resumed": f"{facts['resumes']} times, began anew {facts['restarts']} times",
                "latest frame": f"{facts['late_max_ms']:.1f} ms late",
            }
        )
        for remark in remarks(self._reports):
            console.note(remark)
        if self.was_late:
            text = f"{self._load.late_count} frames went out more than {LATE_S * 1000:.0f} ms late"
            console.note(f"{text}: this program was the bottleneck, not the daemon; use fewer --streams")
        for text in [*self.faults, *facts["failures"]]:
            console.note(f"error: {text}", style="bold red")
        if facts["ok"]:
            console.say("ok: sent = received + declared, in order", style="bold green")

    def _amount(self, samples: int) -> str:
        return f"{samples} samples, {samples / self._rate:.1f} s"
