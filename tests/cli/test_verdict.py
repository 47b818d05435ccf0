from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.cli.console import Console
from voiceingest.cli.failures import Exit
from voiceingest.cli.reckoning import Reckoning
from voiceingest.cli.streams import StreamReport
from voiceingest.cli.tally import Tally
from voiceingest.cli.verdict import Verdict

from .test_reckoning import RUN, UNIT, frame, gap


def report(**fields: Any) -> StreamReport:
    return StreamReport("a", Tally(started={}, stopped={}), **fields)


class VerdictTests(SynchronousTestCase):
    def verdict(self, *messages: Any, sent: int = 3, late: int = 0, reports: Any = None) -> Verdict:
        reckoning = Reckoning(RUN, ["a"], UNIT)
        for message in messages:
            reckoning.heard(message, 1000)
        load: Any = SimpleNamespace(
            sent={"a": sent * UNIT}, frames=sent, late_max_s=late / 10, late_count=late
        )
        return Verdict(reports or [report()], reckoning, load, 8000, 1.0)

    def told(self, verdict: Verdict) -> str:
        out = io.StringIO()
        verdict.tell(Console(out=out, err=out))
        return out.getvalue()

    def test_all_is_well(self) -> None:
        verdict = self.verdict(*map(frame, range(3)))
        self.assertEqual((verdict.exit_code, verdict.faults), (Exit.OK, []))
        self.assertTrue(verdict.document()["ok"])
        self.assertIn("ok: sent = received + declared", self.told(verdict))
        self.assertIn("p99.9 1.0 ms", self.told(verdict))

    def test_what_was_declared_is_no_fault_though_the_stream_complains(self) -> None:
        complaining = report(failure="1 of 3 frames were not confirmed", exit_code=1)
        verdict = self.verdict(frame(0), frame(1), gap(3, 3), reports=[complaining])
        self.assertEqual(verdict.exit_code, Exit.OK)
        self.assertIn("declared lost: 20 samples", self.told(verdict))

    def test_every_fault_is_an_exit_code_and_a_line(self) -> None:
        for messages, words in (
            ([frame(0), frame(2)], "20 samples (0.003 s of audio) lost, and nobody said so"),
            ([*map(frame, range(3)), frame(0)], "came more than once"),
            ([frame(0), frame(2), frame(1)], "out of order"),
            ([*map(frame, range(3)), gap(1, 1)], "declared lost and came"),
            ([*map(frame, range(4))], "never sent"),
            ([*map(frame, range(3)), frame(3, run=b"xxxx")], "1 frames were changed"),
        ):
            verdict = self.verdict(*messages)
            self.assertEqual(verdict.exit_code, Exit.REFUSED)
            self.assertIn(words, self.told(verdict))
            self.assertFalse(verdict.document()["ok"])

    def test_nothing_sent_is_not_well(self) -> None:
        refused = StreamReport("a", Tally(), failure="no", exit_code=Exit.NO_CONNECTION)
        self.assertEqual(self.verdict(sent=0).exit_code, Exit.REFUSED)
        self.assertEqual(self.verdict(sent=0, reports=[refused]).exit_code, Exit.NO_CONNECTION)

    def test_a_stream_that_broke_is_not_well_though_all_came(self) -> None:
        broken = StreamReport("a", Tally(started={}), failure="broke", exit_code=1)
        self.assertEqual(self.verdict(*map(frame, range(3)), reports=[broken]).exit_code, Exit.REFUSED)

    def test_a_late_load_is_said(self) -> None:
        late = self.verdict(*map(frame, range(3)), late=1)
        self.assertIn("this program was the bottleneck", self.told(late))
        self.assertNotIn("bottleneck", self.told(self.verdict(*map(frame, range(3)))))
