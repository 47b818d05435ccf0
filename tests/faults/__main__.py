"""Run the scenarios: ``python -m tests.faults [--quick] [--only 1,5,sentinel] [--json FILE] [--write]``.

A row for each as it ends. The exit code is 1 when a promise was broken or a scenario could not be
played, 0 else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Final

from .bench import Bench, Scale
from .row import Row
from .scenario import Scenario
from .scenarios import EVERY
from .table import machine, terminal_row, write_page

# One scenario that hangs is a failure, not a hang of the whole.
_SCENARIO_S: Final = 300.0


def chosen(only: str, quick: bool) -> list[type[Scenario]]:
    """The scenarios of the command line; each word is a number or part of a name."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    names = {scenario.name for scenario in EVERY}
    found = [
        scenario
        for scenario in EVERY
        if not words
        or any(word in (scenario.number, scenario.name) for word in words)
        or any(word in scenario.name for word in words if word not in names)
    ]
    return [scenario for scenario in found if not (quick and scenario.long)]


async def play(kind: type[Scenario], scale: Scale) -> Row:
    """One scenario, cleared away whatever happens."""
    bench = Bench(scale)
    try:
        scenario = kind(bench)
        if reason := scenario.missing():
            scenario.row.broken.append(f"not played: {reason}")
            return scenario.row
        try:
            async with asyncio.timeout(_SCENARIO_S):
                return await scenario.play()
        except Exception as problem:
            scenario.row.broken.append(f"not played to the end: {type(problem).__name__}: {problem}")
            return scenario.row
        finally:
            _keep(bench, kind.name)
    finally:
        await bench.clear()


def _keep(bench: Bench, name: str) -> None:
    """The daemons' logs of the last run, for whoever wants to know more."""
    folder = Path(".cache/faults") / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, daemon in enumerate(bench.daemons):
        (folder / f"daemon-{number}.log").write_text(daemon.log_text)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", default="", help="numbers or parts of names, with commas")
    parser.add_argument("--quick", action="store_true", help="20 streams and short outages")
    parser.add_argument("--streams", type=int, default=0, help="50, or 20 with --quick")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--write", action="store_true", help="write the table in docs/explanation/faults.md")
    parser.add_argument("--list", action="store_true", help="name the scenarios and exit")
    return parser.parse_args()


def _what(options: argparse.Namespace) -> str:
    """The arguments that decide about the figures."""
    words = ["--quick"] if options.quick else []
    words += [f"--streams {options.streams}"] if options.streams else []
    return " ".join([*words, *([f"--only {options.only}"] if options.only else [])])


async def main() -> int:
    """Play, print, write; the exit code."""
    options = arguments()
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    kinds = chosen(options.only, options.quick)
    if options.list:
        sys.stdout.writelines(f"{kind.number:>3} {kind.name:22} {kind.breaks}\n" for kind in kinds)
        return 0
    streams = options.streams or (20 if options.quick else 50)
    scale = Scale(True, streams, 0.6, 1.2) if options.quick else Scale(False, streams)
    began, rows = time.monotonic(), []
    for kind in kinds:
        row = await play(kind, scale)
        rows.append(row)
        sys.stdout.write(terminal_row(row))
        sys.stdout.flush()
    took_s = round(time.monotonic() - began)
    bad = [row for row in rows if not row.held]
    sys.stdout.write(f"{len(rows) - len(bad)} of {len(rows)} scenarios held, {took_s} s\n")
    if options.json:
        report = {**machine(), "command": " ".join(sys.argv[1:]), "took_s": took_s}
        options.json.write_text(json.dumps({**report, "rows": [row.as_json() for row in rows]}, indent=1))
    if options.write:
        write_page(rows, EVERY, took_s, _what(options))
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
