"""Rows for people: on the terminal as they come, and as the table of the page."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tests.support.daemon import ROOT

from .row import Row
from .scenario import Scenario

PAGE: Final = ROOT / "docs" / "explanation" / "faults.md"

_COLUMNS: Final[tuple[tuple[str, Callable[[Row], Any]], ...]] = (
    ("scenario", lambda row: f"{row.number} {row.name}"),
    ("streams", lambda row: row.streams),
    ("frames", lambda row: row.frames),
    ("ended", lambda row: row.ended),
    ("missing", lambda row: row.missing),
    ("twice", lambda row: row.repeated),
    ("twice, in flight", lambda row: row.in_flight_twice),
    ("declared lost", lambda row: row.declared),
    ("ack gap s", lambda row: row.ack_gap_s),
    ("lag < 100 ms after s", lambda row: row.lag_s),
    ("neighbour p99 ms", lambda row: row.neighbour_p99_ms),
    ("neighbour to bus p99 ms", lambda row: row.neighbour_bus_p99_ms),
    ("memory MiB", lambda row: None if row.rss_growth_mib is None else f"+{row.rss_growth_mib}"),
    ("queue KiB", lambda row: row.queue_peak_kib),
    ("ready after s", lambda row: row.ready_s),
    ("log lines", lambda row: row.log_lines),
    ("held", lambda row: "yes" if row.held else "NO"),
)


_BRIEF: Final = {
    "ended": "ended",
    "missing": "missing",
    "twice": "repeated",
    "in flight": "in_flight_twice",
    "disorder": "out_of_order",
    "declared": "declared",
    "ack gap s": "ack_gap_s",
    "lag s": "lag_s",
    "neighbour ms": "neighbour_p99_ms",
    "to bus ms": "neighbour_bus_p99_ms",
    "rss MiB": "rss_growth_mib",
    "queue KiB": "queue_peak_kib",
    "not ready s": "not_ready_s",
    "ready s": "ready_s",
    "livez ms": "livez_ms",
    "log": "log_lines",
}


def terminal_row(row: Row) -> str:
    """What a person wants to see of one scenario, and what is wrong."""
    figures = [(name, getattr(row, field)) for name, field in _BRIEF.items()]
    said = "  ".join(f"{name} {figure}" for name, figure in figures if figure is not None)
    verdict = "held  " if row.held else "BROKEN"
    lines = [f"{verdict} {row.number:>3} {row.name:22} {row.took_s:6.1f} s  {row.frames} frames  {said}"]
    lines += [f"           {note}" for note in row.notes]
    lines += [f"         ! {promise}" for promise in row.broken]
    return "\n".join(lines) + "\n"


def machine() -> dict[str, str]:
    """Where and with what the figures were made."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "redis": _version("redis-server", "--version") or _version("valkey-server", "--version"),
        "nats": _version("nats-server", "--version"),
    }


def _version(*command: str) -> str:
    path = shutil.which(command[0])
    if path is None:
        return ""
    said = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False).stdout.split()
    return next((word.removeprefix("v=").lstrip("v") for word in said if any(c.isdigit() for c in word)), "")


def write_page(rows: Sequence[Row], kinds: Sequence[type[Scenario]], took_s: int, command: str) -> None:
    """Write both tables of the page."""
    page = fill(PAGE.read_text(), "scenarios", scenarios_table(kinds))
    PAGE.write_text(fill(page, "figures", figures_table(rows, took_s, command)))


def fill(page: str, name: str, text: str) -> str:
    """The page with ``text`` between the marks of that name. Raises: ``ValueError`` without them."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no marks of {name} on the page")
    return f"{head}{begin}\n{text}\n\n{end}{tail}"


def scenarios_table(kinds: Sequence[type[Scenario]]) -> str:
    """What breaks, and what is right."""
    lines = ["| scenario | what breaks | what is right |", "|---|---|---|"]
    lines += [f"| {kind.number} {kind.name} | {kind.breaks} | {kind.right} |" for kind in kinds]
    return "\n".join(lines)


def figures_table(rows: Sequence[Row], took_s: int, command: str) -> str:
    """What was recorded, what made it, and the figures that have no column."""
    made = machine()
    how = f"make faults ARGS='{command}'" if command else "make faults"
    lines = [
        f"Made {made['date']} with `{how}` in {took_s} s: {made['machine']}, "
        f"Python {made['python']}, Redis {made['redis']}, NATS {made['nats']}.",
        "",
        "| " + " | ".join(name for name, _ in _COLUMNS) + " |",
        "|" + "---|" * len(_COLUMNS),
    ]
    for row in rows:
        cells = [_cell(read(row)) for _, read in _COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    notes = [f"- {row.number} {row.name}: {'; '.join(row.notes)}" for row in rows if row.notes]
    broken = [f"- **{row.number} {row.name} broke**: {'; '.join(row.broken)}" for row in rows if row.broken]
    return "\n".join([*lines, "", *notes, *broken])


def _cell(figure: Any) -> str:
    return "" if figure is None else f"{figure:.1f}" if isinstance(figure, float) else str(figure)
