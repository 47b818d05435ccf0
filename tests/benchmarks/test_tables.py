"""Tables, and the page they are on."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.endurance import Finding
from benchmarks.page import FIGURES, PAGE, SOAK, TEMPLATE, page
from benchmarks.results import judge
from benchmarks.tables import (
    aligned,
    findings_table,
    goals_table,
    markdown,
    measurements_table,
    number,
    rows_of,
)
from tests.support.case import SynchronousTestCase

MEASURED: dict[str, dict[str, dict[str, Any]]] = {
    "ingest-960/plain": {
        "go": {"cpu_us": 33.0, "latency_ms": {"p99": 0.5}, "lost": 0},
        "ours": {"cpu_us": 26.5, "latency_ms": {"p99": 4.0}, "lost": 0},
        "node": {"failed": "nothing came on the bus"},
    }
}


SOAKED: dict[str, Any] = {
    "when": "2026-11-28T00:00:00+00:00", "minutes": 30.0, "every_s": 10.0, "at_once": 100,
    "leave_per_min": 5.0, "frames": 9_000_000, "streams": 200, "stopped": 50, "cut": 51, "resumed": 52,
    "lost": 7, "wrong": 0, "broken": 0, "before": {"descriptors": 15},
    "after": {"rss_kib": 81920, "descriptors": 16, "dropped": 0, "resumed": 52},
    "samples": {
        "at_s": [300.0, 600.0, 900.0, 1200.0, 1500.0, 1800.0], "rss_kib": [70000] + [81920] * 5,
        "descriptors": [90, 100, 101, 102, 101, 100], "threads": [2] * 6, "waited_share": [0.5] + [0.02] * 5,
        "p99_ms": [99.0, 4.0, 4.0, 8.0, 8.0, 8.0],
    },
}  # fmt: skip


class TableTests(SynchronousTestCase):
    def test_digits(self) -> None:
        told = [number(value) for value in (None, 0, 3, 3.0, 0.756, 26.54, 1234.5)]
        self.assertEqual(told, ["-", "0", "3", "3", "0.76", "26.5", "1234"])

    def test_ours_comes_first_and_what_failed_says_why(self) -> None:
        head, rows = rows_of("ingest-960/plain", MEASURED["ingest-960/plain"])
        self.assertEqual(head[:4], ["", "CPU us/frame", "p50 ms", "p99 ms"])
        self.assertEqual([row[0] for row in rows], ["ours", "go", "node"])
        self.assertEqual(rows[0][:4], ["ours", "26.5", "-", "4"])
        self.assertEqual(rows[2], ["node", "failed: nothing came on the bus"])

    def test_columns_of_other_kinds(self) -> None:
        self.assertEqual(rows_of("memory/tls", {})[0], ["", "KiB idle", "KiB talking", "MiB empty"])
        self.assertEqual(rows_of("flat-9600/plain", {})[0][1], "frames/s")

    def test_columns_are_under_one_another(self) -> None:
        self.assertEqual(aligned([["", "a"], ["longer", "12"], ["x"]]), "         a\nlonger  12\nx")

    def test_on_a_terminal(self) -> None:
        self.assertIn("26.5", measurements_table(MEASURED))
        told = goals_table(judge(MEASURED))
        self.assertRegex(told, r"ingest 960 B, plain +go +26\.5 +33 +0\.80 +<= 0\.75 +missed")
        self.assertNotIn("*", told)

    def test_what_is_judged_of_a_soak(self) -> None:
        told = findings_table([Finding("lost", 1, 0, False), Finding("memory", 2.5, 64, None)])
        self.assertRegex(told, r"lost +1 +0 +failed\n")
        self.assertRegex(told, r"memory +2\.50 +64 +too short to say\n")

    def test_markdown(self) -> None:
        self.assertEqual(markdown(["a", "b"], [["1", "2"]]), "| a | b |\n|---|---|\n| 1 | 2 |")


class PageTests(SynchronousTestCase):
    def test_the_page_is_from_its_figures(self) -> None:
        figures = (json.loads(path.read_text()) for path in (FIGURES, SOAK))
        written = page(*figures, TEMPLATE.read_text())
        self.assertEqual(PAGE.read_text(), written, "python -m benchmarks.page")

    def test_nothing_is_left_open(self) -> None:
        told = {
            "measured": MEASURED, "left_out": {"go": "no Go"}, "quick": True, "rounds": 1, "seconds": 1.0,
            "took_s": 60, "when": "2026-11-28T00:00:00+00:00",
            "machine": {
                "processor": "P", "cores": 2, "memory_gib": 24.0, "kernel": "6", "python": "3.11",
                "load_before": 0.1,
            },
        }  # fmt: skip
        text = page(told, SOAKED, TEMPLATE.read_text())
        self.assertNotRegex(text, "@[A-Z_]+@")
        self.assertIn("go (no Go)", text)
        self.assertIn("| ingest 960 B, plain | go | 26.5 | 33 | 0.80 | <= 0.75 | **missed** |", text)
        self.assertIn("| frames lost | 7 | 0 | **failed** |", text)
        self.assertIn("100 to 102 descriptors, 15 before anybody came and 16 after", text)
        self.assertIn("took 4 ms in the first half and 8 ms in the second", text)
        self.assertIn("9,000,000 frames of 200 streams; 50 stopped meanwhile, 51 were cut, 52 came", text)
