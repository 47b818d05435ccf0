"""``python -m benchmarks``: all targets, all loads, interleaved; a table, and the figures as JSON."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from .loads import FANOUT, HANDSHAKE_COUNT, PACED, SMALL
from .measure import Failed, Meter
from .procfs import cpu_model
from .results import disturbed, judge, medians
from .stage import Stage
from .tables import goals_table, measurements_table
from .targets import TARGETS, Missing, Running, Target

RESULTS: Final = Path(__file__).resolve().parent / "results/latest.json"


class Bench:
    """One run over everything."""

    def __init__(self, stage: Stage, options: argparse.Namespace) -> None:
        self._stage, self._options = stage, options
        self._meter = Meter(stage, options.seconds)
        self._commands: dict[Target, list[str]] = {}
        self._running: dict[str, Running] = {}
        self.left_out: dict[str, str] = {}
        # measurement -> target -> one dictionary a round
        self._rounds: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self._began = time.monotonic()

    def prepare(self) -> None:
        """Make every target ready; what cannot be is left out, and said."""
        for target in TARGETS:
            if self._options.only and target.key not in self._options.only:
                continue
            try:
                command = target.prepare()
                self._running[target.key] = Running(self._stage, command)
                self._commands[target] = command
            except Missing as missing:
                self.left_out[target.key] = str(missing)
                self._say(f"{target.title} is left out: {missing}")

    def run(self) -> None:
        """Everything, round by round."""
        self._memory()
        for turn in range(self._options.rounds):
            self._say(f"round {turn + 1} of {self._options.rounds}")
            self._paced()
            self._fan_out()
            self._storms()
            self._flat_out()
        if not self._options.quick:
            self._highest()

    def _record(self, measurement: str, target: str, measure: Any, *arguments: Any, **named: Any) -> None:
        try:
            figures = measure(*arguments, **named)
        except Failed as failed:
            figures = {"failed": str(failed)}
        self._rounds.setdefault(measurement, {}).setdefault(target, []).append(figures)
        shown = {
            name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()
        }
        self._say(f"  {measurement:20} {target:11} {shown}")

    def _wanted(self, measurement: str) -> bool:
        return not self._options.load or measurement.startswith(tuple(self._options.load))

    def _paced(self) -> None:
        for load in PACED:
            for encryption in ("plain", "tls"):
                for target in self._commands:
                    name = f"{load.key}/{encryption}"
                    if load.dialect in target.dialects and self._wanted(name):
                        running = self._running[target.key]
                        is_tls = encryption == "tls"
                        self._record(name, target.key, self._meter.paced, running, load, tls=is_tls)

    def _fan_out(self) -> None:
        """The same load of ours to another bus; pub/sub is measured already."""
        stage = self._stage
        urls = {"redis-streams": f"redis-streams://127.0.0.1:{stage.redis.port}"}
        if stage.nats is not None:
            urls["jetstream"] = stage.nats.url()
        elif "jetstream" not in self.left_out:
            self.left_out["jetstream"] = "apt-get install nats-server"
            self._say("JetStream is left out: apt-get install nats-server")
        for bus in (bus for bus in FANOUT if bus in urls):
            name = f"bus-{bus}/plain"
            running = self._variant(bus, {"PUBLISH_URL": urls[bus]}) if self._wanted(name) else None
            if running is not None:
                self._record(name, "ours", self._meter.paced, running, SMALL, tls=False, bus=bus)

    def _variant(self, name: str, settings: dict[str, str]) -> Running | None:
        """Our daemon once more, with other settings."""
        ours = [target for target in self._commands if target.key == "ours"]
        if ours and name not in self._running:
            self._running[name] = Running(self._stage, self._commands[ours[0]], settings)
        return self._running.get(name)

    def _storms(self) -> None:
        count = HANDSHAKE_COUNT // (10 if self._options.quick else 1)
        for encryption in filter(lambda word: self._wanted(f"storm/{word}"), ("plain", "tls")):
            for target in self._commands:
                running, tls = self._running[target.key], encryption == "tls"
                self._record(f"storm/{encryption}", target.key, self._meter.storm, running, count, tls=tls)

    def _flat_out(self) -> None:
        for target in self._commands if self._wanted("flat-9600/plain") else ():
            running = self._running[target.key]
            if target.key == "ours":
                # Peers have no such bound either.
                running = self._variant("flat-out", {"INGEST_MAX_REALTIME_FACTOR": "0"}) or running
            self._record("flat-9600/plain", target.key, self._meter.flat_out, running)

    def _memory(self) -> None:
        share = 0.1 if self._options.quick else 1.0
        for encryption in filter(lambda word: self._wanted(f"memory/{word}"), ("plain", "tls")):
            for target, command in self._commands.items():
                fresh = Running(self._stage, command)
                tls = encryption == "tls"
                self._record(f"memory/{encryption}", target.key, self._meter.memory, fresh, share, tls=tls)
                fresh.stop()

    def _highest(self) -> None:
        measured = self.measured().get(f"{SMALL.key}/plain", {})
        for target in self._commands:
            cpu_us = measured.get(target.key, {}).get("cpu_us")
            if cpu_us and self._wanted("highest/plain"):
                running = self._running[target.key]
                self._record("highest/plain", target.key, self._meter.highest, running, cpu_us)

    def measured(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Medians: measurement -> target -> figures."""
        return {
            measurement: {target: medians(rounds) for target, rounds in targets.items()}
            for measurement, targets in self._rounds.items()
        }

    def _say(self, line: str) -> None:
        print(f"[{time.monotonic() - self._began:4.0f} s] {line}", flush=True)

    def close(self) -> None:
        """End what was started."""
        self._meter.close()
        for running in self._running.values():
            running.stop()


