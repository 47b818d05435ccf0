from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli import follow
from voiceingest.cli.follow import Finding, Follower
from voiceingest.wire.envelope import FrameMessage


def frame(seq: int, interaction: str = "call", tenant: str = "acme") -> FrameMessage:
    return FrameMessage(tenant, interaction, seq, 0, 8000, "pcm16", bytes(320))


class FollowerTests(SynchronousTestCase):
    def test_in_order_nothing_is_found(self) -> None:
        follower = Follower()
        self.assertEqual([follower.frame(frame(seq), 0.0) for seq in (1, 2, 3)], [None, None, None])
        stream = follower.newest(1)[0]
        self.assertEqual((stream.frames, stream.next_seq, stream.audio_bytes), (3, 4, 960))
        self.assertAlmostEqual(stream.seconds, 0.06)

    def test_a_stream_joined_on_the_way_has_no_gap_before_it(self) -> None:
        follower = Follower()
        self.assertIsNone(follower.frame(frame(40), 0.0))
        self.assertEqual(follower.newest(1)[0].first_seq, 40)

    def test_a_gap(self) -> None:
        follower = Follower()
        follower.frame(frame(1), 0.0)
        self.assertEqual(follower.frame(frame(5), 0.0), Finding("gap", 2, 4))
        self.assertEqual(follower.missing, 3)

    def test_a_repeat_is_no_audio_a_second_time(self) -> None:
        follower = Follower()
        follower.frame(frame(1), 0.0)
        follower.frame(frame(2), 0.0)
        self.assertEqual(follower.frame(frame(1), 0.0), Finding("repeat", 1, 1))
        self.assertEqual((follower.repeated, follower.newest(1)[0].audio_bytes), (1, 640))
        self.assertIsNone(follower.frame(frame(3), 0.0))

    def test_a_start_begins_anew(self) -> None:
        follower = Follower()
        follower.frame(frame(9), 0.0)
        follower.event({"event": "started", "tenant_id": "acme", "interaction_id": "call"})
        self.assertIsNone(follower.frame(frame(1), 0.0))

    def test_after_a_stop_it_may_begin_again_without_a_start_being_seen(self) -> None:
        follower = Follower()
        follower.frame(frame(9), 0.0)
        follower.event({"event": "stopped", "tenant_id": "acme", "interaction_id": "call"})
        self.assertTrue(follower.newest(1)[0].stopped)
        self.assertIsNone(follower.frame(frame(1), 0.0))
        self.assertFalse(follower.newest(1)[0].stopped)

    def test_a_frame_after_the_stop_is_still_a_repeat(self) -> None:
        follower = Follower()
        follower.frame(frame(9), 0.0)
        follower.event({"event": "stopped", "tenant_id": "acme", "interaction_id": "call"})
        self.assertEqual(follower.frame(frame(9), 0.0), Finding("repeat", 9, 9))

    def test_the_same_interaction_of_two_tenants_is_two_streams(self) -> None:
        follower = Follower()
        follower.frame(frame(1), 0.0)
        self.assertIsNone(follower.frame(frame(7, tenant="other"), 0.0))
        self.assertEqual(len(follower), 2)

    def test_events_of_streams_never_seen_change_nothing(self) -> None:
        follower = Follower()
        for event in ("stopped", "gap", "resumed", "detached", "moved"):
            follower.event({"event": event, "tenant_id": "a", "interaction_id": "b"})
        self.assertEqual(len(follower), 0)

    def say(self, follower: Follower, event: str, **fields: Any) -> None:
        follower.event({"event": event, "tenant_id": "acme", "interaction_id": "call", **fields})

    def test_the_first_frames_of_a_stream_whose_start_was_seen_can_be_missing(self) -> None:
        follower = Follower()
        self.say(follower, "started", epoch=5, sample_rate=8000)
        self.assertEqual(follower.frame(frame(3), 0.0), Finding("gap", 1, 2))

    def test_a_start_that_is_told_twice_begins_once(self) -> None:
        follower = Follower()
        self.say(follower, "started", epoch=5)
        follower.frame(frame(1), 0.0)
        self.say(follower, "started", epoch=5)
        self.assertEqual(follower.frame(frame(1), 0.0), Finding("repeat", 1, 1))
        self.say(follower, "started", epoch=6)
        self.assertIsNone(follower.frame(frame(1), 0.0))

    def test_frames_that_say_their_epoch(self) -> None:
        follower = Follower()
        self.assertIsNone(follower.frame(frame(7), 0.0, 5))
        self.say(follower, "started", epoch=5)
        self.assertEqual(follower.frame(frame(7), 0.0, 5), Finding("repeat", 7, 7))
        self.assertEqual(follower.frame(frame(2), 0.0, 6), Finding("gap", 1, 1))
        self.assertEqual(follower.frame(frame(8), 0.0, 5), Finding("late", 8, 8))
        self.assertEqual((follower.late, follower.missing, follower.repeated), (1, 1, 1))
        self.say(follower, "stopped", epoch=6)
        self.assertEqual(follower.frame(frame(1), 0.0, 6), Finding("repeat", 1, 1))

    def test_resuming_keeps_the_count(self) -> None:
        follower = Follower()
        self.say(follower, "started", epoch=5)
        follower.frame(frame(1), 0.0)
        self.say(follower, "detached", epoch=5, seq=1)
        self.assertTrue(follower.newest(1)[0].away)
        self.say(follower, "resumed", epoch=5, next_seq=2)
        self.assertFalse(follower.newest(1)[0].away)
        self.assertIsNone(follower.frame(frame(2), 0.0))
        self.say(follower, "moved", epoch=5, seq=2)
        self.assertTrue(follower.newest(1)[0].away)
        self.say(follower, "gap", **{"epoch": 5, "from": 3, "to": 6, "reason": "client"})
        self.assertEqual(follower.declared, 4)

    def test_the_stream_silent_longest_is_forgotten_first(self) -> None:
        self.patch(follow, "STREAMS_MAX_COUNT", 2)
        follower = Follower()
        for name in ("a", "b", "a", "c"):
            follower.frame(frame(1 if name != "a" else follower.frames + 1, name), 0.0)
        self.assertEqual([stream.interaction_id for stream in follower.newest(9)], ["c", "a"])
        self.assertEqual(follower.forgotten, 1)

    @given(st.lists(st.integers(1, 30), min_size=1, max_size=40))
    def test_every_frame_is_new_or_a_repeat_and_what_is_missing_adds_up(self, seqs: list[int]) -> None:
        follower = Follower()
        for seq in seqs:
            follower.frame(frame(seq), 0.0)
        stream = follower.newest(1)[0]
        self.assertEqual(stream.frames + stream.repeated, len(seqs))
        self.assertEqual(stream.frames + stream.missing, stream.next_seq - stream.first_seq)
