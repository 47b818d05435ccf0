"""A stream's transcription in plain calls: what is to be done when, and what is heard."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.stream.transcribing_states import Hearing
from voiceingest.stream.transcription import (
    CLOSE_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    GAP_REPORT_S,
    KEEP_ALIVE_S,
    RETRY_FIRST_S,
    RETRY_MAX_S,
    STALLED_S,
    UNANSWERED_MAX_S,
    Transcription,
    Unheard,
    Wake,
)
from voiceingest.stream.turns import Heard
from voiceingest.wire.deepgram import Results

RATE = 1000
KEPT_MS = 500
IDLE_S = 10.0
FRAME = bytes(2 * 20)


def final(start: float, duration: float, text: str = "a", **changes: bool) -> Results:
    """A final result."""
    flags = {"is_final": True, "speech_final": False, "from_finalize": False, **changes}
    return Results(text, start, duration, confidence=0.5, **flags)


class TranscriptionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        self.memory = Transcription(RATE, KEPT_MS, IDLE_S)

    def wake(self) -> Wake:
        return self.memory.wake(self.now)

    def speak(self, count: int = 1) -> None:
        for _ in range(count):
            self.memory.audio(FRAME, self.now)

    def send(self) -> int:
        """Send what may be sent now; how many samples."""
        count = 0
        while self.wake() is Wake.SEND:
            count += len(self.memory.piece(self.now)) // 2
        return count

    def open(self) -> None:
        """A connection that was sent one frame."""
        self.speak()
        self.assertIs(self.wake(), Wake.CONNECT)
        self.memory.connecting(self.now)
        self.memory.opened(self.now)
        self.assertEqual(self.send(), 20)

    def until(self, wake: Wake) -> float:
        """Let time pass until something is to be done; how long that was."""
        began = self.now
        for _ in range(100):
            if self.wake() is not Wake.NOTHING:
                break
            self.now = self.memory.next_deadline()
        self.assertIs(self.wake(), wake)
        return self.now - began


class ConnectionTests(TranscriptionCase):
    def test_the_first_audio_asks_for_a_connection(self) -> None:
        self.assertEqual((self.wake(), self.memory.next_deadline()), (Wake.NOTHING, float("inf")))
        self.memory.audio(b"", self.now)
        self.assertIs(self.wake(), Wake.NOTHING)
        self.open()
        self.assertIs(self.memory.state, Hearing.OPEN)

    def test_an_attempt_may_take_so_long(self) -> None:
        self.speak()
        self.memory.connecting(self.now)
        self.assertAlmostEqual(self.until(Wake.CUT_CONNECTING), CONNECT_TIMEOUT_S)

    def test_pauses_grow_and_are_shortened_by_chance(self) -> None:
        for jitter, share in ((1.0, 1.0), (0.0, 0.5)):
            self.setUp()
            self.speak()
            pauses = []
            for _ in range(7):
                self.memory.connecting(self.now)
                self.memory.ended(self.now, jitter)
                pauses.append(self.until(Wake.CONNECT))
            expected = [min(RETRY_FIRST_S * 2**number, RETRY_MAX_S) * share for number in range(7)]
            for pause, wanted in zip(pauses, expected, strict=True):
                self.assertAlmostEqual(pause, wanted)

    def test_a_connection_that_answered_was_a_good_one(self) -> None:
        self.open()
        for _ in range(5):
            self.memory.ended(self.now, 1.0)
            self.until(Wake.CONNECT)
            self.memory.connecting(self.now)
            self.memory.opened(self.now)
        self.send()
        self.memory.results(final(0, 0.01))
        self.memory.ended(self.now, 1.0)
        self.assertAlmostEqual(self.until(Wake.CONNECT), RETRY_FIRST_S)

    def test_nothing_to_say_is_no_reason_to_connect(self) -> None:
        self.open()
        self.memory.results(final(0, 0.02))
        self.memory.ended(self.now, 1.0)
        self.assertEqual(self.memory.next_deadline(), float("inf"))
        self.now += 3600
        self.assertIs(self.wake(), Wake.NOTHING)
        self.speak()
        self.assertIs(self.wake(), Wake.CONNECT)

    def test_one_that_does_not_read_is_cut(self) -> None:
        self.open()
        self.memory.blocked(True, self.now)
        self.speak(10)
        self.assertAlmostEqual(self.until(Wake.CUT_STALLED), STALLED_S)

    def test_one_that_reads_again_is_not(self) -> None:
        self.open()
        self.memory.blocked(True, self.now)
        self.speak(10)
        self.now += STALLED_S - 1
        self.memory.blocked(False, self.now)
        self.assertEqual(self.send(), 200)

    def test_one_that_says_nothing_is_cut(self) -> None:
        self.open()
        count = 20
        while self.wake() is not Wake.CUT_SILENT:
            self.now += 0.02
            self.speak()
            count += self.send()
        self.assertEqual(count, UNANSWERED_MAX_S * RATE)
        self.memory.answered()
        self.assertIs(self.wake(), Wake.NOTHING)

    def test_it_is_kept_alive_and_closed(self) -> None:
        self.open()
        self.assertAlmostEqual(self.until(Wake.FINALIZE), KEEP_ALIVE_S)
        self.memory.finalizing(self.now)
        self.assertAlmostEqual(self.until(Wake.KEEP_ALIVE), KEEP_ALIVE_S)
        self.memory.said(self.now)
        self.assertAlmostEqual(self.until(Wake.CLOSE_STREAM), IDLE_S - 2 * KEEP_ALIVE_S)
        self.memory.closing(self.now)
        self.assertAlmostEqual(self.until(Wake.CUT_CLOSING), CLOSE_TIMEOUT_S)

    def test_what_is_final_needs_no_finalize(self) -> None:
        self.open()
        self.memory.results(final(0, 0.02))
        self.until(Wake.KEEP_ALIVE)

    def test_an_account_settles_all_of_it(self) -> None:
        self.open()
        self.until(Wake.FINALIZE)
        self.memory.closing(self.now)
        self.memory.accounted(0.0)
        self.memory.ended(self.now, 0.5)
        self.assertIs(self.memory.state, Hearing.IDLE)
        self.assertEqual((self.wake(), self.memory.take_gaps()), (Wake.NOTHING, []))

    def test_audio_that_comes_while_it_closes_is_for_the_next(self) -> None:
        self.open()
        self.memory.closing(self.now)
        self.speak()
        self.assertIs(self.wake(), Wake.NOTHING)
        self.memory.ended(self.now, 0.5, is_normal=True)
        self.assertIs(self.wake(), Wake.CONNECT)
        self.memory.connecting(self.now)
        self.memory.opened(self.now)
        self.assertEqual(self.send(), 20)

    def test_a_refusal_is_for_good_and_adds_up(self) -> None:
        self.speak(5)
        self.memory.connecting(self.now)
        self.memory.refused()
        self.assertEqual(self.memory.take_gaps(), [Unheard(0, 100, "refused", 100)])
        self.now += 3600
        self.speak(50)
        self.assertEqual((self.wake(), self.memory.take_gaps()), (Wake.NOTHING, []))
        self.memory.finish(self.now)
        self.assertIs(self.wake(), Wake.END)
        self.memory.end()
        self.assertEqual(self.memory.take_gaps(), [Unheard(100, 1100, "refused", 1000)])
        self.assertEqual(self.memory.next_deadline(), float("inf"))

    def test_a_growing_gap_is_told_now_and_then(self) -> None:
        self.speak()
        self.memory.connecting(self.now)
        self.memory.ended(self.now, 1.0)
        told = []
        for _ in range(500):
            self.now += 0.02
            self.speak()
            if self.wake() is Wake.CONNECT:
                self.memory.connecting(self.now)
                self.memory.ended(self.now, 1.0)
            told += self.memory.take_gaps()
        self.assertLessEqual(len(told), 500 * 0.02 / GAP_REPORT_S)
        self.assertTrue(told)
        self.assertEqual({gap.reason for gap in told}, {"overflow"})


class FinishTests(TranscriptionCase):
    def test_what_was_never_connected_is_over_at_once(self) -> None:
        self.memory.finish(self.now)
        self.assertIs(self.wake(), Wake.END)

    def test_the_last_words_are_waited_for(self) -> None:
        self.open()
        self.memory.finish(self.now)
        self.assertIs(self.wake(), Wake.CLOSE_STREAM)
        self.memory.closing(self.now)
        self.memory.results(final(0, 0.02))
        self.memory.ended(self.now, 0.5, is_normal=True)
        self.assertIs(self.wake(), Wake.END)
        self.memory.end()
        self.assertEqual(self.memory.take_gaps(), [])

    def test_but_not_for_ever(self) -> None:
        self.speak()
        self.memory.connecting(self.now)
        self.memory.finish(self.now)
        self.assertAlmostEqual(self.until(Wake.END), CLOSE_TIMEOUT_S)
        self.memory.end()
        self.assertEqual(self.memory.take_gaps(), [Unheard(0, 20, "ended", 20)])
        self.speak()
        self.assertEqual((self.wake(), self.memory.take_gaps()), (Wake.NOTHING, []))


class ResultsTests(TranscriptionCase):
    def test_times_are_those_of_the_stream(self) -> None:
        self.open()
        self.memory.results(final(0, 0.02))
        self.memory.ended(self.now, 0.5)
        self.now += 10
        self.speak(5)
        self.memory.connecting(self.now)
        self.memory.opened(self.now)
        self.send()
        heard = self.memory.results(final(0, 0.1, speech_final=True))
        self.assertEqual(heard, Heard("a", 20, 120, True, True, 0.5))
        self.assertEqual(self.memory.to_ms(120), 120)

    def test_what_was_final_is_not_said_again(self) -> None:
        self.open()
        self.assertIsNotNone(self.memory.results(final(0, 0.015)))
        self.assertIsNone(self.memory.results(final(0, 0.015)))
        self.assertIsNone(self.memory.results(final(0, 0.01, is_final=False)))
        heard = self.memory.results(final(0.01, 0.01))
        self.assertEqual(heard, Heard("a", 15, 20, True, False, 0.5))

    def test_what_has_not_been_sent_cannot_be_heard(self) -> None:
        self.open()
        heard = self.memory.results(final(0, 1e8))
        self.assertEqual(heard, Heard("a", 0, 20, True, False, 0.5))

    def test_the_end_of_an_utterance(self) -> None:
        self.open()
        self.assertIsNone(self.memory.utterance_ended())
        self.memory.results(final(0, 0.01))
        self.assertEqual(self.memory.utterance_ended(), Heard("", 10, 10, True, True, 0.0))

    def test_an_account_out_of_place_settles_nothing(self) -> None:
        self.open()
        self.memory.accounted(1.0)
        self.memory.end()
        self.assertEqual(self.memory.take_gaps(), [Unheard(0, 20, "ended", 20)])
