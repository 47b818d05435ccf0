from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.cli.failures import Exit
from voiceingest.cli.streams import StreamReport
from voiceingest.cli.summaries import complaints, document, pairs, remarks
from voiceingest.cli.tally import Tally


def good(name: str = "a") -> StreamReport:
    tally = Tally(started={})
    for number in range(10):
        tally.sent(320, number / 10)
    tally.ack(10, 0.905)
    tally.finish({"seq": 10, "published": 10, "dropped": 0, "pending": 0})
    return StreamReport(name, tally, seconds=1.0, close_code=1000, tls_version="TLSv1.3")


def bad(name: str = "b") -> StreamReport:
    tally = Tally(started={})
    tally.error("odd\x1b[2J", "The frame")
    return StreamReport(
        name, tally, failure="it broke\x1b", hint="mend it", exit_code=Exit.REFUSED, close_code=1006
    )


class SummaryTests(SynchronousTestCase):
    def test_one_stream(self) -> None:
        self.assertEqual(
            pairs([good()], 8000),
            {
                "stream": "a",
                "sent": "10 frames, 0.2 s of audio, 3200 bytes",
                "took": "1.0 s, latest frame 0.0 ms late",
                "confirmed": "10 frames in 1 acks",
                "ack latency": "p50 5.0 ms  p95 5.0 ms  p99 5.0 ms  max 5.0 ms",
                "closed": "1000, TLSv1.3",
            },
        )

    def test_what_happened_on_the_way(self) -> None:
        report = good()
        report.tally.resumes, report.tally.restarts = 3, 1
        report.tally.gap(4, 6)
        rows = pairs([report, good()], 8000)
        self.assertEqual(rows["resumed"], "3 times")
        self.assertIn("1 times: the daemon would not go on", rows["began anew"])
        self.assertEqual(rows["gaps"], "1, 3 frames declared lost")
        told = document([report, good()], 8000)
        self.assertEqual((told["resumes"], told["restarts"], told["gap_frames"]), (3, 1, 3))
        self.assertEqual(told["per_stream"][0]["resumes"], 3)

    def test_many_streams(self) -> None:
        rows = pairs([good(), good("c"), bad()], 8000)
        self.assertEqual(rows["streams"], "2 of 3 without a fault")
        self.assertEqual(rows["closed"], "1000 (2x), 1006 (1x), TLSv1.3")

    def test_the_document_holds_what_a_program_asks_for(self) -> None:
        found = document([good(), bad()], 8000)
        self.assertEqual((found["ok"], found["exit_code"], found["streams"]), (False, 1, 2))
        self.assertEqual((found["sent_frames"], found["confirmed_frames"]), (10, 10))
        self.assertEqual(found["failures"], [{"reason": "it broke\x1b", "hint": "mend it", "streams": 1}])
        self.assertEqual([stream["ok"] for stream in found["per_stream"]], [True, False])

    def test_each_reason_once_and_nothing_that_moves_a_cursor(self) -> None:
        self.assertEqual(complaints([bad(), bad("c"), good()]), [("2 streams: it broke\\x1b", "mend it")])
        self.assertEqual(complaints([bad()]), [("it broke\\x1b", "mend it")])
        self.assertEqual(remarks([bad(), bad("c")]), ["server: odd\\x1b[2J: The frame (2x)"])
