from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel.report import OTHER_SIZE, SIZES_MAX_COUNT, CallReport, worst
from voiceingest.cli.failures import Exit


class ReportTests(SynchronousTestCase):
    def test_sizes_have_a_bound(self) -> None:
        report = CallReport("c")
        for size in range(1, 100):
            report.chunk(size * 320, size * 160)
        report.chunk(320, 160)
        self.assertEqual(len(report.sizes), SIZES_MAX_COUNT + 1)
        self.assertEqual((report.sizes[320], report.sizes[OTHER_SIZE]), (2, 99 - SIZES_MAX_COUNT))
        self.assertEqual(report.heard_chunks, 100)

    def test_the_first_failure_stays(self) -> None:
        report = CallReport("c")
        report.fail("first", "hint")
        report.fail("second", None, Exit.USAGE)
        self.assertEqual((report.failure, report.hint, report.exit_code), ("first", "hint", Exit.REFUSED))

    def test_worst(self) -> None:
        for codes, expected in (
            ((0, 0), Exit.OK),
            ((0, 3), Exit.NO_CONNECTION),
            ((3, 1, 0), Exit.REFUSED),
            ((1, 2, 3), Exit.USAGE),
        ):
            reports = [CallReport("c", exit_code=code) for code in codes]
            self.assertEqual(worst(reports), expected)
