"""Streams that outlive their connection: resuming, take-over, being moved at a shutdown."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.case import SynchronousTestCase
from tests.support.world import AUDIO, FRAME, WALL, Far, Lane, World, ledger
from voiceingest.audio import AudioFormat
from voiceingest.auth.resume import ResumeTokens
from voiceingest.driver import StreamDriver
from voiceingest.errors import InternalError, PeerGone, PeerTooSlow, RateLimited, TokenExpired, TokenRevoked
from voiceingest.limits import RESUME_TOKEN_MAX_AGE_S
from voiceingest.registry import DETACHED_MAX_COUNT, FLUSH_GRACE_S, MOVE_NOTICE_S
from voiceingest.stream import State, Wish

WINDOW_S = 30.0


class FlowCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(resume_window_s=WINDOW_S, ack_interval=1)

    def send(self, driver: StreamDriver, count: int) -> None:
        for _ in range(count):
            driver.frame(FRAME)

    def come_back(self, far: Far, **wish: Any) -> tuple[StreamDriver, Far]:
        """A new connection with the newest token that ``far`` was given."""
        token = next(fields["resume_token"] for _, fields in reversed(far.said) if "resume_token" in fields)
        driver, again, _ = self.world.live(wish=Wish(token, **wish))
        return driver, again

    def events(self, lane: Lane) -> list[str]:
        return [event for event, _ in lane.events]


class ResumeTests(FlowCase):
    def test_a_client_that_was_cut_off_goes_on_where_it_was(self) -> None:
        driver, far, lane = self.world.live()
        self.send(driver, 3)
        lane.confirm(2)
        driver.lost(1006)
        self.assertEqual((self.world.registry.detached_count, lane.closed), (1, False))
        again, second = self.come_back(far, acked=2)
        started = second.last("started")
        self.assertEqual((started["resumed"], started["next_seq"]), (True, 4))
        self.assertEqual(started["epoch"], far.last("started")["epoch"])
        self.send(again, 2)
        lane.confirm()
        again.stop()
        self.assertEqual([seq for seq, _, _ in lane.frames], [1, 2, 3, 4, 5])
        self.assertEqual(len(self.world.lanes), 1)
        self.assertEqual(second.last("stopped"), {"seq": 5, **ledger(5, 5)})
        self.assertEqual(self.events(lane), ["started", "detached", "resumed", "stopped"])
        self.assertEqual((second.acks, second.closed), ([3, 4, 5], (1000, "")))
        metrics = self.world.metrics
        self.assertEqual((metrics.sessions_started, metrics.sessions_active), (1, 0))
        self.assertEqual(metrics.streams_resumed["here"], 1)

    def test_the_old_connection_may_not_be_known_to_be_dead(self) -> None:
        driver, far, lane = self.world.live()
        self.send(driver, 2)
        again, second = self.come_back(far)
        self.assertEqual((far.words()[-1], far.closed), ("replaced", (4409, "replaced")))
        self.send(driver, 3)
        driver.stop()
        driver.lost(1006)
        self.send(again, 1)
        self.assertEqual([seq for seq, _, _ in lane.frames], [1, 2, 3])
        self.assertEqual(self.world.metrics.frames_fenced, 3)
        self.assertEqual((second.last("started")["next_seq"], second.closed), (3, None))
        self.assertEqual(self.world.metrics.sessions_active, 1)

    def test_it_may_happen_again_and_again(self) -> None:
        driver, far, lane = self.world.live()
        for _ in range(5):
            self.send(driver, 2)
            driver.lost(1006)
            driver, far = self.come_back(far)
        driver.stop()
        lane.confirm()
        self.assertEqual([seq for seq, _, _ in lane.frames], [*range(1, 11)])
        self.assertEqual(far.last("stopped")["published"], 10)

    def test_nobody_who_comes_back_is_waited_for_so_long_and_no_longer(self) -> None:
        driver, far, lane = self.world.live()
        self.send(driver, 1)
        lane.confirm()
        driver.lost(1006)
        self.world.pump(WINDOW_S - 0.5)
        self.assertEqual(self.events(lane), ["started", "detached"])
        self.world.pump(1.0)
        self.assertEqual(lane.events[-1], ("stopped", {"seq": 1, **ledger(1, 1), "reason": "disconnected"}))
        self.assertEqual((len(self.world.registry), self.world.metrics.sessions_active), (0, 0))
        again, second = self.come_back(far)
        self.assertEqual((second.words(), second.closed), (["resume_expired"], None))
        # It is told plainly, and may begin anew at the same connection.
        again.start("acme", "call", AUDIO)
        self.assertFalse(second.last("started")["resumed"])
        self.assertGreater(second.last("started")["epoch"], far.last("started")["epoch"])

    def test_what_the_client_has_no_more_is_declared(self) -> None:
        driver, far, lane = self.world.live()
        self.send(driver, 3)
        driver.lost(1006)
        again, second = self.come_back(far, from_seq=7)
        self.assertEqual(second.last("started")["next_seq"], 7)
        self.assertEqual(lane.events[-1], ("gap", {"from": 4, "to": 6, "reason": "client"}))
        self.send(again, 1)
        lane.confirm()
        again.stop()
        self.assertEqual([seq for seq, _, _ in lane.frames], [1, 2, 3, 7])
        self.assertEqual(second.last("stopped"), {"seq": 7, **ledger(4, 4)})

    def test_without_a_window_there_is_none_of_it(self) -> None:
        self.world = World()
        driver, far, lane = self.world.live()
        self.assertFalse({"resume_token", "resume_window_s"} & far.last("started").keys())
        driver.lost(1006)
        self.assertEqual(self.events(lane), ["started", "stopped"])
        _, second, _ = self.world.live(wish=Wish("a.b"))
        self.assertEqual(second.words(), ["resume_refused"])

    def test_a_stop_whose_answer_nobody_heard(self) -> None:
        driver, far, lane = self.world.live()
        self.send(driver, 2)
        driver.stop()
        driver.lost(1006)
        again, second = self.come_back(far)
        self.assertEqual(second.words(), ["started"])
        again.frame(FRAME)
        self.assertEqual(second.words()[-1], "already_stopped")
        lane.confirm()
        self.assertEqual((second.words()[-1], second.closed), ("stopped", (1000, "")))

    def test_a_stop_whose_answer_was_lost_on_its_way(self) -> None:
        driver, far, lane = self.world.live()
        self.send(driver, 2)
        driver.stop()
        lane.confirm()
        driver.lost(1006)
        again, second = self.world.connect()
        token = far.last("started")["resume_token"]
        again.start("acme", "call", AUDIO, Wish(token))
        self.assertEqual((second.said, second.closed), (far.said[-1:], (1000, "")))
        again.frame(FRAME)
        again.lost(1000)
        self.assertEqual((len(lane.frames), len(self.world.lanes)), (2, 1))
        # Another stream of the interaction that is live has nothing to do with it.
        _, third, _ = self.world.live()
        late, late_far = self.world.connect()
        late.start("acme", "call", AUDIO, Wish(token))
        self.assertEqual((late_far.words(), third.closed), (["replaced"], None))

    def test_a_stop_is_flushed_with_nobody_there(self) -> None:
        driver, _, lane = self.world.live()
        self.send(driver, 2)
        driver.stop()
        driver.lost(1006)
        lane.confirm()
        self.assertEqual(self.events(lane), ["started", "stopped"])
        self.assertEqual((len(self.world.registry), self.world.metrics.sessions_active), (0, 0))

    def test_which_errors_leave_the_stream_behind(self) -> None:
        ours = ((PeerGone(), True), (PeerTooSlow(), True), (TokenExpired(), True), (RateLimited(), False))
        for error, stays in ours:
            world = World(resume_window_s=WINDOW_S)
            driver, _, lane = world.live()
            driver.refused(error)
            driver.frame(FRAME)
            driver.lost(error.close_code)
            self.assertEqual(world.registry.detached_count, int(stays), error)
            self.assertEqual(lane.closed, not stays, error)
            self.assertEqual(lane.frames, [])

    def test_a_token_that_lapsed_is_renewed_by_coming_back(self) -> None:
        driver, far, lane = self.world.live(expires_in=1.0)
        self.world.pump(40.0)
        self.assertEqual((far.words()[-1], far.closed), ("token_expired", (4401, "token_expired")))
        driver.lost(4401)
        again, second = self.come_back(far)
        self.send(again, 1)
        self.world.pump(50.0)
        self.assertEqual((second.words(), len(lane.frames)), (["started"], 1))

    def test_the_oldest_is_given_up_when_too_many_wait(self) -> None:
        first, _, lane = self.world.live("first")
        first.lost(1006)
        for number in range(DETACHED_MAX_COUNT):
            driver, _, _ = self.world.live(str(number))
            driver.lost(1006)
        self.assertEqual(self.world.registry.detached_count, DETACHED_MAX_COUNT)
        self.assertTrue(lane.closed)


class TokenTests(FlowCase):
    def refused(self, token: str, interaction_id: str = "call", audio: AudioFormat = AUDIO) -> str:
        driver, far = self.world.connect()
        driver.start("acme", interaction_id, audio, Wish(token))
        self.assertIsNone(far.closed)
        return far.words()[-1]

    def test_it_is_for_one_stream(self) -> None:
        driver, far, _ = self.world.live()
        token = far.last("started")["resume_token"]
        driver.lost(1006)
        self.assertEqual(self.refused(token, "other"), "resume_refused")
        self.assertEqual(self.refused(token, audio=AudioFormat(8000)), "resume_refused")
        self.assertEqual(self.refused(token[:-2] + "AA"), "resume_refused")
        self.assertEqual(self.refused("nonsense"), "resume_refused")
        self.assertEqual(self.world.metrics.resumes_refused["resume_refused"], 4)
        self.assertEqual(self.world.registry.detached_count, 1)

    def test_it_opens_nothing_for_another_tenant(self) -> None:
        driver, far, lane = self.world.live()
        driver.lost(1006)
        token = far.last("started")["resume_token"]
        stranger, second = self.world.connect(tenant_id="other")
        stranger.start("acme", "call", AUDIO, Wish(token))
        self.assertEqual((second.words(), second.closed), (["forbidden"], (4403, "forbidden")))
        stranger, second = self.world.connect(tenant_id="other")
        stranger.start("other", "call", AUDIO, Wish(token))
        self.assertEqual(second.words(), ["forbidden"])
        self.assertFalse(lane.closed)

    def test_one_of_an_older_numbering_cannot_take_the_newer_one_over(self) -> None:
        _old, far, _ = self.world.live()
        token = far.last("started")["resume_token"]
        new, new_far, lane = self.world.live()
        _late, late_far, _ = self.world.live(wish=Wish(token))
        self.assertEqual((late_far.words(), late_far.closed), (["replaced"], (4409, "replaced")))
        self.send(new, 1)
        self.assertEqual((new_far.closed, len(lane.frames)), (None, 1))

    def test_one_of_a_stream_that_was_stopped_here(self) -> None:
        driver, far, _lane = self.world.live()
        driver.stop()
        self.world.pump(WINDOW_S)
        self.assertEqual(self.refused(far.last("started")["resume_token"]), "resume_expired")


class ElsewhereTests(FlowCase):
    """The process that had the stream is gone; its secret is ours too."""

    def other(self) -> ResumeTokens:
        return ResumeTokens("s" * 32, WINDOW_S, self.world.wall)

    def test_a_client_goes_on_after_the_last_frame_it_knows_of(self) -> None:
        token = self.other().mint("acme", "call", 42, (24000, "pcm16"), 1)
        driver, far, lane = self.world.live(wish=Wish(token, acked=20))
        self.assertEqual(far.last("started")["next_seq"], 21)
        self.assertEqual((far.last("started")["epoch"], lane.facts.epoch), (42, 42))
        shape = {"sample_rate": 24000, "encoding": "pcm16"}
        self.assertEqual(lane.events[0], ("resumed", {"next_seq": 21, **shape}))
        self.send(driver, 3)
        lane.confirm()
        driver.stop()
        self.assertEqual([seq for seq, _, _ in lane.frames], [21, 22, 23])
        self.assertEqual(far.acks, [21, 22, 23])
        self.assertEqual(far.last("stopped"), {"seq": 23, **ledger(3, 3)})
        self.assertEqual(self.world.metrics.streams_resumed["elsewhere"], 1)

    def test_what_was_said_when_it_was_moved_counts_for_more(self) -> None:
        token = self.other().mint("acme", "call", 42, (24000, "pcm16"), 31, is_exact=True)
        _, far, _ = self.world.live(wish=Wish(token, acked=20))
        self.assertEqual(far.last("started")["next_seq"], 31)

    def test_tokens_age(self) -> None:
        other = self.other()
        for is_exact, good_s in ((True, WINDOW_S), (False, RESUME_TOKEN_MAX_AGE_S)):
            for age_s, words in ((good_s - 1, ["started"]), (good_s + 1, ["resume_expired"])):
                now = self.world.wall()
                other.now = lambda now=now, age_s=age_s: now - age_s
                token = other.mint("acme", "call", int(age_s), (24000, "pcm16"), 1, is_exact=is_exact)
                driver, far, _ = self.world.live(wish=Wish(token))
                self.assertEqual(far.words(), words, (is_exact, age_s))
                if words == ["started"]:
                    driver.stop()

    def test_another_secret_is_another_house(self) -> None:
        others = ResumeTokens("x" * 32, WINDOW_S, self.world.wall)
        token = others.mint("acme", "call", 42, (24000, "pcm16"), 1)
        driver, far = self.world.connect()
        driver.start("acme", "call", AUDIO, Wish(token))
        self.assertEqual(far.words(), ["resume_refused"])

    def test_a_newer_numbering_than_the_one_that_is_live_here(self) -> None:
        _old, old_far, _ = self.world.live()
        epoch = old_far.last("started")["epoch"] + 1000
        token = self.other().mint("acme", "call", epoch, (24000, "pcm16"), 1)
        _, far, _ = self.world.live(wish=Wish(token, acked=5))
        self.assertEqual((old_far.closed, far.last("started")["next_seq"]), ((4409, "replaced"), 6))
        # What begins after it is newer still.
        _, newest, _ = self.world.live()
        self.assertGreater(newest.last("started")["epoch"], epoch)


class TakeOverTests(FlowCase):
    def test_the_newer_connection_wins(self) -> None:
        old, old_far, old_lane = self.world.live()
        self.send(old, 3)
        new, new_far, new_lane = self.world.live()
        self.assertEqual((old_far.words()[-1], old_far.closed), ("replaced", (4409, "replaced")))
        self.send(old, 2)
        self.send(new, 1)
        self.assertEqual((len(old_lane.frames), len(new_lane.frames)), (3, 1))
        self.assertEqual(self.world.metrics.frames_fenced, 2)
        # What had been taken is still delivered, and accounted for.
        old_lane.confirm()
        self.assertEqual(old_lane.events[-1], ("stopped", {"seq": 3, **ledger(3, 3), "reason": "replaced"}))
        self.assertGreater(new_lane.facts.epoch, old_lane.facts.epoch)
        self.assertEqual(new_far.last("started")["resumed"], False)
        self.assertEqual((self.world.metrics.sessions_active, len(self.world.registry)), (1, 1))
        old.lost(4409)
        self.assertEqual((new_far.closed, len(self.world.registry)), (None, 1))
        self.assertEqual(self.world.metrics.streams_replaced, 1)

    def test_one_that_waits_for_its_client_is_replaced_too(self) -> None:
        old, _, old_lane = self.world.live()
        old.lost(1006)
        self.world.live()
        self.assertEqual(old_lane.events[-1][1]["reason"], "replaced")
        self.assertEqual(self.world.registry.detached_count, 0)

    def test_the_lane_of_the_newer_is_opened_before_that_of_the_older_is_closed(self) -> None:
        self.world.live()
        self.world.order.clear()
        self.world.live()
        self.assertEqual(self.world.order[:1], ["bus error"])
        self.assertLess(self.world.order.index("lane closed"), self.world.order.index("bus started"))

    def test_epochs_grow_though_the_clock_does_not(self) -> None:
        epochs = []
        for _ in range(3):
            _, far, _ = self.world.live()
            epochs.append(far.last("started")["epoch"])
        self.assertEqual(epochs, [int(WALL * 1000) + n for n in range(3)])

    def test_a_start_that_cannot_get_its_lane_leaves_the_older_alone(self) -> None:
        _, far, _ = self.world.live()
        self.world.broken = True
        late, _ = self.world.connect()
        self.assertRaises(RuntimeError, late.start, "acme", "call", AUDIO)
        self.assertEqual((far.closed, len(self.world.registry)), (None, 1))


class MoveTests(FlowCase):
    """A shutdown: streams are handed on, one after the other."""

    def test_a_willing_client_is_moved_early_with_an_exact_token(self) -> None:
        driver, far, lane = self.world.live(wish=Wish(resumable=True))
        self.send(driver, 2)
        self.world.registry.drain(30.0)
        self.world.clock.advance(0)
        self.assertEqual(far.last("goaway")["after_ms"], int(MOVE_NOTICE_S * 1000))
        self.assertIn("resume_token", far.last("goaway"))
        self.send(driver, 1)
        self.world.clock.advance(MOVE_NOTICE_S)
        self.send(driver, 5)
        self.assertEqual(len(lane.frames), 3)
        self.assertIsNone(far.closed)
        lane.confirm()
        moved = far.last("moved")
        self.assertEqual((moved["seq"], moved["next_seq"], far.closed), (3, 4, (1001, "draining")))
        self.assertEqual(lane.events[-1], ("moved", {"seq": 3, **ledger(3, 3)}))
        self.assertEqual(self.world.metrics.streams_moved, 1)
        # Another process with the same secret goes on exactly there.
        next_world = World(resume_window_s=WINDOW_S)
        _, second, _ = next_world.live(wish=Wish(moved["resume_token"], acked=1))
        self.assertEqual(second.last("started")["next_seq"], 4)

    def test_others_have_until_the_deadline(self) -> None:
        driver, far, lane = self.world.live()
        self.world.registry.drain(10.0)
        self.world.pump(5.0)
        self.assertEqual(far.last("goaway")["after_ms"], 10_000)
        self.send(driver, 1)
        self.assertEqual(len(lane.frames), 1)
        self.world.pump(5.5)
        lane.confirm()
        self.assertEqual((far.words()[-1], far.closed), ("moved", (1001, "draining")))

    def test_they_are_spread_over_half_of_the_time(self) -> None:
        fars = [self.world.live(str(n), Wish(resumable=True))[1] for n in range(40)]
        self.world.registry.drain(0.2)
        told = []
        for _ in range(11):
            told.append(sum(1 for far in fars if "goaway" in far.words()))
            self.world.clock.advance(0.01)
        self.assertEqual((told[0], told[-1]), (0, 40))
        self.assertLess(max(after - before for before, after in pairwise(told)), 10)

    def test_without_the_bus_what_was_not_sent_goes_back_to_the_client(self) -> None:
        driver, far, lane = self.world.live(wish=Wish(resumable=True))
        self.send(driver, 5)
        lane.confirm(2)
        done = self.world.registry.drain(1.0)
        self.world.pump(1.0)
        self.assertNotIn("moved", far.words())
        self.world.pump(FLUSH_GRACE_S + 0.5)
        moved = far.last("moved")
        self.assertEqual((moved["seq"], moved["next_seq"], moved["drops"]), (5, 3, {"returned": 3}))
        self.assertEqual((far.closed, moved["pending"]), ((1001, "draining"), 0))
        self.successResultOf(done)
        self.assertEqual(lane.events[-1][0], "moved")

    def test_what_was_in_flight_before_a_gap_goes_back_too(self) -> None:
        """The bus may have it or not: it is neither published nor declared."""
        driver, far, lane = self.world.live(wish=Wish(resumable=True))
        self.send(driver, 6)
        lane.confirm(1)
        lane.drop(4, 5)
        self.world.registry.drain(1.0)
        self.world.pump(1.0 + FLUSH_GRACE_S + 0.5)
        moved = far.last("moved")
        self.assertEqual((moved["next_seq"], moved["pending"]), (2, 0))
        self.assertEqual(moved["drops"], {"overflow": 2, "returned": 3})

    def test_nothing_goes_back_to_nobody(self) -> None:
        driver, _, lane = self.world.live()
        self.send(driver, 2)
        driver.lost(1006)
        self.world.live("other")
        self.world.registry.drain(20.0)
        self.world.pump(12.0)
        self.assertEqual(lane.open, [1, 2])
        lane.confirm()
        self.assertEqual(lane.events[-1], ("moved", {"seq": 2, **ledger(2, 2)}))

    def test_one_that_was_stopped_by_its_client_is_not_moved(self) -> None:
        driver, far, lane = self.world.live()
        self.send(driver, 1)
        driver.stop()
        self.world.registry.drain(1.0)
        self.world.pump(1.0 + FLUSH_GRACE_S + 0.5)
        self.assertEqual(far.last("stopped"), {"seq": 1, **ledger(1, 0)})
        lane.confirm()
        self.assertEqual(lane.events[-1][0], "stopped")
        self.assertEqual(lane.events[-1][1]["reason"], "flush_timeout")
        self.assertEqual(self.world.metrics.streams_moved, 0)

    def test_one_that_waits_for_its_client_is_moved_without_it(self) -> None:
        driver, _, lane = self.world.live()
        driver.lost(1006)
        done = self.world.registry.drain(10.0)
        self.assertEqual(self.events(lane), ["started", "detached", "moved"])
        self.successResultOf(done)

    def test_one_that_is_lost_while_it_is_led_out(self) -> None:
        driver, _, lane = self.world.live()
        self.world.registry.drain(10.0)
        driver.lost(1006)
        self.assertEqual(self.events(lane), ["started", "moved"])
        self.assertEqual(self.world.metrics.sessions_active, 0)


class RecordTests(FlowCase):
    """However often its connection changes, a stream begins once and ends once."""

    def ends(self) -> list[tuple[str, int]]:
        return self.world.records.ends

    def test_resumed_it_is_still_the_same(self) -> None:
        driver, far, lane = self.world.live()
        driver.lost(1006)
        again, _ = self.come_back(far)
        self.send(again, 2)
        lane.confirm()
        self.assertEqual((len(self.world.records.began_with), self.ends()), (1, []))
        again.stop()
        self.assertEqual(self.ends(), [("stopped", 2)])

    def test_given_up_it_has_ended(self) -> None:
        driver, _, _ = self.world.live()
        driver.lost(1006)
        self.world.pump(WINDOW_S - 0.5)
        self.assertEqual(self.ends(), [])
        self.world.pump(1.0)
        self.assertEqual(self.ends(), [("disconnected", 0)])

    def test_replaced_the_older_ends_before_the_newer_begins(self) -> None:
        self.world.live()
        (older,) = self.world.records.live
        self.world.live()
        self.assertEqual(self.ends(), [("replaced", 0)])
        first, second = self.world.records.began_with
        self.assertIs(first, older)
        self.assertEqual(self.world.records.live, [second])

    def test_one_of_another_process_begins_here(self) -> None:
        tokens = ResumeTokens("s" * 32, WINDOW_S, self.world.wall)
        token = tokens.mint("acme", "call", 42, (24000, "pcm16"), 1)
        self.world.live(wish=Wish(token, acked=20))
        ((facts, _, _),) = self.world.records.began_with.values()
        self.assertEqual(facts.epoch, 42)

    def test_moved_is_not_ended_for_good(self) -> None:
        """Whether its client is there, waits to come back, or is lost in the middle of it."""
        willing = Wish(resumable=True)
        _, _, _ = self.world.live("here", wish=willing)
        waits, _, _ = self.world.live("waits", wish=willing)
        waits.lost(1006)
        lost, _, _ = self.world.live("lost", wish=willing)
        self.world.registry.drain(10.0)
        lost.lost(1006)
        self.world.pump(MOVE_NOTICE_S + 1.0)
        self.assertEqual(self.ends(), [("moved", 0)] * 3)
        self.assertEqual(self.world.metrics.streams_moved, 3)

    def test_without_resuming_a_shutdown_is_the_end(self) -> None:
        self.world = World()
        self.world.live()
        self.world.registry.drain(1.0)
        self.world.pump(1.5)
        self.assertEqual(self.ends(), [("draining", 0)])

    def test_hung_up_while_its_client_is_away(self) -> None:
        driver, far, lane = self.world.live()
        self.send(driver, 1)
        driver.lost(1006)
        (stream,) = self.world.records.live
        stream.hang_up(None)
        lane.confirm()
        self.assertEqual(lane.events[-1], ("stopped", {"seq": 1, **ledger(1, 1), "reason": "ended"}))
        self.assertEqual((self.ends(), self.world.registry.detached_count), ([("ended", 1)], 0))
        # Its client is told the last word when it comes back.
        driver, again = self.world.connect()
        driver.start("acme", "call", AUDIO, Wish(far.last("started")["resume_token"]))
        self.assertEqual((again.words(), again.closed), (["stopped"], (1000, "")))

    def test_refused_nobody_comes_back_to_it(self) -> None:
        for error in (TokenRevoked(), InternalError()):
            for is_away in (True, False):
                self.world = World(resume_window_s=WINDOW_S)
                driver, far, lane = self.world.live()
                if is_away:
                    driver.lost(1006)
                (stream,) = self.world.records.live
                stream.hang_up(error)
                self.assertEqual(self.ends(), [(error.code, 0)])
                self.assertEqual(lane.events[-1][1]["reason"], error.code)
                if not is_away:
                    self.assertEqual(far.closed, (error.close_code, error.code))
                    driver.lost(error.close_code)
                self.assertEqual(self.world.registry.detached_count, 0)
                _, again = self.come_back(far)
                self.assertEqual(again.words(), ["resume_expired"])


class Client:
    """A client that keeps what was not acked, and knows what became of what it sent."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.token: str | None = None
        self.driver: StreamDriver | None = None
        self.far: Far | None = None
        self.sent = 0


