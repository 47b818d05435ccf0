"""The plots of the page, as SVG that is the same for the same figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .endurance import WARM_SHARE, memory_line
from .tables import ORDER

mpl.rcParams["font.size"] = 9

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
    return [_save(figure, folder / f"{name}.svg") for name, figure in plots.items()]


def draw_soak(told: Mapping[str, Any], folder: Path) -> Path:
    """Memory, descriptors and latency over the time of a soak."""
    columns, line = told["samples"], memory_line(told["samples"])
    minutes = [at / 60 for at in columns["at_s"]]
    warm = minutes[-1] * WARM_SHARE
    figure = Figure(figsize=(8, 6))
    memory, files, latency = figure.subplots(3, 1, sharex=True)
    memory.plot(minutes, [kib / 1024 for kib in columns["rss_kib"]], color=_COLOURS["ours"])
    judged = [warm, minutes[-1]]
    memory.plot(
        judged, [(line.start + line.slope * at) / 1024 for at in judged], color=_COLOURS["autobahn"], ls="--",
        label=f"{line.slope:+.1f} KiB a minute, standard error {line.error:.1f}",
    )  # fmt: skip
    memory.set_ylabel("resident, MiB (not from 0)")
    files.plot(minutes, columns["descriptors"], color=_COLOURS["ours"], label="descriptors")
    files.plot(minutes, columns["connections"], color=_COLOURS["go"], label="connections")
    files.set_ylabel("descriptors")
    latency.plot(minutes, columns["p99_ms"], color=_COLOURS["ours"], label="99 of 100")
    latency.plot(minutes, columns["p50_ms"], color=_COLOURS["go"], label="half")
    latency.set_ylabel("ms, mouth to bus")
    latency.set_xlabel("minutes; what is shaded is not judged")
    for axes in (memory, files, latency):
        axes.axvspan(0, warm, color="#eeeeee")
        axes.set_ylim(0, axes.get_ylim()[1] * 1.2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False, loc="lower right")
    memory.set_xlim(0, minutes[-1])
    # From 0 even a leak would look flat; by itself the axis would make a mountain of a page of memory.
    memory.set_ylim(min(columns["rss_kib"]) / 1024 - 2, max(columns["rss_kib"]) / 1024 + 2)
    latency.legend(fontsize=7, frameon=False, loc="upper right")
    return _save(figure, folder / "soak.svg")


def _save(figure: Figure, path: Path) -> Path:
    # No date in it, nor chance: it changes when the figures do.
    with mpl.rc_context({"svg.hashsalt": "voiceingest", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    return path


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
