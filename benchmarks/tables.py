"""Tables of the figures, for a terminal and for the page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .endurance import Finding
from .results import Verdict

ORDER: Final = ("ours", "go", "node", "websockets", "autobahn")

# Columns of each kind of measurement: its figure, how it is headed.
FRAME_COLUMNS: Final = {
    "cpu_us": "CPU us/frame", "p50": "p50 ms", "p99": "p99 ms", "p999": "p99.9 ms",
    "frames_per_s": "frames/s", "core_share": "of a core", "lost": "lost",
}  # fmt: skip
COLUMNS: Final = {
    "memory": {"idle_kib": "KiB idle", "talking_kib": "KiB talking", "process_mib": "MiB empty"},
    "storm": {"per_core_s": "per core and s", "cpu_us": "CPU us each", "per_s": "per s"},
    "flat": {"frames_per_s": "frames/s", "cpu_us": "CPU us/frame", "core_share": "of a core", "lost": "lost"},
    "highest": {"frames_per_s": "frames/s", "streams": "streams", "p99_ms": "p99 ms"},
}

Rows = list[list[str]]


def columns_of(measurement: str) -> dict[str, str]:
    """What is told of a measurement."""
    return COLUMNS.get(measurement.partition("-")[0].partition("/")[0], FRAME_COLUMNS)


def number(value: Any) -> str:
    """A figure with the digits that mean something."""
    if value is None:
        return "-"
    if isinstance(value, int) or value == int(value) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def rows_of(measurement: str, targets: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], Rows]:
    """Head and rows of one measurement, ours first."""
    columns = columns_of(measurement)
    rows = []
    for target in ORDER:
        if target in targets:
            figures = {**targets[target], **targets[target].get("latency_ms", {})}
            failed = figures.get("failed")
            cells = [f"failed: {failed}"] if failed else [number(figures.get(name)) for name in columns]
            rows.append([target, *cells])
    return ["", *columns.values()], rows


def measurements_table(measured: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """All measurements, for a terminal."""
    blocks = []
    for measurement, targets in measured.items():
        head, rows = rows_of(measurement, targets)
        blocks.append(aligned([[measurement, *head[1:]], *rows]))
    return "\n\n".join(blocks) + "\n"


GOAL_HEAD: Final = ["target", "beside", "ours", "theirs", "ratio", "wanted", ""]


def goal_rows(verdicts: Iterable[Verdict]) -> Rows:
    """What became of the targets."""
    rows = []
    for verdict in verdicts:
        goal = verdict.goal
        wanted = f"{'<=' if goal.at_most else '>='} {goal.bound:g}"
        word = {True: "met", False: "**missed**", None: "not measured"}[verdict.met]
        ratio = verdict.value if goal.peer else None
        theirs = number(verdict.theirs) if goal.peer else "-"
        rows.append(
            [goal.title, goal.peer or "-", number(verdict.ours), theirs, number(ratio), wanted, word]
        )
    return rows


def goals_table(verdicts: Iterable[Verdict]) -> str:
    """The targets, for a terminal."""
    return aligned([GOAL_HEAD, *([cell.strip("*") for cell in row] for row in goal_rows(verdicts))]) + "\n"


FINDING_HEAD: Final = ["", "found", "at most", ""]


def finding_rows(findings: Iterable[Finding]) -> Rows:
    """What is judged of a soak."""
    words = {True: "met", False: "**failed**", None: "too short to say"}
    return [
        [finding.title, number(finding.value), number(finding.bound), words[finding.met]]
        for finding in findings
    ]


def findings_table(findings: Iterable[Finding]) -> str:
    """The same, for a terminal."""
    rows = ([cell.strip("*") for cell in row] for row in finding_rows(findings))
    return aligned([FINDING_HEAD, *rows]) + "\n"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns under one another: the first to the left, numbers to the right."""
    widths = [max(len(row[at]) for row in rows if at < len(row)) for at in range(max(map(len, rows)))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(head: Sequence[str], rows: Rows) -> str:
    """A table of Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)
