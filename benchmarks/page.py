"""``python -m benchmarks.page [FIGURES]``: the page on performance and its plots, from a run's figures.

With a file (``benchmarks/results/latest.json``, or ``soak.json``) its figures become the ones that are kept
beside the page; without one the page is written again from those. What is said in words is in
``benchmarks/page.md``.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

from .endurance import findings, halves_ms, memory_line, warmed
from .results import disturbed, judge
from .tables import FINDING_HEAD, GOAL_HEAD, finding_rows, goal_rows, markdown, number, rows_of

ROOT: Final = Path(__file__).resolve().parents[1]
TEMPLATE: Final = ROOT / "benchmarks/page.md"
PAGE: Final = ROOT / "docs/explanation/performance.md"
FIGURES: Final = ROOT / "docs/explanation/performance/figures.json"
SOAK: Final = ROOT / "docs/explanation/performance/soak.json"

_TITLES: Final = {
    "ingest-960/plain": "960 B (20 ms at 24 kHz) at 50/s, 200 streams: 10,000 frames/s",
    "ingest-960/tls": "The same over TLS 1.3",
    "ingest-9600/plain": "9600 B (200 ms at 24 kHz) at 5/s, 800 streams: 4000 frames/s",
    "ingest-9600/tls": "The same over TLS 1.3",
    "exotel-3200/plain": "Exotel media, 3200 B (100 ms at 16 kHz) at 10/s, 400 calls: 4000 messages/s",
    "exotel-3200/tls": "The same over TLS 1.3",
    "exotel-320/plain": "Exotel media, 320 B (20 ms at 8 kHz) at 50/s, 200 calls: 10,000 messages/s",
    "exotel-320/tls": "The same over TLS 1.3",
    "bus-redis-streams/plain": "960 B at 50/s, 200 streams, to Redis Streams",
    "bus-jetstream/plain": "960 B at 50/s, 200 streams, to NATS JetStream",
    "flat-9600/plain": "Flat out: 9600 B on 100 streams, 14 frames of each not acknowledged",
    "highest/plain": "The most one core carries of 960 B at 50/s with p99 below 50 ms",
    "storm/plain": "Handshakes: connection, RS256, upgrade; 64 at a time",
    "storm/tls": "The same over TLS 1.3, every one a whole handshake",
    "memory/plain": "Memory: 3000 connections, then 1000 of them talk",
    "memory/tls": "The same over TLS 1.3",
}


def soak_parts(told: Mapping[str, Any]) -> dict[str, str]:
    """What the page says of a soak."""
    columns = told["samples"]
    line, judged = memory_line(columns), warmed(columns)
    first_ms, second_ms = halves_ms(columns)
    memory = [kib / 1024 for kib in (judged["rss_kib"][0], judged["rss_kib"][-1], told["after"]["rss_kib"])]
    return {
        "SOAK_STREAMS": f"{told['at_once']} streams",
        "SOAK_LEAVE": f"{told['leave_per_min']:g}",
        "SOAK_RUN": (
            f"This is {told['when'][:10]}, {told['minutes']:g} minutes: {told['frames']:,} frames of "
            f"{told['streams']} streams; {told['stopped']} stopped meanwhile, {told['cut']} were cut, "
            f"{told['resumed']} came back"
        ),
        "SOAK_FINDINGS": markdown(FINDING_HEAD, finding_rows(findings(told))),
        "SOAK_WORDS": (
            f"After the first fifth, memory grew by {line.slope:.1f} KiB a minute with a standard error of "
            f"{line.error:.1f}, from {memory[0]:.1f} to {memory[1]:.1f} MiB, and was {memory[2]:.1f} MiB "
            f"when all had left. There were {min(judged['descriptors'])} to {max(judged['descriptors'])} "
            f"descriptors, {told['before']['descriptors']} before anybody came and "
            f"{told['after']['descriptors']} after. The 99th of a hundred frames took {number(first_ms)} ms "
            f"in the first half and {number(second_ms)} ms in the second, by the median of the samples, "
            f"each of {told['every_s']:g} s; the worst sample says {number(max(judged['p99_ms']))} ms. The "
            f"daemon waited for its core for {median(judged['waited_share']):.0%} of the time, and for "
            f"{max(judged['waited_share']):.0%} in the worst sample."
        ),
    }


def page(told: Mapping[str, Any], soak: Mapping[str, Any], template: str) -> str:
    """The text of the page."""
    blocks = []
    for measurement, title in _TITLES.items():
        targets = told["measured"].get(measurement)
        if targets:
            blocks.append(f"### {title}\n\n{markdown(*rows_of(measurement, targets))}")
    verdicts = judge(told["measured"])
    met = sum(verdict.met is True for verdict in verdicts)
    machine = told["machine"]
    parts = {
        "GOALS": markdown(GOAL_HEAD, goal_rows(verdicts)),
        "SCORE": f"{met} of {len(verdicts)}",
        "FIGURES": "\n\n".join(blocks),
        "MACHINE": (
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB, "
            f"Linux {machine['kernel']}, Python {machine['python']}; "
            f"load {machine['load_before']:g} before it began"
        ),
        "RUN": (
            f"{told['when'][:10]}, {told['rounds']} rounds of {told['seconds']:g} s a measurement, "
            f"{told['took_s'] / 60:.0f} minutes in all" + (", quick" if told["quick"] else "")
        ),
        "DISTURBED": ", ".join(disturbed(told["measured"])) or "none",
        "LEFT_OUT": "; ".join(f"{name} ({why})" for name, why in told["left_out"].items()) or "nothing",
        **soak_parts(soak),
    }
    for name, text in parts.items():
        template = template.replace(f"@{name}@", text)
    return template


def main() -> None:
    """Write everything."""
    from .plots import draw, draw_soak

    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) > 1:
        is_soak = "samples" in json.loads(Path(sys.argv[1]).read_text())
        shutil.copyfile(sys.argv[1], SOAK if is_soak else FIGURES)
    told, soak = json.loads(FIGURES.read_text()), json.loads(SOAK.read_text())
    PAGE.write_text(page(told, soak, TEMPLATE.read_text()))
    for path in (PAGE, *draw(told["measured"], FIGURES.parent), draw_soak(soak, SOAK.parent)):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
