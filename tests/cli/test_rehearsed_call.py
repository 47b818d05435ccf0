"""What the demonstration makes of a call, in words; whole calls: test_demo."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel.report import CallReport
from voiceingest.cli.rehearsed_call import RATE, CallOutcome
from voiceingest.cli.witness import Witness
from voiceingest.wire.envelope import encode_event, encode_frame, frame_parts

SAID = 1600
FRAME = bytes(range(160)) * 20


class OutcomeTests(SynchronousTestCase):
    def outcome(self, *, echoed: int = SAID, arrived: bytes = FRAME) -> CallOutcome:
        witness = Witness("demo", "call", RATE)
        witness.sending(FRAME, 0.0)
        for event in ("started", "stopped"):
            witness.message(encode_event(event, "demo", "call", 0, {}), 0.0)
        witness.message(encode_frame(frame_parts("demo", "call", RATE, "pcm16"), 1, 0, arrived), 0.1)
        report = CallReport("call")
        report.identical = echoed
        return CallOutcome(report, witness, SAID)

    def test_as_it_should_be(self) -> None:
        outcome = self.outcome()
        self.assertEqual(outcome.problems(), [])
        self.assertEqual(outcome.pairs()["call frames"], "1 of 1 on the bus, byte for byte")
        document = outcome.document()
        self.assertEqual((document["echoed_samples"], document["identical_frames"]), (SAID, 1))

    def test_an_echo_that_is_none(self) -> None:
        (problem,) = self.outcome(echoed=7).problems()
        self.assertEqual(problem, f"call: 7 of {SAID} samples came back as they were said")

    def test_a_frame_that_changed(self) -> None:
        (problem,) = self.outcome(arrived=FRAME[::-1]).problems()
        self.assertEqual(problem, "call: 1 frames arrived changed")

    def test_a_call_that_failed_says_why_and_not_twice(self) -> None:
        outcome = self.outcome(echoed=0)
        outcome.report.fail("nobody answered")
        self.assertEqual(outcome.problems(), ["call: nobody answered"])
