"""Whole sessions in plain calls: a fake peer on one side, a fake bus on the other, a fake clock."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.support.world import AUDIO, FRAME, WALL, Far, World, ledger
from voiceingest.driver import StreamDriver
from voiceingest.errors import (
    BadJson,
    FrameTooBig,
    InternalError,
    KeysUnavailable,
    PeerTooSlow,
    TokenExpired,
    TokenRevoked,
    Unauthenticated,
    UnknownEvent,
    VoiceIngestError,
)
from voiceingest.interfaces import Claims, StreamFacts
from voiceingest.limits import PEER_ERRORS_MAX_COUNT
from voiceingest.registry import FLUSH_GRACE_S
from voiceingest.stream import State


class Sessions(SynchronousTestCase):
    """The order of things from start to stop."""

    def test_a_whole_session(self) -> None:
        world = World(ack_interval=2)
        driver, far, lane = world.live()
        for _ in range(3):
            driver.frame(FRAME)
        lane.confirm(2)
        driver.stop()
        self.assertIsNone(far.closed)
        lane.confirm()
        self.assertEqual(
            world.order,
            [
                *("bus started", "say started", "frame 1", "frame 2", "frame 3", "ack 2"),
                *("bus stopped", "lane closed", "say stopped", "close 1000"),
            ],
        )
        account = ledger(3, 3)
        self.assertEqual(far.said[-1], ("stopped", {"seq": 3, **account}))
        self.assertEqual(lane.events[-1], ("stopped", {"seq": 3, **account, "reason": "stopped"}))
        self.assertEqual(lane.facts, StreamFacts("acme", "call", AUDIO, int(WALL * 1000)))
        driver.lost(1000)
        self.assertEqual((world.metrics.sessions_started, world.metrics.sessions_active), (1, 0))
        self.assertEqual(len(lane.events), 2)

    def test_started_says_what_holds(self) -> None:
        shape = {"sample_rate": 24000, "encoding": "pcm16"}
        for published, mode in ((True, "published"), (False, "received")):
            world = World(ack_published=published, ack_interval=7)
            _, far, lane = world.live()
            names = {"interaction_id": "call", "tenant_id": "acme"}
            rules = {"ack_interval": 7, "ack_mode": mode}
            place = {"epoch": int(WALL * 1000), "next_seq": 1, "resumed": False}
            self.assertEqual(far.said, [("started", {**names, **shape, **rules, **place})])
            self.assertEqual(lane.events, [("started", shape)])

    def test_frames_go_to_the_bus_as_they_are_with_the_time_of_their_arrival(self) -> None:
        world = World()
        driver, _, lane = world.live()
        driver.frame(b"\x01\x02")
        world.clock.advance(0.5)
        driver.frame(b"\x03\x04")
        first = int(WALL * 1000)
        self.assertEqual(lane.frames, [(1, first, b"\x01\x02"), (2, first + 500, b"\x03\x04")])
        self.assertEqual((world.metrics.frames_received, world.metrics.bytes_received), (2, 4))

    def test_stop_without_frames(self) -> None:
        world = World()
        driver, far, lane = world.live()
        driver.stop()
        self.assertEqual((far.closed, lane.closed, far.said[-1][1]["seq"]), ((1000, ""), True, 0))

    def test_nothing_is_said_twice_when_the_peer_goes_after_its_stop(self) -> None:
        world = World()
        driver, far, lane = world.live()
        driver.frame(FRAME)
        driver.stop()
        lane.confirm()
        driver.lost(1000)
        self.assertEqual(far.words(), ["started", "stopped"])
        self.assertEqual([event for event, _ in lane.events], ["started", "stopped"])

    def test_acks_in_received_mode_do_not_wait_for_the_bus(self) -> None:
        world = World(ack_published=False, ack_interval=2)
        driver, far, lane = world.live()
        for _ in range(5):
            driver.frame(FRAME)
        self.assertEqual((far.acks, world.metrics.acks_sent), ([2, 4], 2))
        lane.confirm()
        self.assertEqual(far.acks, [2, 4])

    def test_acks_in_published_mode_do(self) -> None:
        world = World(ack_interval=2)
        driver, far, lane = world.live()
        for _ in range(5):
            driver.frame(FRAME)
        self.assertEqual(far.acks, [])
        lane.confirm(3)
        self.assertEqual((far.acks, world.metrics.acks_sent), ([2], 1))

    def test_the_last_acks_come_before_stopped(self) -> None:
        world = World(ack_interval=2)
        driver, far, lane = world.live()
        for _ in range(4):
            driver.frame(FRAME)
        driver.stop()
        lane.confirm()
        self.assertEqual(world.order[-6:-4], ["ack 2", "ack 4"])
        self.assertEqual(far.closed, (1000, ""))

    def test_a_peer_that_is_too_fast_is_paced_and_loses_nothing(self) -> None:
        world = World(realtime_factor=1.0)
        driver, far, lane = world.live()
        for _ in range(3):
            driver.frame(bytes(48000))
        self.assertEqual(far.pauses, [1.0, 2.0])
        self.assertEqual(len(lane.frames), 3)

    def test_a_gap_is_declared_on_both_sides(self) -> None:
        world = World()
        driver, far, lane = world.live()
        for _ in range(5):
            driver.frame(FRAME)
        lane.drop(2, 4)
        gap = ("gap", {"from": 2, "to": 4, "reason": "overflow"})
        self.assertEqual((far.said[-1], lane.events[-1]), (gap, gap))
        lane.confirm()
        driver.stop()
        self.assertEqual([far.said[-1][1][name] for name in ("published", "dropped", "pending")], [2, 3, 0])

    def test_a_gap_that_was_declared_is_counted(self) -> None:
        world = World()
        driver, _, lane = world.live()
        for _ in range(5):
            driver.frame(FRAME)
        lane.drop(2, 4)
        lane.drop(5, 5, "refused")
        self.assertEqual((world.metrics.gaps["overflow"], world.metrics.gaps["refused"]), (1, 1))

    def test_a_gap_may_be_the_last_that_was_missing(self) -> None:
        world = World()
        driver, far, lane = world.live()
        driver.frame(FRAME)
        driver.frame(FRAME)
        driver.stop()
        lane.confirm(1)
        lane.drop(2, 2, "refused")
        self.assertEqual(
            world.order[-6:],
            ["bus gap", "say gap", "bus stopped", "lane closed", "say stopped", "close 1000"],
        )
        self.assertEqual(far.said[-1][1]["dropped"], 1)

    def test_the_flush_has_its_time(self) -> None:
        world = World(flush_timeout_s=5.0)
        driver, far, lane = world.live()
        driver.frame(FRAME)
        driver.frame(FRAME)
        lane.confirm(1)
        driver.stop()
        world.pump(4.75)
        self.assertIsNone(far.closed)
        world.pump(0.25)
        self.assertEqual(far.words()[-2:], ["flush_timeout", "stopped"])
        self.assertEqual([far.said[-1][1][name] for name in ("seq", "published", "pending")], [2, 1, 1])
        self.assertEqual(far.closed, (1013, "flush_timeout"))
        self.assertEqual(world.metrics.errors["flush_timeout", "ingest"], 1)
        self.assertEqual((world.metrics.sessions_active, lane.closed), (0, False))
        lane.confirm()
        self.assertEqual((lane.events[-1][1]["reason"], lane.events[-1][1]["pending"]), ("flush_timeout", 0))
        self.assertTrue(lane.closed)

    def test_a_peer_that_is_lost_has_its_ledger_published_when_the_bus_has_settled(self) -> None:
        world = World()
        driver, far, lane = world.live()
        for _ in range(4):
            driver.frame(FRAME)
        driver.lost(1006)
        self.assertEqual((world.metrics.sessions_active, len(world.registry), lane.closed), (0, 0, False))
        lane.confirm(2)
        lane.drop(3, 4)
        account = ledger(4, 2, 2, overflow=2)
        self.assertEqual(lane.events[-1], ("stopped", {"seq": 4, **account, "reason": "disconnected"}))
        self.assertTrue(lane.closed)
        # The gap is said on the bus; nobody is there to hear it on the other side.
        self.assertEqual([event for event, _ in lane.events], ["started", "gap", "stopped"])
        self.assertEqual(far.words(), ["started"])

    def test_a_peer_that_is_lost_with_nothing_open_has_it_published_at_once(self) -> None:
        world = World()
        driver, _, lane = world.live()
        driver.frame(FRAME)
        lane.confirm()
        driver.lost(1006)
        self.assertEqual((lane.events[-1][0], lane.closed), ("stopped", True))

    def test_no_ack_goes_to_a_peer_that_is_gone(self) -> None:
        world = World(ack_interval=1)
        driver, far, lane = world.live()
        driver.frame(FRAME)
        driver.lost(1006)
        lane.confirm()
        self.assertEqual((far.acks, world.metrics.acks_sent), ([], 0))


class Refusals(SynchronousTestCase):
    """What is not taken, and what it costs."""

    def test_what_a_peer_says_at_the_wrong_time_is_answered_and_counted(self) -> None:
        world = World()
        driver, far = world.connect()
        driver.frame(FRAME)
        driver.stop()
        driver.start("acme", "call", AUDIO)
        driver.start("acme", "call", AUDIO)
        driver.frame(b"\x00")
        driver.frame(b"")
        driver.refuse(BadJson())
        driver.refuse(UnknownEvent())
        codes = ["not_started", "not_started", "started", "already_started", "odd_frame", "empty_frame"]
        self.assertEqual(far.words(), [*codes, "bad_json", "unknown_event"])
        self.assertEqual(world.metrics.errors["not_started", "ingest"], 2)
        self.assertEqual(world.metrics.errors["odd_frame", "ingest"], 1)
        self.assertEqual(
            (far.closed, world.metrics.sessions_active, world.metrics.sessions_started), (None, 1, 1)
        )
        driver.frame(FRAME)
        self.assertEqual([seq for seq, _, _ in world.lanes[0].frames], [1])

    def test_after_stop_no_frame_is_taken_and_none_is_lost(self) -> None:
        world = World()
        driver, far, lane = world.live()
        driver.frame(FRAME)
        driver.stop()
        driver.frame(FRAME)
        driver.stop()
        driver.start("acme", "call", AUDIO)
        self.assertEqual(far.words()[1:], ["already_stopped", "already_stopped", "already_started"])
        lane.confirm()
        self.assertEqual((far.said[-1][1]["seq"], far.closed), (1, (1000, "")))

    def test_claims_that_do_not_match_end_the_connection(self) -> None:
        for claims, tenant, interaction in (
            ({}, "other", "call"),
            ({"interaction_id": "call"}, "acme", "other"),
            ({"tenant_id": None}, "acme", "call"),
        ):
            world = World()
            driver, far = world.connect(**claims)
            driver.start(tenant, interaction, AUDIO)
            self.assertEqual((far.words(), far.closed), (["forbidden"], (4403, "forbidden")))
            self.assertEqual((world.lanes, world.metrics.sessions_started, len(world.registry)), ([], 0, 0))
            driver.lost(4403)
            self.assertEqual((world.metrics.sessions_active, world.metrics.connections["ingest"]), (0, 0))

    def test_the_interaction_of_another_tenant(self) -> None:
        world = World()
        driver, far, lane = world.live()
        late, late_far = world.connect(tenant_id="other")
        late.start("other", "call", AUDIO)
        self.assertEqual((late_far.words(), late_far.closed), (["forbidden"], (4403, "forbidden")))
        self.assertEqual((len(world.lanes), world.metrics.sessions_active, len(world.registry)), (1, 1, 1))
        late.frame(FRAME)
        late.lost(4403)
        driver.frame(FRAME)
        self.assertEqual([seq for seq, _, _ in lane.frames], [1])
        self.assertEqual((far.words(), world.metrics.sessions_active), (["started"], 1))

    def test_an_interaction_that_has_ended_may_begin_again(self) -> None:
        world = World()
        driver, _, lane = world.live()
        driver.frame(FRAME)
        driver.lost(1006)
        again, far, second = world.live()
        again.frame(FRAME)
        self.assertEqual((far.words(), [seq for seq, _, _ in second.frames]), (["started"], [1]))
        lane.confirm()
        self.assertEqual((world.metrics.sessions_active, len(world.registry)), (1, 1))

    def test_a_peer_that_makes_nothing_but_errors_is_cut(self) -> None:
        world = World()
        driver, far, _ = world.live()
        for _ in range(PEER_ERRORS_MAX_COUNT):
            driver.refuse(BadJson())
        self.assertIsNone(far.closed)
        driver.refuse(BadJson())
        self.assertEqual((far.words()[-1], far.closed), ("too_many_errors", (4400, "too_many_errors")))
        self.assertEqual(world.metrics.sessions_active, 0)

    def test_what_was_accepted_before_an_error_that_closes_is_still_published(self) -> None:
        world = World()
        driver, far, lane = world.live()
        driver.frame(FRAME)
        driver.refuse(FrameTooBig())
        self.assertEqual((far.closed, lane.closed), ((1009, "frame_too_big"), False))
        lane.confirm()
        self.assertEqual((lane.events[-1][1]["reason"], lane.closed), ("frame_too_big", True))

    def test_the_socket_may_refuse_by_itself(self) -> None:
        world = World()
        driver, far, lane = world.live()
        driver.refused(PeerTooSlow())
        self.assertEqual((far.words()[-1], far.closed), ("slow_consumer", None))
        self.assertEqual((lane.events[-1][1]["reason"], world.metrics.sessions_active), ("slow_consumer", 0))
        driver.lost(4408)
        self.assertEqual(world.metrics.errors["slow_consumer", "ingest"], 1)

    def test_a_bus_that_gives_no_lane_leaves_nothing_behind(self) -> None:
        world = World()
        world.broken = True
        driver, _ = world.connect()
        self.assertRaises(RuntimeError, driver.start, "acme", "call", AUDIO)
        driver.refused(InternalError())
        driver.lost(1011)
        self.assertEqual((world.metrics.sessions_active, len(world.registry)), (0, 0))
        self.assertEqual(world.metrics.connections["ingest"], 0)

    def test_a_connection_that_is_lost_before_it_stood_was_never_counted(self) -> None:
        world = World()
        driver = StreamDriver(Far(world.order), world.claims(), world.house)
        driver.lost(1006)
        self.assertEqual(
            (world.metrics.connections["ingest"], world.metrics.connections_opened["ingest"]), (0, 0)
        )


class Records(SynchronousTestCase):
    """What is kept of a stream hears of its beginning and of its end, and may end it."""

    def test_a_stream_begins_and_ends(self) -> None:
        world = World()
        driver, _, lane = world.live(subject="user-1")
        facts = StreamFacts("acme", "call", AUDIO, int(WALL * 1000))
        self.assertEqual(list(world.records.began_with.values()), [(facts, "user-1", "ingest")])
        driver.frame(FRAME)
        driver.stop()
        self.assertEqual(world.records.ends, [])
        lane.confirm()
        self.assertEqual(world.records.ends, [("stopped", 1)])
        driver.lost(1000)
        self.assertEqual(len(world.records.ends), 1)

    def test_a_connection_without_a_stream_is_none(self) -> None:
        world = World()
        driver, _ = world.connect()
        driver.start("other", "call", AUDIO)
        driver.lost(1006)
        self.assertEqual((world.records.began_with, world.records.ends), ({}, []))

    def test_why_it_ended(self) -> None:
        for error in (FrameTooBig(), InternalError()):
            world = World()
            driver, _, _ = world.live()
            driver.refuse(error)
            self.assertEqual(world.records.ends, [(error.code, 0)])
        world = World(flush_timeout_s=2)
        driver, _, _ = world.live()
        driver.frame(FRAME)
        driver.stop()
        world.pump(3.0)
        self.assertEqual(world.records.ends, [("flush_timeout", 1)])
        world = World()
        driver, _, _ = world.live()
        driver.lost(1006)
        self.assertEqual(world.records.ends, [("disconnected", 0)])

    def test_hung_up_it_is_flushed_and_stopped(self) -> None:
        world = World()
        driver, far, lane = world.live()
        driver.frame(FRAME)
        (stream,) = world.records.live
        stream.hang_up(None)
        stream.hang_up(None)
        driver.frame(FRAME)
        self.assertEqual((far.closed, world.metrics.frames_fenced), (None, 1))
        lane.confirm()
        self.assertEqual((far.words(), far.closed), (["started", "stopped"], (1000, "")))
        self.assertEqual(lane.events[-1], ("stopped", {"seq": 1, **ledger(1, 1), "reason": "ended"}))
        self.assertEqual(world.records.ends, [("ended", 1)])
        stream.hang_up(None)
        stream.hang_up(TokenRevoked())
        self.assertEqual(len(world.records.ends), 1)

    def test_hung_up_with_an_error_it_is_closed_with_it(self) -> None:
        world = World()
        driver, far, lane = world.live()
        driver.frame(FRAME)
        (stream,) = world.records.live
        stream.hang_up(TokenRevoked())
        self.assertEqual((far.words()[-1], far.closed), ("token_revoked", (4401, "token_revoked")))
        self.assertEqual(world.records.ends, [("token_revoked", 1)])
        # What was taken is still delivered.
        lane.confirm()
        self.assertEqual(lane.events[-1][1]["reason"], "token_revoked")
        driver.lost(4401)
        self.assertEqual((len(world.registry), len(world.deadlines)), (0, 0))

    def test_while_it_is_flushed_it_may_still_be_cut(self) -> None:
        world = World()
        driver, far, _ = world.live()
        driver.frame(FRAME)
        (stream,) = world.records.live
        stream.hang_up(None)
        stream.hang_up(TokenRevoked())
        self.assertEqual(far.closed, (4401, "token_revoked"))
        self.assertEqual(world.records.ends, [("token_revoked", 1)])


class Time(SynchronousTestCase):
    """Deadlines through the one timer."""

    def test_no_start(self) -> None:
        world = World(start_timeout_s=10.0)
        _, far = world.connect()
        world.pump(9.75)
        self.assertIsNone(far.closed)
        world.pump(0.25)
        self.assertEqual((far.words(), far.closed), (["start_timeout"], (4408, "start_timeout")))

    def test_no_audio(self) -> None:
        world = World(idle_timeout_s=20.0)
        driver, far, lane = world.live()
        world.pump(15.0)
        driver.frame(FRAME)
        lane.confirm()
        world.pump(19.75)
        self.assertIsNone(far.closed)
        world.pump(0.5)
        self.assertEqual((far.words()[-1], far.closed), ("idle_timeout", (4408, "idle_timeout")))
        self.assertEqual((lane.events[-1][1]["reason"], world.metrics.sessions_active), ("idle_timeout", 0))

    def test_a_token_is_announced_once_and_lapses(self) -> None:
        world = World(auth_expiring_lead_s=30.0, auth_leeway_s=10.0, idle_timeout_s=0.0)
        _, far, _ = world.live(expires_in=100.0)
        world.pump(69.75)
        self.assertEqual(far.words(), ["started"])
        world.pump(0.25)
        self.assertEqual(far.said[-1], ("auth_expiring", {"expires_in_s": 30.0}))
        world.pump(39.75)
        self.assertIsNone(far.closed)
        world.pump(0.5)
        self.assertEqual(far.words(), ["started", "auth_expiring", "token_expired"])
        self.assertEqual(far.closed, (4401, "token_expired"))

    def test_a_token_within_its_lead_is_announced_at_once(self) -> None:
        world = World(auth_expiring_lead_s=30.0)
        _, far, _ = world.live(expires_in=5.0)
        world.clock.advance(0.01)
        self.assertEqual(far.words(), ["started", "auth_expiring"])

    def test_a_step_of_the_wall_clock_moves_no_deadline(self) -> None:
        wall = [WALL]
        world = World(auth_expiring_lead_s=0.0, auth_leeway_s=0.0, idle_timeout_s=0.0)
        object.__setattr__(world.house, "wall_clock", lambda: wall[0])
        _, far, _ = world.live(expires_in=100.0)
        wall[0] += 86400.0
        world.pump(99.75)
        self.assertIsNone(far.closed)
        world.pump(0.5)
        self.assertEqual(far.closed, (4401, "token_expired"))

    def test_a_connection_that_is_gone_wants_no_more_waking(self) -> None:
        world = World()
        driver, _, _ = world.live()
        driver.lost(1006)
        self.assertEqual((len(world.deadlines), world.clock.getDelayedCalls()), (0, []))
        world.pump(5.0)

    def test_a_stream_that_has_ended_wants_no_more_waking_either(self) -> None:
        world = World(idle_timeout_s=5.0)
        driver, far, _ = world.live()
        driver.stop()
        world.pump(10.0)
        self.assertEqual((far.words(), len(world.deadlines)), (["started", "stopped"], 0))


class Authentication(SynchronousTestCase):
    """A fresh token while the stream lives."""

    def setUp(self) -> None:
        self.world = World(auth_expiring_lead_s=30.0, auth_leeway_s=0.0, idle_timeout_s=0.0)
        self.driver, self.far, self.lane = self.world.live(expires_in=100.0)

    def offer(self, verdict: Deferred[Claims]) -> None:
        """The peer offers a token that is judged by ``verdict``."""
        self.world.verdicts["t"] = verdict
        self.driver.auth("t")

    def test_a_good_one_prolongs_the_stream(self) -> None:
        self.world.pump(80.0)
        self.offer(succeed(self.world.claims(expires_in=100.0)))
        self.assertEqual(self.far.said[-1], ("authenticated", {"expires_in_s": 100.0}))
        self.world.pump(60.0)
        self.assertEqual((self.far.words()[-1], self.far.closed), ("authenticated", None))
        self.world.pump(41.0)
        self.assertEqual(self.far.closed, (4401, "token_expired"))

    def test_one_that_is_checked_later_counts_from_then(self) -> None:
        verdict: Deferred[Claims] = Deferred()
        self.offer(verdict)
        self.assertEqual(self.far.words(), ["started"])
        self.world.pump(2.0)
        self.driver.frame(FRAME)
        verdict.callback(self.world.claims(expires_in=50.0))
        self.assertEqual(self.far.said[-1], ("authenticated", {"expires_in_s": 50.0}))

    def test_one_that_lapses_sooner_is_acted_upon(self) -> None:
        self.offer(succeed(self.world.claims(expires_in=10.0)))
        self.world.pump(10.5)
        self.assertEqual(self.far.closed, (4401, "token_expired"))

    def test_what_is_refused_leaves_the_old_one_in_force(self) -> None:
        for verdict in (
            fail(Unauthenticated()),
            fail(TokenExpired()),
            succeed(self.world.claims(tenant_id="other")),
            succeed(self.world.claims(interaction_id="other")),
            succeed(self.world.claims(subject="other")),
        ):
            self.offer(verdict)
            self.assertEqual((self.far.words()[-1], self.far.closed), ("token_refused", None))
        self.assertEqual(self.world.metrics.errors["token_refused", "ingest"], 5)
        self.world.pump(100.25)
        self.assertEqual(self.far.closed, (4401, "token_expired"))

    def test_when_keys_are_missing_it_says_so_and_goes_on(self) -> None:
        self.offer(fail(KeysUnavailable()))
        self.assertEqual((self.far.words()[-1], self.far.closed), ("keys_unavailable", None))

    def test_a_bug_of_ours_is_logged_and_not_told(self) -> None:
        self.offer(fail(ValueError("secret")))
        self.assertEqual((self.far.words()[-1], self.far.closed), ("token_refused", None))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertNotIn("secret", repr(self.far.said))

    def test_a_flood_of_tokens_is_cut(self) -> None:
        for _ in range(5):
            self.offer(succeed(self.world.claims(expires_in=100.0)))
        self.assertIsNone(self.far.closed)
        self.offer(succeed(self.world.claims()))
        self.assertEqual((self.far.words()[-1], self.far.closed), ("rate_limited", (4429, "rate_limited")))

    def test_one_every_two_seconds_is_no_flood(self) -> None:
        for _ in range(40):
            self.offer(succeed(self.world.claims(expires_in=100.0)))
            self.world.pump(2.0)
        self.assertIsNone(self.far.closed)

    def test_one_at_a_time_is_checked(self) -> None:
        verdict: Deferred[Claims] = Deferred()
        self.offer(verdict)
        self.driver.auth("t")
        self.assertEqual(self.far.closed, (4429, "rate_limited"))
        verdict.callback(self.world.claims())
        self.assertEqual(self.far.words(), ["started", "rate_limited"])

    def test_a_check_is_given_up_when_the_peer_is_lost(self) -> None:
        given_up: list[Any] = []
        verdict: Deferred[Claims] = Deferred(given_up.append)
        self.offer(verdict)
        self.driver.lost(1006)
        self.assertEqual(given_up, [verdict])
        self.assertEqual(self.far.words(), ["started"])
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])
        self.assertIsNone(self.successResultOf(verdict))

    def test_a_verdict_that_comes_after_the_end_changes_nothing(self) -> None:
        for verdict in (self.world.claims(), Unauthenticated(), ValueError()):
            world = World()
            driver, far, _ = world.live()
            check: Deferred[Claims] = Deferred()
            world.verdicts["t"] = check
            driver.auth("t")
            driver.stop()
            if isinstance(verdict, Exception):
                check.errback(verdict)
            else:
                check.callback(verdict)
            self.assertEqual(far.words(), ["started", "stopped"])
            self.assertIsNone(self.successResultOf(check))

    def test_a_peer_that_answers_every_announcement_is_not_cut_for_it(self) -> None:
        """Its issuer may hand out the same token until it lapses."""
        lapses_at = WALL + 100.0
        self.world.pump(70.0)
        for _ in range(15):
            answered = self.far.words().count("authenticated")
            while self.far.words().count("auth_expiring") > answered and self.far.closed is None:
                self.offer(succeed(self.world.claims(expires_at=lapses_at)))
                answered += 1
                self.world.clock.advance(0.01)
            self.world.clock.advance(1.0)
        self.assertIn("authenticated", self.far.words())
        self.assertIsNone(self.far.closed)

    def test_before_the_start_too(self) -> None:
        driver, far = self.world.connect()
        self.world.verdicts["t"] = succeed(self.world.claims())
        driver.auth("t")
        self.assertEqual(far.words(), ["authenticated"])


class Draining(SynchronousTestCase):
    """How a shutdown ends streams in each state."""

    def setUp(self) -> None:
        self.world = World(flush_timeout_s=60.0)

    def drain(self, deadline_s: float = 30.0) -> list[Any]:
        """Drain; the list holds what the Deferred fired with."""
        fired: list[Any] = []
        self.world.registry.drain(deadline_s).addBoth(fired.append)
        return fired

    def test_who_has_not_started_is_sent_away_at_once(self) -> None:
        driver, far = self.world.connect()
        fired = self.drain()
        self.assertEqual((far.words(), far.closed), (["draining"], (1001, "draining")))
        driver.lost(1001)
        self.assertEqual(fired, [None])

    def test_a_live_one_is_told_and_may_end_by_itself(self) -> None:
        driver, far, lane = self.world.live()
        fired = self.drain(12.5)
        self.assertEqual(far.said[-1], ("goaway", {"after_ms": 12500}))
        driver.frame(FRAME)
        driver.stop()
        lane.confirm()
        self.assertEqual((far.closed, fired), ((1000, ""), []))
        driver.lost(1000)
        self.assertEqual((fired, self.world.clock.getDelayedCalls()), ([None], []))

    def test_at_the_deadline_a_live_one_is_flushed_and_closed_as_draining(self) -> None:
        driver, far, lane = self.world.live()
        driver.frame(FRAME)
        fired = self.drain()
        self.world.pump(30.0)
        self.assertIsNone(far.closed)
        lane.confirm()
        self.assertEqual((far.words()[-1], far.closed), ("stopped", (1001, "draining")))
        self.assertEqual(far.said[-1][1]["pending"], 0)
        driver.lost(1001)
        self.assertEqual(fired, [None])

    def test_one_that_does_not_hear_of_it_is_still_flushed_and_closed_as_draining(self) -> None:
        """It goes on sending while the bus is slow: that is no reason to call it names."""
        driver, far, lane = self.world.live()
        driver.frame(FRAME)
        self.drain()
        self.world.pump(30.0)
        for _ in range(2 * PEER_ERRORS_MAX_COUNT):
            driver.frame(FRAME)
        self.assertIsNone(far.closed)
        lane.confirm()
        self.assertEqual((far.words()[-1], far.closed), ("stopped", (1001, "draining")))

    def test_one_the_bus_does_not_settle_is_cut_after_the_grace(self) -> None:
        driver, far, lane = self.world.live()
        driver.frame(FRAME)
        fired = self.drain()
        self.world.pump(30.0 + FLUSH_GRACE_S)
        self.assertEqual((far.words()[-1], far.closed, fired), ("draining", (1001, "draining"), [None]))
        driver.lost(1001)
        lane.confirm()
        self.assertEqual((lane.events[-1][1]["reason"], lane.closed), ("draining", True))
        self.assertEqual((self.world.metrics.sessions_active, self.world.clock.getDelayedCalls()), (0, []))

    def test_one_that_is_stopping_goes_on_with_it(self) -> None:
        driver, far, lane = self.world.live()
        driver.frame(FRAME)
        driver.stop()
        self.drain()
        self.assertEqual(far.words(), ["started"])
        lane.confirm()
        self.assertEqual(far.closed, (1000, ""))

    def test_everything_of_the_last_one_is_on_the_bus_when_the_drain_is_done(self) -> None:
        """What comes next in a shutdown is the end of the bus."""
        driver, _, lane = self.world.live()
        driver.frame(FRAME)
        lane.confirm()
        seen: list[list[str]] = []
        self.world.registry.drain(30.0).addCallback(
            lambda _: seen.append([event for event, _ in lane.events])
        )
        driver.lost(1006)
        self.assertEqual(seen, [["started", "stopped"]])

    def test_one_that_comes_while_draining_is_sent_away_at_once(self) -> None:
        """Its token was being checked when the drain began."""
        _, stays, _ = self.world.live()
        self.drain()
        late, far = self.world.connect()
        self.assertEqual((far.words(), far.closed), (["draining"], (1001, "draining")))
        late.lost(1001)
        self.assertEqual(stays.words(), ["started", "goaway"])

    def test_one_that_starts_while_draining_is_refused(self) -> None:
        driver, far = self.world.connect()
        self.world.live()
        self.world.registry.draining = True
        driver.start("acme", "another", AUDIO)
        self.assertEqual((far.words(), far.closed), (["draining"], (1001, "draining")))
        self.assertEqual((self.world.metrics.sessions_active, len(self.world.registry)), (1, 1))

    def test_the_time_that_is_up_is_up_for_those_too_who_never_started(self) -> None:
        driver, far = self.world.connect()
        driver.finish()
        self.assertEqual(far.closed, (1001, "draining"))


class Machine(RuleBasedStateMachine):
    """Any order of what peers, the bus, the clock and the operator do."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            ack_interval=3, start_timeout_s=10, idle_timeout_s=20, flush_timeout_s=5, auth_expiring_lead_s=30
        )
        self.here: list[tuple[StreamDriver, Far]] = []
        self.all: list[tuple[StreamDriver, Far]] = []
        self.verdicts: list[Deferred[Claims]] = []

    def pick(self, number: int) -> StreamDriver | None:
        """A connection that may still say something."""
        speaking = [driver for driver, far in self.here if far.closed is None]
        return speaking[number % len(speaking)] if speaking else None

    @precondition(lambda self: len(self.here) < 4)
    @rule(
        tenant=st.sampled_from(["acme", "acme", "other"]),
        expires_in=st.sampled_from([-5.0, 5.0, 40.0, 3600.0]),
    )
    def connect(self, tenant: str, expires_in: float) -> None:
        connection = self.world.connect(tenant_id=tenant, expires_in=expires_in)
        self.here.append(connection)
        self.all.append(connection)

    @rule(
        number=st.integers(0, 3),
        tenant=st.sampled_from(["acme", "acme", "other"]),
        call=st.sampled_from("ab"),
    )
    def start(self, number: int, tenant: str, call: str) -> None:
        driver = self.pick(number)
        if driver is not None:
            driver.start(tenant, call, AUDIO)

    @rule(
        number=st.integers(0, 3),
        size=st.sampled_from([0, 1, 2, 960, 960, 960, 65536]),
        count=st.integers(1, 12),
    )
    def frames(self, number: int, size: int, count: int) -> None:
        for _ in range(count):
            driver = self.pick(number)
            if driver is not None:
                driver.frame(bytes(size))

    @rule(number=st.integers(0, 3))
    def stop(self, number: int) -> None:
        driver = self.pick(number)
        if driver is not None:
            driver.stop()

    @rule(number=st.integers(0, 3), how=st.sampled_from(["good", "bad", "later", "later", "no keys"]))
    def auth(self, number: int, how: str) -> None:
        driver = self.pick(number)
        if driver is None:
            return
        verdict: Deferred[Claims] = Deferred()
        self.world.verdicts["t"] = verdict
        if how == "good":
            verdict.callback(self.world.claims())
        driver.auth("t")
        if self.world.verdicts.pop("t", None) is not None:
            return  # a flood: it was not even checked
        if how == "later":
            self.verdicts.append(verdict)
        elif how != "good":
            verdict.errback(Unauthenticated() if how == "bad" else KeysUnavailable())

    @precondition(lambda self: self.verdicts)
    @rule(good=st.booleans())
    def judge(self, good: bool) -> None:
        verdict = self.verdicts.pop(0)
        if verdict.called:
            return  # the peer is gone, and the check was given up
        if good:
            verdict.callback(self.world.claims())
        else:
            verdict.errback(Unauthenticated())

    @rule(number=st.integers(0, 3), error=st.sampled_from([None, TokenRevoked, InternalError]))
    def hang_up(self, number: int, error: type[VoiceIngestError] | None) -> None:
        live = self.world.records.live
        if live:
            live[number % len(live)].hang_up(None if error is None else error())

    @rule(number=st.integers(0, 3), error=st.sampled_from([BadJson, FrameTooBig]))
    def refuse(self, number: int, error: type[VoiceIngestError]) -> None:
        driver = self.pick(number)
        if driver is not None:
            driver.refuse(error())

    @rule(number=st.integers(0, 3))
    def socket_refuses(self, number: int) -> None:
        for driver, far in self.here:
            if driver is self.pick(number):
                driver.refused(PeerTooSlow())
                far.close(4408, "slow_consumer")
                break

    @precondition(lambda self: self.here)
    @rule(number=st.integers(0, 3))
    def lose(self, number: int) -> None:
        driver, far = self.here.pop(number % len(self.here))
        far.close(1006, "")
        driver.lost(1006)

    @rule(count=st.integers(1, 12))
    def confirm(self, count: int) -> None:
        for lane in self.world.lanes:
            lane.confirm(count)

    @rule(number=st.integers(0, 9))
    def drop(self, number: int) -> None:
        waiting = [lane for lane in self.world.lanes if lane.open]
        if waiting:
            lane = waiting[number % len(waiting)]
            lane.drop(lane.open[0], lane.open[0])

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 12.0, 40.0]))
    def time(self, seconds: float) -> None:
        self.world.pump(seconds)

    @rule(deadline_s=st.sampled_from([0.0, 3.0]))
    def drain(self, deadline_s: float) -> None:
        self.world.registry.drain(deadline_s)

    @invariant()
    def the_gauges_are_right(self) -> None:
        world = self.world
        live = [driver for driver, _ in self.all if driver.stream.state in (State.LIVE, State.STOPPING)]
        assert world.metrics.sessions_active == len(live) == len(world.registry)
        assert world.metrics.connections["ingest"] == len(self.here)
        assert world.metrics.sessions_started == len(world.lanes)
        assert world.metrics.frames_received == sum(len(lane.frames) for lane in world.lanes)
        assert world.metrics.acks_sent >= sum(len(far.acks) for _, far in self.all)

    @invariant()
    def the_records_hear_of_every_stream(self) -> None:
        records = self.world.records
        assert len(records.began_with) == self.world.metrics.sessions_started
        assert len(records.live) == self.world.metrics.sessions_active

    @invariant()
    def an_end_is_an_end(self) -> None:
        for driver, far in self.all:
            if driver.stream.state is State.ENDED and (driver, far) in self.here:
                assert far.closed is not None, "ended, and the connection left open"
            assert far.acks == sorted(set(far.acks))

    @invariant()
    def the_bus_hears_one_beginning_and_at_most_one_end(self) -> None:
        for lane in self.world.lanes:
            events = [event for event, _ in lane.events]
            assert events[0] == "started" and events.count("started") == 1
            assert [seq for seq, _, _ in lane.frames] == list(range(1, len(lane.frames) + 1))
            assert lane.closed == (events[-1] == "stopped") == ("stopped" in events)
            if lane.closed:
                last = lane.events[-1][1]
                assert last["pending"] == 0 and last["received"] == last["seq"] == len(lane.frames)
                assert last["received"] == last["published"] + last["dropped"]

    def teardown(self) -> None:
        """Everybody goes and the bus settles: nothing is left of them."""
        while self.here:
            self.lose(0)
        for lane in self.world.lanes:
            lane.confirm()
            assert lane.closed
        self.the_gauges_are_right()
        self.the_bus_hears_one_beginning_and_at_most_one_end()
        assert (
            self.world.metrics.sessions_active == len(self.world.registry) == len(self.world.deadlines) == 0
        )
        assert all(verdict.called for verdict in self.verdicts), "a check that nobody waits for"
        while self.verdicts:
            self.judge(True)
        self.world.pump(20.0)
        assert self.world.clock.getDelayedCalls() == []


