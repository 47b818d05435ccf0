from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.witness import Witness
from voiceingest.wire.envelope import encode_event, encode_frame, frame_parts

PARTS = frame_parts("demo", "call", 24000, "pcm16")
FRAMES = [bytes([number]) * 100 for number in range(1, 6)]


def heard(
    witness: Witness, *messages: tuple[int, bytes], events: tuple[str, ...] = ("started", "stopped")
) -> None:
    for event in events:
        witness.message(encode_event(event, "demo", "call", 0, {}), 0.0)
    for seq, audio in messages:
        witness.message(encode_frame(PARTS, seq, 0, audio), 2.5)


def witness_of(frames: list[bytes]) -> Witness:
    witness = Witness("demo", "call", 24000)
    for frame in frames:
        witness.sending(frame, 2.0)
    return witness


class WitnessTests(SynchronousTestCase):
    def test_everything_as_it_was_sent(self) -> None:
        witness = witness_of(FRAMES)
        heard(witness, *enumerate(FRAMES, 1))
        self.assertEqual(witness.problems(), [])
        self.assertTrue(witness.complete)
        document = witness.document()
        self.assertEqual(
            (document["sent_frames"], document["identical_frames"], document["in_order"]), (5, 5, True)
        )
        self.assertEqual(document["latency_ms"]["p50"], 500.0)

    def test_every_difference_is_a_problem(self) -> None:
        whole = list(enumerate(FRAMES, 1))
        changed = [(1, FRAMES[0]), (2, b"\0" + FRAMES[1][1:]), *whole[2:]]
        for messages, words in (
            (whole[:-1], "1 frames did not arrive"),
            (changed, "1 frames arrived changed"),
            ([*whole, (6, b"\x01\x00")], "1 frames arrived that were never sent"),
            ([whole[1], whole[0], *whole[2:]], "frames arrived out of order"),
            ([whole[0], *whole], "1 frames arrived twice"),
        ):
            witness = witness_of(FRAMES)
            heard(witness, *messages)
            self.assertTrue(
                any(words in problem for problem in witness.problems()), (words, witness.problems())
            )

    def test_an_event_that_does_not_arrive(self) -> None:
        witness = witness_of(FRAMES)
        heard(witness, *enumerate(FRAMES, 1), events=("started",))
        self.assertEqual(witness.problems(), ["the event stopped did not arrive"])
        self.assertFalse(witness.complete)

    def test_what_is_not_ours_or_not_readable(self) -> None:
        for payload in (
            encode_frame(frame_parts("other", "call", 24000, "pcm16"), 1, 0, b"\0\0"),
            encode_frame(frame_parts("demo", "call", 8000, "pcm16"), 1, 0, b"\0\0"),
            b"not json",
        ):
            witness = witness_of(FRAMES)
            heard(witness, *enumerate(FRAMES, 1))
            witness.message(payload, 0.0)
            self.assertEqual(witness.foreign, 1)
            self.assertEqual(len(witness.problems()), 1)

    def test_nothing_sent_is_no_success(self) -> None:
        witness = witness_of([])
        heard(witness)
        self.assertEqual(witness.problems(), ["no frame was sent"])

    @given(st.permutations(range(1, 6)), st.sets(st.integers(1, 5)))
    def test_only_the_whole_in_order_passes(self, order: list[int], left_out: set[int]) -> None:
        witness = witness_of(FRAMES)
        kept = [seq for seq in order if seq not in left_out]
        heard(witness, *((seq, FRAMES[seq - 1]) for seq in kept))
        self.assertEqual(witness.problems() == [], kept == [1, 2, 3, 4, 5])
