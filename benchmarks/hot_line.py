"""What a frame costs our own code: the whole line in memory, without sockets, kernel or Redis.

    python benchmarks/hot_line.py [--rounds 60] [--against ../other/checkout]

CPU time of this process per frame, from the read of a masked frame to its ack, as the median of rounds
that take turns among the loads. With ``--against`` the rounds also take turns with those of another
checkout, in a process of its own, so that a machine that is slow for a while is slow for both.
``tests/test_hot_line.py`` counts the same line instead of timing it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent

# Name -> (dialect, bytes of audio in a frame, frames of a turn). A turn is one flush, as of many streams.
LOADS: Final = {
    "960 B": ("ingest", 960, 40),
    "9600 B": ("ingest", 9600, 8),
    "exotel 320 B": ("exotel", 320, 40),
    "exotel 3200 B": ("exotel", 3200, 20),
}
TURNS: Final = 25


class Rounds:
    """The loads of one checkout, in this process: one round a line that is read."""

    def __init__(self) -> None:
        from tests.support.hot_line import HotLine

        self._lines = {
            name: (HotLine(dialect=dialect, ack_interval=10), size, count)
            for name, (dialect, size, count) in LOADS.items()
        }

    def run(self) -> dict[str, float]:
        """Microseconds of CPU per frame of each load."""
        return {name: self._turns(*one) for name, one in self._lines.items()}

    @staticmethod
    def _turns(line: Any, size: int, count: int) -> float:
        batches = [line.reads(count, size) for _ in range(TURNS)]
        began = time.process_time_ns()
        for reads in batches:
            line.read(*reads)
            line.flush()
            line.confirm(count)
        used = time.process_time_ns() - began
        line.redis.written.clear()
        line.caller.written.clear()
        return used / (TURNS * count * 1000)


def serve() -> None:
    """Run a round whenever asked."""
    rounds = Rounds()
    for _ in sys.stdin:
        print(json.dumps(rounds.run()), flush=True)


def start(root: Path) -> subprocess.Popen[str]:
    """The process of one checkout."""
    import_path = f"import sys; sys.path[:0] = [{str(root)!r}, {str(ROOT / 'benchmarks')!r}]"
    program = f"{import_path}; import hot_line; hot_line.serve()"
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def main() -> None:
    """Print a line for each load."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    roots = [ROOT, *([options.against.resolve()] if options.against else [])]
    processes = [start(root) for root in roots]
    results: list[list[dict[str, float]]] = [[] for _ in roots]
    for number in range(options.rounds + 2):
        for process, kept in zip(processes, results, strict=True):
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            figures = json.loads(process.stdout.readline())
            if number >= 2:  # it has warmed up
                kept.append(figures)
    for process in processes:
        process.communicate()
    for name in LOADS:
        here, *there = (statistics.median(figures[name] for figures in kept) for kept in results)
        change = f"  against {there[0]:6.2f}: {(here / there[0] - 1) * 100:+.1f} %" if there else ""
        print(f"{name:14} {here:6.2f} us{change}")


if __name__ == "__main__":
    main()
