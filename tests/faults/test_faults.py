"""The fault bench itself, on its shortest scenarios: as a command, the way people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.support.case import SynchronousTestCase
from tests.support.daemon import ROOT

from .__main__ import chosen

DEADLINE_S = 280

# How soon is a matter of how busy the machine is: `make faults` judges that, and not a test.
BY_THE_CLOCK = ("livez answers at once", "the neighbour is answered", "lag is back", "acks stop while")


class QuickTests(SynchronousTestCase):
    def play(self, *only: str) -> dict[str, dict[str, Any]]:
        """The rows of these scenarios, by name."""
        path = self.mktemp_path()
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults", "--quick", "--streams", "10", "--only", ",".join(only),
             "--json", str(path)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            check=False, timeout=DEADLINE_S,
        )  # fmt: skip
        rows = json.loads(path.read_text())["rows"]
        broken = [one for row in rows for one in row["broken"]]
        self.assertEqual(done.returncode, 1 if broken else 0, done.stdout + done.stderr)
        self.assertEqual([one for one in broken if not one.startswith(BY_THE_CLOCK)], [], done.stdout)
        return {row["name"]: row for row in rows}

    def test_a_frozen_bus_and_a_killed_daemon(self) -> None:
        rows = self.play("redis-frozen-2s", "daemon-killed")
        self.assertEqual(set(rows), {"redis-frozen-2s", "daemon-killed"})
        for row in rows.values():
            self.assertGreater(row["frames"], 10 * 50)
            self.assertEqual(
                (row["ended"], row["missing"], row["repeated"], row["out_of_order"]), (0, 0, 0, 0)
            )
        # That there was a fault at all: acks stopped while it lasted, less what a caller was late to read
        # the last of them.
        self.assertGreater(rows["redis-frozen-2s"]["ack_gap_s"], 1.0)

    def test_broken_lines(self) -> None:
        row = self.play("random-tcp-kills")["random-tcp-kills"]
        self.assertEqual((row["ended"], row["missing"], row["repeated"], row["declared"]), (0, 0, 0, 0))


class ChoiceTests(SynchronousTestCase):
    def names(self, only: str, quick: bool = False) -> list[str]:
        """What is played."""
        return [scenario.name for scenario in chosen(only, quick)]

    def test_by_number_and_by_part_of_a_name(self) -> None:
        expected = ["redis-frozen-2s", "redis-frozen-60s", "sentinel-primary-killed", "sentinel-failover"]
        self.assertEqual(self.names("1,sentinel"), expected)

    def test_a_whole_name_is_that_one_alone(self) -> None:
        self.assertEqual(self.names("daemon-killed"), ["daemon-killed"])

    def test_quick_leaves_out_the_long_ones(self) -> None:
        self.assertEqual(self.names("redis-frozen", quick=True), ["redis-frozen-2s"])
        self.assertGreater(len(self.names("")), len(self.names("", quick=True)))

    def test_nothing_chosen_is_a_failure(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults", "--only", "no-such-scenario"],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("0 of 0 scenarios held", done.stdout)
