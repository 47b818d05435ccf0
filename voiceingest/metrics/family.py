"""What one metric is, and the labels that several have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ..errors import every_error
from .series import Label

Kind = Literal["counter", "gauge", "histogram", "info"]

CODES: Final = frozenset(error.code for error in every_error())

# A frame is confirmed some milliseconds after it came; past 10 s the bus is taken for dead.
_LATENCY_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: the attribute of ``Metrics`` it is read from and how it is exported.

    ``constant`` marks what does not move while the daemon runs; ``attribute`` is empty for what
    is read from the process itself.
    """

    attribute: str
    kind: Kind
    name: str
    text: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    constant: bool = False


def own(kind: Kind, attribute: str, unit: str, text: str, *labels: Label, constant: bool = False) -> Family:
    """A metric of ours, ``voiceingest_*``; the suffix of its name follows from its kind and unit."""
    suffix = "_total" if kind == "counter" else f"_{unit}" if unit and not attribute.endswith(unit) else ""
    buckets = _LATENCY_S if kind == "histogram" else ()
    return Family(attribute, kind, f"voiceingest_{attribute}{suffix}", text, labels, buckets, constant)


# "flooded": cut without an answer, since there was not even room to refuse.
CODE = Label("code", CODES | {"flooded"})
REASON = Label("reason")
RESULT = Label("result")
