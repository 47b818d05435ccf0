"""The whole of it once, small: our daemon, one load, a second."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.case import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
_DEADLINE_S = 120


class SmokeTests(SynchronousTestCase):
    def test_frames_go_through_and_are_counted(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "figures.json")
            what = ["--quick", "--only", "ours", "--load", "exotel-320/", "storm/plain"]
            run = subprocess.run(
                [sys.executable, "-m", "benchmarks", *what, "--seconds", "0.5", "--out", str(out)],
                cwd=ROOT, capture_output=True, text=True, timeout=_DEADLINE_S, check=False,
            )  # fmt: skip
            self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
            measured = json.loads(out.read_text())["measured"]
        for encryption in ("plain", "tls"):
            figures = measured[f"exotel-320/{encryption}"]["ours"]
            self.assertGreater(figures["cpu_us"], 0)
            self.assertEqual((figures["lost"], figures["wrong"]), (0, 0))
        self.assertGreater(measured["storm/plain"]["ours"]["per_core_s"], 0)

    def test_devices_and_sessions_have_a_price(self) -> None:
        what = ["--count", "16", "--streams", "8", "--only", "sqlite/HS256", "--json"]
        run = subprocess.run(
            [sys.executable, "benchmarks/control_cost.py", *what],
            cwd=ROOT, capture_output=True, text=True, timeout=_DEADLINE_S, check=False,
        )  # fmt: skip
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        figures = json.loads(run.stdout)
        self.assertEqual(set(figures), {"sqlite/HS256", "without"})
        for name in ("registration", "refresh", "session, REST", "session, gRPC"):
            self.assertGreater(figures["sqlite/HS256"][name]["cpu_ms"], 0, name)
        # Begun and ended is two writes, and none where nothing is kept.
        self.assertEqual(figures["sqlite/HS256"]["stream"]["writes"], 2)
        self.assertEqual(figures["without"]["stream"]["writes"], 0)