class FlowMachine(RuleBasedStateMachine):
    """Outages, closes, resumes and take-overs in any order; the ledger holds after every step."""

    @initialize()
    def begin(self) -> None:
        self.world = World(resume_window_s=5.0, ack_interval=1)
        self.clients: list[Client] = []
        self.streams: list[Any] = []

    def _note(self, driver: StreamDriver) -> None:
        if driver._flow is not None and driver._flow not in self.streams:
            self.streams.append(driver._flow)

    @rule(name=st.sampled_from(["a", "b"]))
    def start(self, name: str) -> None:
        client = Client(name)
        client.driver, client.far = self.world.connect()
        client.driver.start("acme", name, AUDIO)
        self._note(client.driver)
        client.token = client.far.last("started")["resume_token"]
        self.clients.append(client)

    @rule(data=st.data(), count=st.integers(1, 4))
    @precondition(lambda self: self.clients)
    def send(self, data: st.DataObject, count: int) -> None:
        client = data.draw(st.sampled_from(self.clients))
        for _ in range(count):
            if client.driver is not None:
                client.driver.frame(FRAME)

    @rule(data=st.data())
    @precondition(lambda self: self.clients)
    def lose(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        if client.driver is not None:
            client.driver.lost(1006)
            client.driver = None

    @rule(data=st.data(), ahead=st.integers(0, 3))
    @precondition(lambda self: self.clients)
    def resume(self, data: st.DataObject, ahead: int) -> None:
        """With the old connection gone or, as far as the daemon knows, standing."""
        client = data.draw(st.sampled_from(self.clients))
        driver, far = self.world.connect()
        driver.start("acme", client.name, AUDIO, Wish(client.token, from_seq=1 + ahead))
        self._note(driver)
        if "started" in far.words():
            client.driver, client.far = driver, far
        else:
            assert far.words()[-1] in ("stopped", "replaced", "resume_expired"), far.words()
            driver.lost(1000)

    @rule(data=st.data())
    @precondition(lambda self: self.clients)
    def stop(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        if client.driver is not None:
            client.driver.stop()

    @rule(data=st.data(), error=st.sampled_from([None, TokenRevoked()]))
    @precondition(lambda self: self.world.records.live)
    def hang_up(self, data: st.DataObject, error: TokenRevoked | None) -> None:
        data.draw(st.sampled_from(self.world.records.live)).hang_up(error)

    @rule(data=st.data(), count=st.integers(1, 3))
    @precondition(lambda self: any(lane.open for lane in self.world.lanes))
    def confirm(self, data: st.DataObject, count: int) -> None:
        data.draw(st.sampled_from([lane for lane in self.world.lanes if lane.open])).confirm(count)

    @rule(data=st.data())
    @precondition(lambda self: any(lane.open for lane in self.world.lanes))
    def drop(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from([lane for lane in self.world.lanes if lane.open]))
        lane.drop(lane.open[0], lane.open[0])

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.5]))
    def wait(self, seconds: float) -> None:
        self.world.pump(seconds)

    @invariant()
    def the_ledger_holds(self) -> None:
        for flow in self.streams:
            lane, account = flow.lane, flow.stream.ledger
            assert account.received == account.published + account.dropped + account.pending
            assert account.samples == (
                account.samples_published + account.samples_dropped + account.samples_pending
            )
            assert account.pending == len(lane.open)
            assert account.samples_pending == 480 * len(lane.open)
            assert account.received == len(lane.frames)

    @invariant()
    def every_frame_has_one_number_and_every_number_is_a_frame_or_a_gap(self) -> None:
        for flow in self.streams:
            lane = flow.lane
            numbers = [seq for seq, _, _ in lane.frames]
            assert numbers == sorted(set(numbers))
            gaps = [event for name, event in lane.events if name == "gap" and event["reason"] == "client"]
            holes = [seq for gap in gaps for seq in range(gap["from"], gap["to"] + 1)]
            assert sorted([*numbers, *holes]) == [*range(1, flow.stream.seq + 1)]

    @invariant()
    def one_stream_an_interaction_takes_audio(self) -> None:
        for name in ("a", "b"):
            live = [
                flow
                for flow in self.streams
                if flow.stream.interaction_id == name and flow.stream.state in (State.LIVE, State.DETACHED)
            ]
            assert len(live) <= 1
        lanes = [lane for lane in self.world.lanes if lane.facts.interaction_id == "a"]
        epochs = [lane.facts.epoch for lane in lanes]
        assert epochs == sorted(set(epochs))

    @invariant()
    def what_is_over_says_so_once(self) -> None:
        for flow in self.streams:
            last = [name for name, _ in flow.lane.events if name == "stopped"]
            is_over = flow.stream.state in (State.STOPPING, State.ENDED) and not flow.lane.open
            assert len(last) == int(is_over), (flow.stream.state, flow.lane.events)
        active = [flow for flow in self.streams if flow.stream.state is not State.ENDED]
        assert self.world.metrics.sessions_active == len(active)
        assert self.world.records.live == active


class MachineTests(SynchronousTestCase):
    def test_whatever_the_order_the_ledger_holds(self) -> None:
        run_state_machine_as_test(
            FlowMachine,
            settings=settings(max_examples=80, stateful_step_count=40, deadline=None),
        )
