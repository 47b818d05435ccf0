from __future__ import annotations

from collections import Counter
from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel import summary
from voiceingest.cli.exotel.report import CallReport
from voiceingest.cli.failures import Exit
from voiceingest.cli.percentiles import Latencies


def report(name: str = "call-1", **more: Any) -> CallReport:
    made = CallReport(name, sent_chunks=10, sent_samples=8000, seconds=1.0, close_code=1000, began=True)
    for key, value in more.items():
        setattr(made, key, value)
    return made


def answered(name: str = "call-1", **more: Any) -> CallReport:
    usual: dict[str, Any] = {
        "heard_chunks": 4,
        "heard_samples": 6400,
        "sizes": Counter({3200: 3, 320: 1}),
        "first_audio_s": 0.12,
        "lateness": Latencies([-0.1, 0.02]),
        "identical": 6400,
        "played_s": 0.8,
    }
    return report(name, **usual | more)


class PairsTests(SynchronousTestCase):
    def pairs(self, *reports: CallReport) -> dict[str, str]:
        return summary.pairs(list(reports), 8000)

    def test_one_call(self) -> None:
        rows = self.pairs(answered(late=Latencies([0.001]), digits=2, tls_version="TLSv1.3"))
        self.assertEqual(
            rows,
            {
                "call": "call-1",
                "sent": "10 chunks, 1.0 s, 2 keys, p50 1.0 ms  p99 1.0 ms  max 1.0 ms late",
                "heard": "4 chunks, 0.8 s, of 3200 bytes (3x), 320 bytes (1x)",
                "first audio": "120 ms after the start",
                "pace": "p50 -100.0 ms  p99 20.0 ms  max 20.0 ms after the ideal time",
                "underruns": "none",
                "echo": "identical: 6400 samples",
                "closed": "1000, TLSv1.3",
            },
        )

    def test_nothing_was_heard(self) -> None:
        rows = self.pairs(report())
        self.assertEqual(rows["heard"], "nothing")
        self.assertFalse({"first audio", "pace", "underruns", "echo", "marks", "clears"} & rows.keys())

    def test_holes_marks_and_clears(self) -> None:
        rows = self.pairs(
            answered(gaps=Latencies([0.02, 0.03]), gap_total_s=0.05, marks=3, marks_echoed=2, clears=1)
        )
        self.assertEqual(rows["underruns"], "2, 50 ms in all, longest 30 ms")
        self.assertEqual(rows["marks"], "2 of 3 reached and echoed")
        self.assertEqual(rows["clears"], "1, 0.0 s not played")

    def test_barging_in(self) -> None:
        rows = self.pairs(answered(interrupted=True, clears=1, cleared_s=1.5, barge_in_s=0.13))
        self.assertEqual(rows["clears"], "1, 1.5 s not played; 130 ms after the barge-in began")
        self.assertIn("was not answered", self.pairs(answered(interrupted=True))["clears"])

    def test_no_echo(self) -> None:
        rows = self.pairs(answered(identical=3, differs_at=3))
        self.assertEqual(rows["echo"], "what came back is not what was sent")
        rows = self.pairs(answered(identical=4000, differs_at=4000))
        self.assertEqual(rows["echo"], "differs from what was sent after 4000 identical samples")

    def test_many(self) -> None:
        rows = self.pairs(answered("a"), answered("b", differs_at=7, failure="x", exit_code=1))
        self.assertEqual(rows["calls"], "1 of 2 in order")
        self.assertEqual(rows["echo"], "identical in 1 of 2 calls")
        self.assertEqual(rows["closed"], "1000 (2x), no TLS")


class DocumentTests(SynchronousTestCase):
    def test_it_says_everything(self) -> None:
        failed = answered("b", illegal=Counter(not_320=2), webhook_s=1.5)
        failed.fail("no", "hint")
        failed.fail("not told", None, Exit.USAGE)
        told = summary.document([answered("a"), failed], 8000)
        self.assertEqual((told["ok"], told["exit_code"], told["calls"]), (False, 1, 2))
        self.assertEqual(told["failures"], [{"reason": "no", "hint": "hint", "calls": 1}])
        self.assertEqual(told["sizes"], {"3200": 6, "320": 2})
        self.assertEqual(told["illegal"], {"not_320": 2})
        self.assertEqual([one["ok"] for one in told["per_call"]], [True, False])
        self.assertEqual(told["per_call"][1]["webhook_ms"], 1500.0)
        self.assertEqual(told["lateness_ms"], {"p50": -100.0, "p99": 20.0, "max": 20.0})


class RemarkTests(SynchronousTestCase):
    def test_remarks(self) -> None:
        made = answered(illegal=Counter(not_320=2), odd=Counter(camel_case=1), webhook_s=1.5)
        self.assertEqual(
            summary.remarks([made, answered()]),
            [
                "illegal: audio that is not a multiple of 320 bytes (2x)",
                "undocumented: streamSid instead of stream_sid (1x)",
                "the webhook took up to 1500 ms; the caller waits that long",
            ],
        )

    def test_complaints_are_told_once(self) -> None:
        reports = [answered(), answered(), answered()]
        for made in reports[1:]:
            made.fail("bad \x1b", "do this")
        self.assertEqual(summary.complaints(reports), [("2 calls: bad \\x1b", "do this")])
        self.assertEqual(summary.complaints(reports[1:2]), [("bad \\x1b", "do this")])