def machine() -> dict[str, Any]:
    """What it ran on."""
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "processor": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kib / 1024**2, 1),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, short, without the search")
    parser.add_argument("--only", nargs="+", choices=[target.key for target in TARGETS], help="these targets")
    parser.add_argument("--load", nargs="+", help="only measurements whose names begin with one of these")
    parser.add_argument("--seconds", type=float, help="of each measurement (2; 1 with --quick)")
    parser.add_argument("--rounds", type=int, help="of which the median is told (3; 1 with --quick)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or (1.0 if options.quick else 2.0)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def draw_beside(told: dict[str, Any], folder: Path) -> None:
    """The plots of this run, where there is something to draw with."""
    if importlib.util.find_spec("matplotlib") is None:
        print("no plots: pip install matplotlib")
        return
    from .plots import draw

    draw(told["measured"], folder)


def main() -> int:
    """Run, tell, write; exit code 1 when a frame of ours was lost or changed."""
    options = parsed(sys.argv[1:])
    told: dict[str, Any] = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    began = time.monotonic()
    stage = Stage()
    try:
        bench = Bench(stage, options)
        try:
            bench.prepare()
            bench.run()
        finally:
            bench.close()
    finally:
        stage.close()
    told |= {
        "quick": options.quick, "seconds": options.seconds, "rounds": options.rounds,
        "took_s": round(time.monotonic() - began), "left_out": bench.left_out, "measured": bench.measured(),
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(told, indent=1) + "\n")
    draw_beside(told, options.out.parent)
    print(measurements_table(told["measured"]))
    print(goals_table(judge(told["measured"])))
    shared = disturbed(told["measured"])
    if shared:
        print(f"The machine had other work, do not trust {len(shared)} figures: {', '.join(shared)}.")
    print(f"{told['took_s']} s; figures: {options.out}")
    ours = [targets["ours"] for targets in told["measured"].values() if "ours" in targets]
    return int(any(figures.get("lost") or figures.get("wrong") for figures in ours))


if __name__ == "__main__":
    sys.exit(main())
