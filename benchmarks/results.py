"""Figures out of what was measured: percentiles, medians, ratios, verdicts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


def percentiles_ms(values: Iterable[float]) -> dict[str, float]:
    """By the nearest rank: always a value that occurred. Nothing of nothing."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        name: round(ordered[min(last, int(len(ordered) * share))], 3)
        for name, share in PERCENTILES.items()
        if ordered
    }


def medians(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of every number over the rounds; numbers in dictionaries too. What failed is left out."""
    whole = [figures for figures in rounds if "failed" not in figures]
    if not whole:
        return dict(rounds[-1]) if rounds else {}
    told: dict[str, Any] = {"rounds": len(whole)}
    for name, value in whole[0].items():
        values = [figures[name] for figures in whole if name in figures]
        if isinstance(value, Mapping):
            told[name] = {key: number for key, number in medians(values).items() if key != "rounds"}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            told[name] = round(median(values), 4)
    return told


# More of the time than this, a process waited for its core: others had it, and the figures are theirs too.
WAITED_MAX_SHARE: Final = 0.05


def disturbed(measured: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The paced measurements in which a target had to share the core that was to be its own."""
    return [
        f"{measurement} of {target}"
        for measurement, targets in measured.items()
        for target, figures in targets.items()
        if figures.get("waited_share", 0.0) > WAITED_MAX_SHARE
    ]


@dataclass(frozen=True, slots=True)
class Goal:
    """A target: a figure of ours beside that of ``peer``, or beside a fixed bound when there is none.

    ``at_most``: whether less is better.
    """

    title: str
    measurement: str
    figure: str
    bound: float
    peer: str = ""
    at_most: bool = True


GOALS: Final = (
    Goal("ingest 960 B, plain", "ingest-960/plain", "cpu_us", 0.75, "go"),
    Goal("ingest 960 B, plain", "ingest-960/plain", "cpu_us", 0.5, "node"),
    Goal("ingest 9600 B, plain", "ingest-9600/plain", "cpu_us", 0.75, "go"),
    Goal("ingest 9600 B, plain", "ingest-9600/plain", "cpu_us", 0.5, "node"),
    Goal("ingest 960 B, TLS", "ingest-960/tls", "cpu_us", 1.0, "go"),
    Goal("ingest 960 B, TLS", "ingest-960/tls", "cpu_us", 0.7, "node"),
    Goal("ingest 9600 B, TLS", "ingest-9600/tls", "cpu_us", 1.0, "go"),
    Goal("ingest 9600 B, TLS", "ingest-9600/tls", "cpu_us", 0.7, "node"),
    Goal("Exotel 3200 B, plain", "exotel-3200/plain", "cpu_us", 1.0, "go"),
    Goal("Exotel 320 B, plain", "exotel-320/plain", "cpu_us", 1.0, "go"),
    Goal("Exotel 3200 B, TLS", "exotel-3200/tls", "cpu_us", 1.0, "go"),
    Goal("Exotel 320 B, TLS", "exotel-320/tls", "cpu_us", 1.0, "go"),
    Goal("flat out, frames/s", "flat-9600/plain", "frames_per_s", 2.0, "node", at_most=False),
    Goal("handshakes per core, plain", "storm/plain", "per_core_s", 1.0, "node", at_most=False),
    Goal("KiB of an idle connection, plain", "memory/plain", "idle_kib", 20),
    Goal("KiB of a talking stream, plain", "memory/plain", "talking_kib", 40),
    Goal("KiB of an idle connection, TLS", "memory/tls", "idle_kib", 20),
    Goal("KiB of a talking stream, TLS", "memory/tls", "talking_kib", 40),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a goal. ``value`` is the ratio, or the figure itself; ``None``: not measured."""

    goal: Goal
    ours: float | None
    theirs: float | None
    value: float | None

    @property
    def met(self) -> bool | None:
        """Whether it is reached."""
        if self.value is None:
            return None
        return self.value <= self.goal.bound if self.goal.at_most else self.value >= self.goal.bound


def judge(measured: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """Every goal; ``measured`` is measurement -> target -> figures."""
    verdicts = []
    for goal in GOALS:
        ours = _figure(measured, goal, "ours")
        theirs = _figure(measured, goal, goal.peer) if goal.peer else None
        value = ours
        if goal.peer:
            value = ours / theirs if ours and theirs else None
        verdicts.append(Verdict(goal, ours, theirs, None if value is None else round(value, 3)))
    return verdicts


def _figure(measured: Mapping[str, Mapping[str, Any]], goal: Goal, target: str) -> float | None:
    figure = measured.get(goal.measurement, {}).get(target, {}).get(goal.figure)
    return None if figure is None else float(figure)
