"""The plots of the page, as SVG that is the same for the same figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .tables import ORDER

Measured = Mapping[str, Mapping[str, Mapping[str, Any]]]

_COLOURS: Final = {
    "ours": "#1b6ca8", "go": "#4aa3a2", "node": "#7a9e3f", "websockets": "#d9a441", "autobahn": "#b0625a",
}  # fmt: skip
_FRAMES: Final = tuple(
    f"{load}/{encryption}"
    for load in ("ingest-960", "ingest-9600", "exotel-320", "exotel-3200")
    for encryption in ("plain", "tls")
)


def draw(measured: Measured, folder: Path) -> list[Path]:
    """Write every plot there are figures for."""
    mpl.rcParams.update({"svg.hashsalt": "voiceingest", "svg.fonttype": "none", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    plots = {
        "cpu": _bars(measured, [(name, "cpu_us") for name in _FRAMES], "CPU of the process, us a frame"),
        "latency": _latency(measured),
        "capacity": _bars(
            measured,
            [("highest/plain", "frames_per_s"), ("flat-9600/plain", "frames_per_s")],
            "frames a second on one core",
        ),
        "memory": _bars(
            measured,
            [(f"memory/{word}", key) for word in ("plain", "tls") for key in ("idle_kib", "talking_kib")],
            "KiB for a connection",
        ),
        "storm": _bars(
            measured,
            [("storm/plain", "per_core_s"), ("storm/tls", "per_core_s")],
            "handshakes a second of a core's time",
        ),
    }  # fmt: skip
    written = []
    for name, figure in plots.items():
        path = folder / f"{name}.svg"
        # No date in it: it changes when the figures do.
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
        written.append(path)
    return written


def _bars(measured: Measured, wanted: list[tuple[str, str]], unit: str) -> Figure:
    """Groups of bars: one group a measurement, one bar a target."""
    there = [(name, key) for name, key in wanted if measured.get(name)]
    figure = Figure(figsize=(8, 0.8 + 0.75 * max(1, len(there))))
    axes = figure.add_subplot()
    for place, target in enumerate(ORDER):
        values = [measured[name].get(target, {}).get(key) or 0 for name, key in there]
        spots = [row + (place - 2) * 0.16 for row in range(len(there))]
        bars = axes.barh(spots, values, height=0.15, color=_COLOURS[target], label=target)
        axes.bar_label(bars, [f"{value:,.0f}" if value else "" for value in values], padding=2, fontsize=7)
    axes.set_yticks(range(len(there)), [_label(name, key) for name, key in there])
    axes.invert_yaxis()
    _finish(axes, unit)
    return figure


def _label(name: str, key: str) -> str:
    kinds = {"idle_kib": ", idle", "talking_kib": ", talking"}
    return name.replace("/", ", ") + kinds.get(key, "")


def _latency(measured: Measured) -> Figure:
    """From the middle to the worst in a thousand, for each target a line."""
    there = [name for name in ("ingest-960/plain", "ingest-960/tls") if measured.get(name)]
    figure = Figure(figsize=(8, 3))
    ranks = {"p50": "half", "p99": "99 of 100", "p999": "999 of 1000"}
    for place, name in enumerate(there):
        axes = figure.add_subplot(1, len(there), place + 1)
        for target in ORDER:
            spread = measured[name].get(target, {}).get("latency_ms", {})
            if spread:
                values = [spread[rank] for rank in ranks]
                axes.plot(list(ranks.values()), values, marker="o", color=_COLOURS[target], label=target)
        axes.set_yscale("log")
        axes.set_title(name.replace("/", ", "), fontsize=9)
        axes.set_ylabel("ms, mouth to bus")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False, loc="upper left")
    return figure


def _finish(axes: Axes, unit: str) -> None:
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(ORDER))
