"""RFC 6455 as Autobahn|Testsuite sees it: sections 1-7, 9 and 10 (compression is refused)."""

from __future__ import annotations

from twisted.trial.unittest import SkipTest

from tests.support.case import SynchronousTestCase
from tests.testsuite import wstest

# 16 + 11 + 7 + 10 + 20 + 145 + 37 + 54 + 1: a suite that lost cases on its way would prove nothing.
QUICK_CASES = 301


class FuzzingClientTests(SynchronousTestCase):
    """The outside suite; without a CPython 2.7 it is skipped, which CI does not allow."""

    def test_every_case(self) -> None:
        try:
            program = wstest.prepare()
        except wstest.Unavailable as reason:
            raise SkipTest(str(reason)) from reason
        results = wstest.run(program, wstest.QUICK, self.mktemp_path())
        self.assertEqual(wstest.bad(results), {})
        self.assertEqual(len(results), QUICK_CASES)


class ReportTests(SynchronousTestCase):
    """How the report is read: a bad case cannot pass for a good one."""

    def test_bad_closing_counts(self) -> None:
        report = {
            "1.1.1": {"behavior": "OK", "behaviorClose": "OK"},
            "2.1": {"behavior": "OK", "behaviorClose": "FAILED"},
            "3.1": {"behavior": "FAILED", "behaviorClose": "OK"},
            "7.1.6": {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"},
        }
        self.assertEqual(wstest.bad(wstest.behaviours(report)), {"2.1": "FAILED", "3.1": "FAILED"})

    def test_only_compression_may_be_unimplemented(self) -> None:
        results = {"1.1.1": "UNIMPLEMENTED", "12.1.1": "UNIMPLEMENTED", "13.2.1": "WRONG CODE"}
        self.assertEqual(wstest.bad(results), {"1.1.1": "UNIMPLEMENTED", "13.2.1": "WRONG CODE"})
