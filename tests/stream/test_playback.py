"""What an agent says reaches the ear: in order, in time, and not after it was told to stop."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.limits import MARKS_MAX_COUNT
from voiceingest.stream.framer import ChunkProfile, exotel_profile
from voiceingest.stream.playback import MARK_GRACE_S, TAIL_WAIT_S, Chunk, MarkOut, Playback

RATE = 16000  # bytes a second: 8 kHz
CHUNK = 3200
CHUNK_S = 0.2


def player(lead_s: float = 0.2, max_s: float = 60.0) -> Playback:
    """A playback at 8 kHz."""
    return Playback(RATE, exotel_profile(8000, None), lead_s, max_s)


def kinds(out: list[Chunk | MarkOut]) -> list[int | str]:
    """Sizes of chunks and labels of marks."""
    return [len(item.pcm) if isinstance(item, Chunk) else item.label for item in out]


class Pace(SynchronousTestCase):
    """When audio leaves."""

    def test_nothing_said_nothing_wanted(self) -> None:
        play = player()
        self.assertEqual((play.next_deadline(), play.due(5.0), play.queued_ms(5.0)), (math.inf, [], 0.0))
        play.flush(5.0)
        self.assertEqual(play.next_deadline(), math.inf)

    def test_the_first_chunk_goes_at_once(self) -> None:
        play = player()
        self.assertEqual(play.say(bytes(CHUNK), 5.0), 0)
        self.assertEqual(play.next_deadline(), 5.0)
        self.assertEqual(play.due(5.0), [Chunk(bytes(CHUNK), 0.0)])
        self.assertEqual((play.next_deadline(), play.due(5.0)), (math.inf, []))

    def test_the_next_go_a_lead_ahead(self) -> None:
        play = player(lead_s=0.3)
        play.say(bytes(4 * CHUNK), 0.0)
        self.assertEqual(kinds(play.due(0.0)), [CHUNK, CHUNK], "after one chunk 0.2 s are ahead, 0.3 may be")
        self.assertAlmostEqual(play.next_deadline(), 0.1)
        self.assertEqual(play.due(0.09), [])
        (chunk,) = play.due(0.15)
        assert isinstance(chunk, Chunk)
        self.assertAlmostEqual(chunk.lateness_s, 0.05)
        self.assertAlmostEqual(play.next_deadline(), 0.3)

    def test_after_silence_it_begins_anew(self) -> None:
        play = player(lead_s=0.0)
        play.say(bytes(CHUNK), 0.0)
        play.due(0.0)
        play.say(bytes(2 * CHUNK), 7.0)
        self.assertEqual(play.due(7.1), [Chunk(bytes(CHUNK), 0.0)])
        self.assertAlmostEqual(play.next_deadline(), 7.3)

    def test_an_hour_of_speech_by_a_clock_that_is_always_late(self) -> None:
        dice, play, now, sent, most = random.Random(2), player(), 0.0, 0, 0.0
        while now < 3600.0:
            if play.queued_ms(now) < 5000:
                self.assertEqual(play.say(bytes(7 * CHUNK + 100), now), 0)
            for chunk in play.due(now):
                assert isinstance(chunk, Chunk)
                sent += len(chunk.pcm)
                most = max(most, chunk.lateness_s)
            ahead_s = sent / RATE - now
            self.assertTrue(0.0 <= ahead_s <= CHUNK_S + 0.2 + 1e-6, ahead_s)
            self.assertApproximates(play.position_ms(now), now * 1000.0, 0.001)
            now = max(now, play.next_deadline()) + dice.random() * 0.15
        self.assertLessEqual(most, 0.15 + 1e-6)
        self.assertLess(len(play._chunks), 60)
        self.assertEqual(len(play._waiting) + len(play._out), 0)


class Tails(SynchronousTestCase):
    """What is less than a chunk."""

    def test_it_waits_for_more(self) -> None:
        play = player()
        play.say(b"\1" * 3000, 0.0)
        self.assertEqual((play.due(0.1), play.queued_ms(0.1)), ([], 187.5))
        play.say(b"\2" * 200, 0.2)
        self.assertEqual(play.due(0.2), [Chunk(b"\1" * 3000 + b"\2" * 200, 0.0)])

    def test_flush_sends_it_padded(self) -> None:
        play = player()
        play.say(b"\1" * 1000, 0.0)
        play.flush(0.0)
        self.assertEqual(play.due(0.0), [Chunk(b"\1" * 1000 + bytes(280), 0.0)])

    def test_an_agent_that_forgets_to_flush_loses_nothing(self) -> None:
        play = player()
        play.say(b"\1" * (CHUNK + 320), 0.0)
        self.assertEqual(kinds(play.due(0.0)), [CHUNK])
        self.assertEqual(play.next_deadline(), TAIL_WAIT_S)
        self.assertEqual(play.due(TAIL_WAIT_S - 0.001), [])
        self.assertEqual(kinds(play.due(TAIL_WAIT_S)), [320])
        self.assertEqual(play.next_deadline(), math.inf)

    def test_it_waits_as_long_as_there_is_something_before_it(self) -> None:
        play = player(lead_s=0.0)
        play.say(bytes(5 * CHUNK + 320), 0.0)
        sent = []
        while play.next_deadline() < math.inf:
            now = play.next_deadline()
            sent += [(round(now, 6), size) for size in kinds(play.due(now))]
        self.assertEqual(sent, [*((round(n * CHUNK_S, 6), CHUNK) for n in range(5)), (1.0, 320)])


class Bounds(SynchronousTestCase):
    """What is not taken."""

    def test_audio(self) -> None:
        play = player(max_s=1.0)
        self.assertEqual(play.say(bytes(RATE + 1000), 0.0), 1000)
        self.assertEqual(play.say(bytes(2), 0.0), 2)
        play.due(0.0)
        self.assertEqual(play.say(bytes(RATE), 0.0), RATE - 2 * CHUNK)

    def test_padding_does_not_get_round_it(self) -> None:
        play = player(max_s=1.0)
        for _ in range(1000):
            play.say(bytes(2), 0.0)
            play.flush(0.0)
        self.assertLessEqual(play.queued_ms(0.0), 1000.0)

    def test_what_waits_for_the_rest_of_its_chunk_counts(self) -> None:
        play = player(max_s=1.0)
        play.say(bytes(CHUNK - 2), 0.0)
        self.assertEqual(play.say(bytes(RATE), 0.0), CHUNK - 2)

    def test_half_a_sample(self) -> None:
        play = player()
        self.assertEqual(play.say(b"\1\1\1", 0.0), 1)
        self.assertEqual(play.say(b"\1", 0.0), 1)
        self.assertEqual(play.say(b"", 0.0), 0)
        play.flush(0.0)
        self.assertEqual(play.due(0.0), [Chunk(b"\1\1" + bytes(318), 0.0)])

    def test_marks(self) -> None:
        play = player()
        for n in range(MARKS_MAX_COUNT + 2):
            play.mark(f"name {n}", 1.0)
        self.assertEqual(play.next_deadline(), 1.0)
        self.assertEqual(play.expired(1.0), ["name 0", "name 1"])
        self.assertEqual(play.expired(1.0), [])
        self.assertEqual(len(play.due(1.0)), MARKS_MAX_COUNT)
        play.mark("another", 1.0)
        play.due(1.0)
        self.assertEqual(play.next_deadline(), 1.0, "there is a name to be given back")
        self.assertEqual(play.expired(1.0), ["name 2"])
        self.assertEqual(play.next_deadline(), 1.0 + MARK_GRACE_S)
        self.assertEqual(play.echoed("m3", 1.0), [])
        for n in range(10 * MARKS_MAX_COUNT):
            play.mark(f"{n}", 1.0)
        self.assertEqual(len(play.expired(1.0)), MARKS_MAX_COUNT)


class Marks(SynchronousTestCase):
    """What has been heard."""

    def test_a_mark_flushes_and_stands_behind_what_was_said(self) -> None:
        play = player()
        play.say(bytes(CHUNK + 2), 0.0)
        play.mark("a", 0.0)
        play.say(bytes(CHUNK), 0.0)
        play.mark("b", 0.0)
        self.assertEqual(kinds(play.due(0.0)), [CHUNK, 320, "m1"])
        self.assertEqual(kinds(play.due(0.02)), [CHUNK, "m2"])

    def test_a_mark_with_nothing_before_it_goes_at_once(self) -> None:
        play = player()
        play.mark("a", 3.0)
        self.assertEqual(play.next_deadline(), 3.0)
        self.assertEqual(play.due(3.0), [MarkOut("m1")])
        self.assertEqual(play.next_deadline(), 3.0 + MARK_GRACE_S)

    def test_an_echo_gives_the_names_up_to_it(self) -> None:
        play = player()
        for name in ("a", "a", "b"):
            play.mark(name, 0.0)
        play.due(0.0)
        self.assertEqual(play.echoed("a", 0.1), [], "that is the agent's name and not the one on the wire")
        self.assertEqual(play.echoed("m2", 0.1), ["a", "a"])
        self.assertEqual(play.echoed("m1", 0.1), [])
        self.assertEqual(play.echoed("m2", 0.1), [])
        self.assertEqual(play.echoed("m3", 0.1), ["b"])
        self.assertEqual(play.next_deadline(), math.inf)

    def test_one_that_was_not_sent_cannot_have_been_played(self) -> None:
        play = player()
        play.say(bytes(5 * CHUNK), 0.0)
        play.mark("a", 0.0)
        play.due(0.0)
        self.assertEqual(play.echoed("m1", 0.0), [])

    def test_one_that_does_not_come_back_is_given_up(self) -> None:
        play = player()
        play.say(bytes(CHUNK), 0.0)
        play.mark("a", 0.0)
        play.due(0.0)
        self.assertEqual(play.next_deadline(), CHUNK_S + MARK_GRACE_S)
        self.assertEqual(play.expired(play.next_deadline() - 0.001), [])
        self.assertEqual(play.expired(play.next_deadline()), ["a"])
        self.assertEqual((play.expired(99.0), play.echoed("m1", 99.0)), ([], []))

    def test_the_position_follows_the_clock_and_the_echoes(self) -> None:
        play = player(lead_s=1.0)
        play.say(bytes(CHUNK), 0.0)
        play.mark("a", 0.0)
        play.say(bytes(CHUNK), 0.0)
        play.due(0.0)
        self.assertEqual([play.position_ms(now) for now in (0.0, 0.1)], [0.0, 100.0])
        play.echoed("m1", 0.1)
        self.assertEqual(
            [play.position_ms(now) for now in (0.1, 0.2, 0.3, 9.0)], [200.0, 300.0, 400.0, 400.0]
        )
        self.assertEqual([play.queued_ms(now) for now in (0.3, 9.0)], [0.0, 0.0])


class Clearing(SynchronousTestCase):
    """A caller speaks over the agent."""

    def test_everything_is_forgotten(self) -> None:
        play = player()
        play.say(bytes(CHUNK), 0.0)
        play.mark("sent", 0.0)
        play.say(bytes(10 * CHUNK), 0.0)
        play.mark("queued", 0.0)
        play.say(bytes(320), 0.0)
        play.due(0.0)
        cleared = play.clear(0.1)
        self.assertEqual(cleared.lost_marks, ["sent", "queued"])
        self.assertAlmostEqual(cleared.position_ms, 100.0)
        self.assertAlmostEqual(cleared.dropped_ms, 11 * 200 + 20 - 100)
        self.assertEqual((play.next_deadline(), play.queued_ms(0.1), play.expired(99.0)), (math.inf, 0.0, []))
        self.assertEqual(play.echoed("m1", 0.2), [])
        again = play.clear(0.2)
        self.assertEqual((again.dropped_ms, again.lost_marks), (0.0, []))

    def test_what_is_said_after_it_goes_at_once(self) -> None:
        play = player()
        play.say(bytes(10 * CHUNK), 0.0)
        play.due(0.0)
        play.clear(0.1)
        play.say(b"\1" * CHUNK, 0.15)
        play.mark("new", 0.15)
        self.assertEqual(play.due(0.15), [Chunk(b"\1" * CHUNK, 0.0), MarkOut("m1")])
        self.assertAlmostEqual(play.position_ms(0.25), 200.0)

    def test_marks_that_were_given_up_are_among_the_lost(self) -> None:
        play = player()
        for n in range(MARKS_MAX_COUNT + 1):
            play.mark(str(n), 0.0)
        self.assertEqual(play.clear(0.0).lost_marks, [str(n) for n in range(MARKS_MAX_COUNT + 1)])
        self.assertEqual(play.expired(0.0), [])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["say", "say", "flush", "mark", "clear", "wait", "wait", "echo"]),
        st.integers(0, 9000),
        st.floats(0, 0.7),
    ),
    max_size=40,
)


class Rehearsal:
    """A playback with an agent and a line that do anything; keeps what went in and what came out."""

    def __init__(self, case: SynchronousTestCase, lead_s: float, chunk: int, *, holds: bool) -> None:
        self.case = case
        self.chunk = chunk
        # What a resampler before it keeps of what was said.
        self.holds, self.held = holds, 0
        self.play = Playback(RATE, ChunkProfile(chunk), lead_s, 2.0, self.rest if holds else None)
        self.now = 100.0
        self.position = 0.0
        self.said, self.sent = bytearray(), bytearray()
        self.named, self.told, self.labels = [], [], []

    def rest(self) -> bytes:
        rest, self.held = bytes([7]) * self.held, 0
        self.said += rest
        return rest

    def say(self, size: int) -> None:
        if self.holds:
            whole = self.held + size
            self.held = min(whole, 400) & ~1
            size = whole - self.held
        self.said += bytes([7]) * (size - self.play.say(bytes([7]) * size, self.now))

    def flush(self, _: int) -> None:
        self.play.flush(self.now)

    def mark(self, _: int) -> None:
        self.named.append(f"name {len(self.named)}")
        self.play.mark(self.named[-1], self.now)

    def clear(self, _: int) -> None:
        self.told += self.play.clear(self.now).lost_marks
        self.case.assertEqual(self.play.queued_ms(self.now), 0.0)
        self.said[:] = self.sent

    def echo(self, which: int) -> None:
        if self.labels:
            self.told += self.play.echoed(self.labels[which % len(self.labels)], self.now)

    def wait(self, tenths_of_ms: int) -> None:
        self.now += tenths_of_ms / 10_000

    def turn(self) -> None:
        """What the transport does after each event and at each deadline."""
        out = self.play.due(self.now)
        self.told += self.play.expired(self.now)
        for item in out:
            if isinstance(item, MarkOut):
                self.case.assertNotIn(item.label, self.labels)
                self.labels.append(item.label)
                continue
            self.case.assertTrue(len(item.pcm) % 320 == 0 and 0 < len(item.pcm) <= self.chunk)
            self.case.assertGreaterEqual(item.lateness_s, 0.0)
            self.sent += item.pcm.rstrip(b"\0")
        self.case.assertGreater(self.play.next_deadline(), self.now, "it would be asked again and again")
        self.case.assertLessEqual(self.position, self.play.position_ms(self.now))
        self.position = self.play.position_ms(self.now)


STEPS = st.tuples(
    st.sampled_from(["say", "say", "flush", "mark", "clear", "wait", "wait", "echo"]), st.integers(0, 9000)
)


class Properties(SynchronousTestCase):
    """Any agent, any line."""

    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(STEPS, max_size=40),
        st.sampled_from([0.0, 0.2, 0.5]),
        st.sampled_from([320, 3200]),
        st.booleans(),
    )
    def test_any_call(self, steps: list[tuple[str, int]], lead_s: float, chunk: int, holds: bool) -> None:
        call = Rehearsal(self, lead_s, chunk, holds=holds)
        for what, size in steps:
            getattr(call, what)(size)
            call.turn()
        while call.play.next_deadline() < math.inf:
            call.now = call.play.next_deadline()
            call.turn()
        self.assertEqual(call.held, 0, "what a resampler holds goes too")
        self.assertEqual(call.sent, call.said, "every sample, once, in order")
        self.assertEqual(call.told, call.named, "every mark, once, in order")
        self.assertAlmostEqual(call.play.queued_ms(call.now + 60.0), 0.0)
