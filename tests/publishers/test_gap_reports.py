"""One timer for all lanes that owe a report; test_delivery shows what they report."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.publishers.gap_reports import GAP_INTERVAL_S, GapReports


class Owing:
    """A lane that counts its reports."""

    def __init__(self) -> None:
        self.reports = 0

    def report_gaps(self) -> None:
        self.reports += 1


class GapReportsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.gaps = GapReports(self.clock)
        self.lanes: list[Any] = [Owing(), Owing()]

    def reports(self) -> list[int]:
        return [lane.reports for lane in self.lanes]

    def test_each_once_in_an_interval(self) -> None:
        for _ in range(100):
            for lane in self.lanes:
                self.gaps.owe(lane)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual((self.reports(), self.clock.getDelayedCalls()), ([1, 1], []))
        self.gaps.owe(self.lanes[0])
        self.clock.advance(GAP_INTERVAL_S)
        self.assertEqual(self.reports(), [2, 1])

    def test_now(self) -> None:
        self.gaps.owe(self.lanes[0])
        self.gaps.report()
        self.assertEqual((self.reports(), self.clock.getDelayedCalls()), ([1, 0], []))

    def test_no_more(self) -> None:
        self.gaps.owe(self.lanes[0])
        self.gaps.stop()
        self.assertEqual((self.reports(), self.clock.getDelayedCalls()), ([0, 0], []))