class AnyOrder(SynchronousTestCase):
    """The machine above, under trial."""

    def test_whatever_the_order_nothing_leaks(self) -> None:
        run_state_machine_as_test(
            Machine, settings=settings(deadline=None, max_examples=120, stateful_step_count=40)
        )


class ErrorEvents(SynchronousTestCase):
    """Whoever follows the events of a stream hears of its errors, but not of every one in a flood."""

    def test_an_error_that_ends_the_stream(self) -> None:
        world = World(idle_timeout_s=5.0)
        _, _, lane = world.live()
        world.pump(6)
        names = [event for event, _ in lane.events]
        self.assertEqual(names, ["started", "error", "stopped"])
        self.assertEqual(dict(lane.events)["error"], {"code": "idle_timeout"})

    def test_a_flood_of_errors_is_one_a_second(self) -> None:
        world = World()
        driver, far, lane = world.live()
        for _ in range(60):
            driver.frame(b"odd")
        self.assertEqual(sum(event == "error" for event, _ in lane.events), 10)
        self.assertEqual(sum(event == "error" for event, _ in far.said), 60)

    def test_a_shutdown_without_the_bus_says_what_is_pending(self) -> None:
        world = World()
        driver, far, _ = world.live()
        driver.frame(bytes(4))
        world.registry.drain(1.0)
        world.pump(7)
        stopped = dict(far.said)["stopped"]
        self.assertEqual((stopped["received"], stopped["pending"]), (1, 1))
        self.assertEqual(far.closed, (1001, "draining"))


class Sizes(SynchronousTestCase):
    """Audio has a limit of its own."""

    def test_a_frame_over_the_limit_of_audio(self) -> None:
        world = World(max_frame_bytes=100)
        driver, far, _ = world.live()
        driver.frame(bytes(100))
        driver.frame(bytes(102))
        self.assertEqual(far.closed, (1009, "frame_too_big"))
