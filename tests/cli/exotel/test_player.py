from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel import player as player_module
from voiceingest.cli.exotel.player import AHEAD_MAX_S, UTTERANCE_GAP_S, Player

RATE = 8000
LOUD = (b"\x00\x40", b"\x00\xc0")


def pcm(ms: int, number: int = 0) -> bytes:
    return LOUD[number % 2] * (ms * RATE // 1000)


class PlayingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.player = Player(RATE, 100.0, record=True)

    def test_in_step_there_is_no_hole(self) -> None:
        for n in range(5):
            self.player.play(pcm(100), 100.0 + n * 0.1)
        self.assertEqual(self.player.gaps.count, 0)
        self.player.advance(100.45)
        self.assertAlmostEqual(self.player.played_s, 0.4)
        self.assertAlmostEqual(self.player.heard_s(100.45), 0.45)
        self.assertEqual(self.player.lateness.summary_ms((50,)), {"p50": 0.0, "max": 0.0})

    def test_a_late_chunk_is_a_hole_of_its_length(self) -> None:
        for at_s in (100.0, 100.1, 100.23, 100.33):
            self.player.play(pcm(100), at_s)
        self.assertEqual(self.player.gaps.summary_ms((50,)), {"p50": 30.0, "max": 30.0})
        self.assertAlmostEqual(self.player.gap_total_s, 0.03)
        # Once late, every later chunk is late against the pace of its utterance.
        self.assertEqual(self.player.lateness.summary_ms((50,)), {"p50": 30.0, "max": 30.0})

    def test_audio_ahead_of_its_time_is_early_and_waits(self) -> None:
        self.player.play(pcm(200), 100.0)
        self.player.play(pcm(200), 100.05)
        self.assertEqual(self.player.lateness.summary_ms((50,)), {"p50": -150.0, "max": -150.0})
        self.player.advance(100.2)
        self.assertAlmostEqual(self.player.played_s, 0.2)

    def test_a_long_silence_begins_another_utterance(self) -> None:
        self.player.play(pcm(100), 100.0)
        self.player.play(pcm(100), 100.1 + UTTERANCE_GAP_S + 0.01)
        self.assertEqual((self.player.gaps.count, self.player.lateness.count), (0, 0))

    def test_what_is_silent_is_played_and_not_heard(self) -> None:
        self.player.play(bytes(1600), 100.0)
        self.player.play(pcm(100), 100.1)
        self.assertAlmostEqual(self.player.heard_s(100.2), 0.1)
        self.assertAlmostEqual(self.player.played_s, 0.2)

    def test_an_hour_ahead_is_enough(self) -> None:
        self.assertTrue(self.player.play(bytes(int(AHEAD_MAX_S + 1) * RATE * 2), 100.0))
        self.assertFalse(self.player.play(pcm(100), 100.0))


class MarkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.player = Player(RATE, 100.0)

    def test_a_mark_is_due_when_the_audio_before_it_has_been_played(self) -> None:
        self.player.play(pcm(300), 100.0)
        self.assertAlmostEqual(self.player.mark("a", 100.1) or 0, 100.3)
        self.player.play(pcm(200), 100.1)
        self.assertAlmostEqual(self.player.mark("b", 100.1) or 0, 100.5)
        self.assertEqual(self.player.reached(100.29), [])
        self.assertEqual(self.player.reached(100.3), ["a"])
        self.assertEqual(self.player.reached(100.6), ["b"])

    def test_a_mark_behind_nothing_is_reached_at_once(self) -> None:
        self.assertEqual(self.player.mark("a", 107.00003), 107.00003)
        self.assertEqual(self.player.reached(107.00003), ["a"])

    def test_there_is_an_end_to_marks(self) -> None:
        self.patch(player_module, "MARKS_MAX_COUNT", 2)
        self.player.play(pcm(300), 100.0)
        marks = [self.player.mark(name, 100.0) for name in "abc"]
        self.assertIsNone(marks[2])
        self.assertEqual(self.player.reached(101.0), ["a", "b"])


class ClearTests(SynchronousTestCase):
    def test_what_has_begun_is_played_to_its_end_and_the_rest_is_not(self) -> None:
        player = Player(RATE, 100.0, record=True)
        for n in range(5):
            player.play(pcm(100, n), 100.0)
        player.mark("never", 100.0)
        player.clear(100.15)
        self.assertAlmostEqual(player.cleared_s, 0.3)
        self.assertEqual(player.reached(200.0), [])
        player.play(pcm(100, 4), 100.17)
        player.hang_up(101.0)
        self.assertEqual(player.recording, pcm(100, 0) + pcm(100, 1) + pcm(100, 4))
        self.assertEqual(player.gaps.count, 0)

    def test_a_clear_of_nothing(self) -> None:
        player = Player(RATE, 100.0, record=True)
        player.clear(100.5)
        player.play(pcm(100), 100.5)
        player.hang_up(100.55)
        self.assertEqual(player.recording, bytes(8000) + pcm(50))
        self.assertAlmostEqual(player.played_s, 0.05)

    def test_after_a_clear_a_silence_is_no_hole(self) -> None:
        player = Player(RATE, 100.0)
        player.play(pcm(100), 100.0)
        player.clear(100.2)
        player.play(pcm(100), 100.3)
        self.assertEqual((player.gaps.count, player.lateness.count), (0, 0))


class RecordingTests(SynchronousTestCase):
    def test_holes_are_silent(self) -> None:
        player = Player(RATE, 100.0, record=True)
        player.play(pcm(100), 100.1)
        player.play(pcm(100), 100.25)
        player.hang_up(105.0)
        self.assertEqual(player.recording, bytes(1600) + pcm(100) + bytes(800) + pcm(100))

    def test_nothing_is_kept_that_nobody_wants(self) -> None:
        player = Player(RATE, 100.0)
        player.play(pcm(100), 100.0)
        player.hang_up(105.0)
        self.assertEqual((player.recording, player.played_s), (b"", 0.1))


# What a bot does, in ms after what it did before: chunks of so many ms, a mark, a clear.
STEPS = st.lists(
    st.tuples(st.integers(0, 700), st.one_of(st.integers(1, 400), st.sampled_from(["mark", "clear"])))
)


class PropertyTests(SynchronousTestCase):
    @given(STEPS)
    def test_no_sample_is_lost_or_played_twice_and_marks_come_in_order_and_not_early(
        self, steps: list[tuple[int, int | str]]
    ) -> None:
        player, now_s, sent_s = Player(RATE, 0.0, record=True), 0.0, 0.0
        due: list[tuple[float, str]] = []
        for number, (wait_ms, step) in enumerate(steps):
            now_s += wait_ms / 1000
            expected = [name for at_s, name in due if at_s <= now_s]
            self.assertEqual(player.reached(now_s), expected)
            due = due[len(expected) :]
            if step == "mark":
                at_s = player.mark(str(number), now_s)
                assert at_s is not None and at_s >= now_s and (not due or at_s >= due[-1][0])
                due.append((at_s, str(number)))
            elif isinstance(step, int):
                player.play(pcm(step), now_s)
                sent_s += step / 1000
            else:
                player.clear(now_s)
                due = []
        end_s = now_s + sent_s + 1.0
        player.hang_up(end_s)
        self.assertAlmostEqual(player.played_s + player.cleared_s, sent_s)
        recording = player.recording
        loud = sum(recording[n : n + 2] != b"\0\0" for n in range(0, len(recording), 2))
        self.assertEqual(loud, round(player.played_s * RATE))
        self.assertLessEqual(len(recording) / 2 / RATE, end_s)
