"""``python -m benchmarks.soak``: a hundred streams for half an hour, some of which leave all the time.

The daemon is as a user starts it, with its defaults and a Redis. Every few seconds its memory, descriptors,
threads and share of a core are written down, with what came on the bus and how late. Exit code 1 when
memory or descriptors grow, a frame is lost or changed, or a connection ended unasked: ``endurance.py``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import sys
import time
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from .__main__ import machine
from .consumer import consume
from .crowd import Gathering, gather
from .endurance import Ending, findings, invented, lost, passed
from .loads import SMALL
from .measure import Failed, Meter, Part
from .procfs import cpu_s, descriptors, rss_kib, threads, waited_s
from .stage import Stage
from .tables import findings_table
from .targets import TARGETS, Running

RESULTS: Final = Path(__file__).resolve().parent / "results/soak.json"
STREAMS: Final = 100
# Of a hundred.
LEAVE_PER_MIN: Final = 5.0
# What a user has who sets nothing; the benchmark would have lifted one and changed the other.
_DEFAULTS: Final = {"MAX_CONNECTIONS_PER_IP": "1000", "VOICEBOT_AGENT": "echo"}
_METRICS: Final = {
    "published": "voiceingest_frames_published_total",
    "gaps": "voiceingest_gaps_total",
    "dropped": "voiceingest_frames_dropped_total",
    "connections": "voiceingest_connections",
    "resumed": "voiceingest_streams_resumed_total",
}
_SETTLE_S: Final = 1.0
_ANSWER_S: Final = 30.0


def metric(exposition: str, name: str) -> int:
    """The sum of a metric over all its labels; 0 where it has not been counted yet."""
    rows = (line.rpartition(" ") for line in exposition.splitlines() if not line.startswith("#"))
    return int(sum(float(value) for row, _, value in rows if row.partition("{")[0] == name))


class Soak:
    """One run."""

    def __init__(self, stage: Stage, options: argparse.Namespace) -> None:
        self._options = options
        (ours,) = (target for target in TARGETS if target.key == "ours")
        self._daemon = Running(stage, ours.prepare(), _DEFAULTS)
        context = multiprocessing.get_context("spawn")
        self._consumer = Part(context, consume, "pubsub", stage.redis.port)
        self._crowd = Part(context, gather)
        self._gathering = Gathering(
            SMALL.sized(options.streams), self._daemon.plain_port, self._daemon.tls_port,
            stage.bearers_for(options.minutes * 60 + 600), str(stage.tls.ca_path), options.leave_per_min,
        )  # fmt: skip
        self._rows: list[dict[str, float]] = []
        self._began = 0.0

    def run(self) -> dict[str, Any]:
        """All of it; what came of it."""
        self._wait_until_ready()
        at_first = self._held()
        self._consumer.ask("begin", (self._gathering.run, self._gathering.load.size))
        self._crowd.ask("open", self._gathering)
        time.sleep(_SETTLE_S)
        self._crowd.tell("talk")
        self._began = time.monotonic()
        before = self._mark()
        while time.monotonic() - self._began < self._options.minutes * 60:
            time.sleep(self._options.every)
            before = self._sample(before)
        told = self._crowd.ask("part")
        endings = {stream: Ending(*end) for stream, end in told.pop("endings").items()}
        sent = sum(ending.least for ending in endings.values())
        whole = Meter.came(self._consumer, sent)
        lasts = self._consumer.ask("lasts")
        return {
            **{name: told[name] for name in ("stopped", "cut", "resumed", "broken")},
            "streams": len(endings),
            "frames": whole["frames"],
            "lost": lost(endings, lasts),
            "wrong": whole["wrong"] + whole["foreign"] + invented(endings, lasts),
            "before": at_first,
            "after": self._empty(),
            "samples": columns(self._rows),
        }

    def _mark(self) -> dict[str, float]:
        """What only means something beside the next."""
        pid = self._daemon.pid
        return {
            "at": time.monotonic(), "cpu": cpu_s(pid), "waited": waited_s(pid),
            "frames": self._consumer.ask("count"),
        }  # fmt: skip

    def _held(self) -> dict[str, int]:
        pid = self._daemon.pid
        return {"rss_kib": rss_kib(pid), "descriptors": descriptors(pid), "threads": threads(pid)}

    def _counted(self) -> dict[str, int]:
        """What the daemon says of itself."""
        exposition = self._read("/metrics")
        return {name: metric(exposition, metric_name) for name, metric_name in _METRICS.items()}

    def _read(self, path: str) -> str:
        """A page of the admin site."""
        url = f"http://127.0.0.1:{self._daemon.admin_port}{path}"
        with urllib.request.urlopen(url, timeout=_ANSWER_S) as answer:
            text: str = answer.read().decode()
            return text

    def _wait_until_ready(self) -> None:
        """Until it has its bus. Raises: ``Failed``."""
        deadline = time.monotonic() + _ANSWER_S
        while True:
            try:
                self._read("/readyz")
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Failed(f"the daemon is not ready: {error}") from error
                time.sleep(0.1)
            else:
                return

    def _empty(self) -> dict[str, int]:
        """What it still holds when everybody has left."""
        deadline = time.monotonic() + _ANSWER_S
        while (counted := self._counted())["connections"] and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(_SETTLE_S)
        return {**self._held(), **counted}

    def _sample(self, before: dict[str, float]) -> dict[str, float]:
        now, held = self._mark(), self._held()
        came, own = self._consumer.ask("report")["latency_ms"], self._crowd.ask("report")
        self._consumer.ask("fresh")
        took = now["at"] - before["at"]
        row = {
            "at_s": round(now["at"] - self._began, 1),
            **held,
            "cpu_share": round((now["cpu"] - before["cpu"]) / took, 4),
            "waited_share": round((now["waited"] - before["waited"]) / took, 4),
            "frames_per_s": round((now["frames"] - before["frames"]) / took, 1),
            "p50_ms": came.get("p50", 0.0),
            "p99_ms": came.get("p99", 0.0),
            "generator_late_ms": own["late_ms"].get("p99", 0.0),
            **self._counted(),
        }
        self._rows.append(row)
        print(line_of(row), flush=True)
        return now

    def close(self) -> None:
        """End what was started."""
        for part in (self._crowd, self._consumer):
            part.quit()
        self._daemon.stop()


def columns(rows: Iterable[dict[str, float]]) -> dict[str, list[float]]:
    """Rows, turned."""
    told: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            told.setdefault(name, []).append(value)
    return told


def line_of(row: dict[str, float]) -> str:
    """A sample, to be read while it runs."""
    return (
        f"[{row['at_s']:5.0f} s] {row['rss_kib'] / 1024:6.1f} MiB, {row['descriptors']:.0f} descriptors, "
        f"{row['threads']:.0f} threads, {row['cpu_share']:.0%} of a core, "
        f"{row['frames_per_s']:.0f} frames/s, p50 {row['p50_ms']:.2f} ms, p99 {row['p99_ms']:.2f} ms, "
        f"dropped {row['dropped']:.0f}"
    )


def dumped(told: dict[str, Any]) -> str:
    """As JSON, a column a line."""
    samples = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(column)}" for name, column in told["samples"].items()
    )
    rest = json.dumps({name: value for name, value in told.items() if name != "samples"}, indent=1)
    return f'{rest[:-2]},\n "samples": {{\n{samples}\n }}\n}}\n'


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 minutes, which is too short for memory")
    parser.add_argument("--minutes", type=float, help="how long (30; 2 with --quick)")
    parser.add_argument("--every", type=float, help="seconds from sample to sample (10; 5 with --quick)")
    parser.add_argument("--streams", type=int, default=STREAMS, help="that talk at the same time (100)")
    parser.add_argument(
        "--leave-per-min", type=float, default=LEAVE_PER_MIN, help="how many leave, for good or not (5)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    options = parser.parse_args(arguments)
    options.minutes = options.minutes or (2.0 if options.quick else 30.0)
    options.every = options.every or (5.0 if options.quick else 10.0)
    return options


def main() -> int:
    """Run, tell, write; the exit code is the verdict's."""
    options = parsed(sys.argv[1:])
    told: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(),
        "minutes": options.minutes, "every_s": options.every, "at_once": options.streams,
        "leave_per_min": options.leave_per_min,
    }  # fmt: skip
    stage = Stage()
    try:
        soak = Soak(stage, options)
        try:
            told |= soak.run()
        finally:
            soak.close()
    finally:
        stage.close()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(dumped(told))
    if importlib.util.find_spec("matplotlib") is not None:
        from .plots import draw_soak

        draw_soak(told, options.out.parent)
    print(findings_table(findings(told)))
    print(f"{told['frames']} frames of {told['streams']} streams; figures: {options.out}")
    return 0 if passed(told) else 1


if __name__ == "__main__":
    sys.exit(main())
