"""The soak: once, small, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.soak import columns, dumped, line_of, metric, parsed
from tests.support.case import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
_DEADLINE_S = 120


class PartsTests(SynchronousTestCase):
    def test_a_metric_is_added_over_its_labels(self) -> None:
        text = '# TYPE a counter\na_total{reason="x"} 2.0\na_total{reason="y z"} 3.0\na_total_b 9.0\nc 7.0\n'
        self.assertEqual([metric(text, name) for name in ("a_total", "c", "d")], [5, 7, 0])

    def test_rows_become_columns_a_line_each(self) -> None:
        samples = columns([{"at_s": 1.0, "rss_kib": 5}, {"at_s": 2.0, "rss_kib": 6}])
        self.assertEqual(samples, {"at_s": [1.0, 2.0], "rss_kib": [5, 6]})
        told = {"when": "now", "samples": samples, "after": {"dropped": 0}}
        text = dumped(told)
        self.assertEqual(json.loads(text), told)
        self.assertIn('\n  "rss_kib": [5, 6]\n', text)

    def test_how_long(self) -> None:
        whole, quick, asked = parsed([]), parsed(["--quick"]), parsed(["--quick", "--minutes", "7"])
        told = [(run.minutes, run.every) for run in (whole, quick, asked)]
        self.assertEqual(told, [(30, 10), (2, 5), (7, 5)])
        self.assertEqual((whole.streams, whole.leave_per_min), (100, 5))

    def test_a_line_while_it_runs(self) -> None:
        others = ("descriptors", "threads", "cpu_share", "frames_per_s", "p50_ms", "p99_ms", "dropped")
        row = dict.fromkeys(("at_s", *others), 1.0)
        self.assertIn(" 80.0 MiB, 1 descriptors", line_of({**row, "rss_kib": 80 * 1024.0}))


class SmokeTests(SynchronousTestCase):
    """Everybody who leaves leaves in one of three ways, and nothing is lost by it."""

    def run_small(self, folder: str) -> dict[str, Any]:
        out = Path(folder, "soak.json")
        what = ["--minutes", "0.1", "--every", "2", "--streams", "6", "--leave-per-min", "120"]
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.soak", *what, "--out", str(out)],
            cwd=ROOT, capture_output=True, text=True, timeout=_DEADLINE_S, check=False,
        )  # fmt: skip
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertIn("too short to say", run.stdout)
        told: dict[str, Any] = json.loads(out.read_text())
        return told

    def test_frames_go_through_and_are_counted(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            told = self.run_small(folder)
        for way in ("stopped", "cut", "resumed"):
            self.assertGreater(told[way], 0, way)
        # Whoever stopped or was cut, and everybody who was there at the end.
        self.assertEqual(told["streams"], 6 + told["stopped"] + told["cut"])
        self.assertEqual((told["lost"], told["wrong"], told["broken"]), (0, 0, 0))
        self.assertGreater(told["frames"], 0)
        self.assertEqual(told["after"]["published"], told["frames"])
        self.assertEqual(told["after"]["resumed"], told["resumed"])
        lengths = {len(column) for column in told["samples"].values()}
        self.assertEqual(len(lengths), 1)
