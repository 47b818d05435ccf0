"""``python -m benchmarks.page [FIGURES]``: the page on performance and its plots, from a run's figures.

With a file (``benchmarks/results/latest.json``) its figures become the ones that are kept beside the page;
without one the page is written again from those. What is said in words is in ``benchmarks/page.md``.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .results import disturbed, judge
from .tables import GOAL_HEAD, goal_rows, markdown, rows_of

ROOT: Final = Path(__file__).resolve().parents[1]
TEMPLATE: Final = ROOT / "benchmarks/page.md"
PAGE: Final = ROOT / "docs/explanation/performance.md"
FIGURES: Final = ROOT / "docs/explanation/performance/figures.json"

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


def page(told: Mapping[str, Any], template: str) -> str:
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
    }
    for name, text in parts.items():
        template = template.replace(f"@{name}@", text)
    return template


def main() -> None:
    """Write everything."""
    from .plots import draw

    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) > 1:
        shutil.copyfile(sys.argv[1], FIGURES)
    told = json.loads(FIGURES.read_text())
    PAGE.write_text(page(told, TEMPLATE.read_text()))
    for path in (PAGE, *draw(told["measured"], FIGURES.parent)):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
