"""Rows for people, and the page they are written to."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase

from .row import Row
from .scenarios import EVERY
from .table import PAGE, figures_table, fill, scenarios_table, terminal_row


class RowTests(SynchronousTestCase):
    def test_what_did_not_hold_is_said(self) -> None:
        row = Row("1", "redis-frozen", "it is stopped", frames=5)
        row.hold("nothing is missing", True)
        self.assertTrue(row.held)
        self.assertIn("held", terminal_row(row))
        row.hold("order is kept", False, 3)
        self.assertFalse(row.held)
        self.assertIn("BROKEN", terminal_row(row))
        self.assertIn("! order is kept: 3", terminal_row(row))
        self.assertFalse(row.as_json()["held"])

    def test_figures(self) -> None:
        row = Row("9", "full", "x", streams=50, frames=7, missing=0, rss_growth_mib=1.5)
        row.note("CPU 3 %")
        row.hold("order is kept", False)
        text = figures_table([row], 12, "--write")
        self.assertIn("| 9 full | 50 | 7 |", text)
        self.assertIn("| NO |", text)
        self.assertIn("- 9 full: CPU 3 %", text)
        self.assertIn("**9 full broke**: order is kept", text)


class PageTests(SynchronousTestCase):
    def test_only_what_is_between_the_marks_is_written(self) -> None:
        page = "head\n<!-- a: begin -->\nold\n<!-- a: end -->\ntail\n"
        self.assertEqual(fill(page, "a", "new"), "head\n<!-- a: begin -->\n\nnew\n\n<!-- a: end -->\ntail\n")
        with self.assertRaises(ValueError):
            fill("no marks", "a", "new")

    def test_every_scenario_is_on_the_page(self) -> None:
        self.assertIn(scenarios_table(EVERY), PAGE.read_text())

    def test_names_are_their_own(self) -> None:
        names = [scenario.name for scenario in EVERY]
        self.assertEqual(len(names), len(set(names)))
