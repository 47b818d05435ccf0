"""One stream with plain values: what it refuses, acknowledges and waits for."""

from __future__ import annotations

import math
from collections.abc import Callable
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
from twisted.trial.unittest import SynchronousTestCase

from voiceingest.audio import AudioFormat
from voiceingest.errors import (
    AlreadyStarted,
    AlreadyStopped,
    EmptyFrame,
    FlushTimeout,
    Forbidden,
    NotStarted,
    OddFrame,
    PeerError,
    PeerIdle,
    StartTimeout,
    TokenExpired,
    TokenRefused,
    TooManyErrors,
    VoiceIngestError,
)
from voiceingest.limits import PEER_ERRORS_MAX_COUNT
from voiceingest.stream import Authority, State, Step, Stream, StreamRules, Wake

RULES = StreamRules()
AUDIO = AudioFormat()
DAY = 86400.0


def authority(**changes: Any) -> Authority:
    """A day's credential of tenant ``acme``, for any interaction."""
    given = {"subject": "s", "tenant_id": "acme", "interaction_id": None, "expires_in_s": DAY}
    return Authority(**{**given, **changes})


def waiting(rules: StreamRules = RULES, now: float = 0.0, **claims: Any) -> Stream:
    """A stream that has not been started."""
    return Stream(rules, authority(**claims), now)


def live(rules: StreamRules = RULES, now: float = 0.0, audio: AudioFormat = AUDIO, **claims: Any) -> Stream:
    """A stream of ``acme`` and ``call`` that has been started."""
    stream = waiting(rules, now, **claims)
    stream.start("acme", "call", audio, now)
    return stream


def ended(step: Step = Step.CUT) -> Stream:
    """A stream that is over."""
    stream = live()
    stream.end(step)
    return stream


class Starting(SynchronousTestCase):
    """Claims are matched on every start."""

    def test_a_start_that_matches_is_taken(self) -> None:
        stream = live(audio=AudioFormat(8000), interaction_id="call")
        self.assertIs(stream.state, State.LIVE)
        self.assertEqual(
            (stream.tenant_id, stream.interaction_id, stream.audio), ("acme", "call", AudioFormat(8000))
        )

    def test_who_may_start_what(self) -> None:
        table = [
            ("acme", None, "acme", "call", True),
            ("acme", "call", "acme", "call", True),
            ("acme", "call", "acme", "other", False),
            ("acme", None, "other", "call", False),
            ("acme", "call", "other", "call", False),
            (None, None, "acme", "call", False),
            (None, "call", "acme", "call", False),
            ("acme", None, "ACME", "call", False),
            ("acme", None, "acme ", "call", False),
        ]
        for tenant, interaction, wanted_tenant, wanted_interaction, allowed in table:
            stream = waiting(tenant_id=tenant, interaction_id=interaction)
            if allowed:
                stream.start(wanted_tenant, wanted_interaction, AUDIO, 0.0)
            else:
                self.assertRaises(Forbidden, stream.start, wanted_tenant, wanted_interaction, AUDIO, 0.0)
                self.assertIs(stream.state, State.WAITING)
                self.assertEqual((stream.tenant_id, stream.interaction_id), ("", ""))

    def test_a_second_start_is_refused_and_changes_nothing(self) -> None:
        stream = live()
        stream.take(2, 0.0)
        self.assertRaises(AlreadyStarted, stream.start, "acme", "other", AudioFormat(8000), 1.0)
        self.assertEqual((stream.interaction_id, stream.audio, stream.seq), ("call", AUDIO, 1))

    def test_a_second_start_is_refused_for_its_time_before_its_claims(self) -> None:
        self.assertRaises(AlreadyStarted, live().start, "other", "call", AUDIO, 0.0)

    def test_it_does_not_start_again_after_its_stop(self) -> None:
        stream = live()
        stream.take(2, 0.0)
        stream.stop(0.0)
        self.assertRaises(AlreadyStarted, stream.start, "acme", "call", AUDIO, 0.0)
        self.assertRaises(AlreadyStopped, ended().start, "acme", "call", AUDIO, 0.0)


class Frames(SynchronousTestCase):
    """Audio in."""

    def test_they_are_numbered_from_1(self) -> None:
        stream = live()
        self.assertEqual([stream.take(9600, 0.0) for _ in range(5)], [1, 2, 3, 4, 5])
        self.assertEqual((stream.ledger.received, stream.ledger.samples), (5, 5 * 4800))

    def test_one_sample_is_a_frame(self) -> None:
        self.assertEqual(live().take(2, 0.0), 1)

    def test_what_is_refused_leaves_everything_as_it_was(self) -> None:
        table = [
            (waiting, 2, NotStarted),
            (waiting, 3, NotStarted),
            (ended, 2, AlreadyStopped),
            (live, 0, EmptyFrame),
            (live, 1, OddFrame),
            (live, 9601, OddFrame),
        ]
        for make, size, error in table:
            stream: Stream = make()  # type: ignore[operator]
            before = (
                stream.state,
                stream.seq,
                stream.ledger.summary(),
                stream.debt_s,
                stream.next_deadline(),
            )
            self.assertRaises(error, stream.take, size, 0.5)
            after = (stream.state, stream.seq, stream.ledger.summary(), stream.debt_s, stream.next_deadline())
            self.assertEqual(after, before)

    def test_an_odd_frame_does_not_use_up_a_number(self) -> None:
        stream = live()
        stream.take(2, 0.0)
        self.assertRaises(OddFrame, stream.take, 3, 0.0)
        self.assertEqual(stream.take(2, 0.0), 2)

    def test_none_is_taken_after_stop(self) -> None:
        stream = live()
        stream.stop(0.0)
        self.assertRaises(AlreadyStopped, stream.take, 2, 0.0)

    def test_a_sender_that_is_too_fast_is_told_how_long_to_wait(self) -> None:
        stream = live(StreamRules(realtime_factor=2.0), audio=AudioFormat(8000))
        self.assertEqual([stream.take(16000, 0.0), stream.debt_s], [1, 0.0])
        self.assertEqual([stream.take(16000, 0.0), stream.debt_s], [2, 0.0])
        self.assertEqual([stream.take(16000, 0.0), stream.debt_s], [3, 0.5])
        self.assertEqual([stream.take(2, 60.0), stream.debt_s], [4, 0.0])

    def test_factor_0_paces_nobody(self) -> None:
        stream = live(StreamRules(realtime_factor=0.0))
        for _ in range(1000):
            stream.take(65536, 0.0)
        self.assertEqual(stream.debt_s, 0.0)


class Stopping(SynchronousTestCase):
    """The peer's last word and the bus's."""

    def test_stop_needs_a_start(self) -> None:
        self.assertRaises(NotStarted, waiting().stop, 0.0)

    def test_stop_is_said_once(self) -> None:
        stream = live()
        stream.stop(0.0)
        self.assertRaises(AlreadyStopped, stream.stop, 0.0)
        self.assertRaises(AlreadyStopped, ended().stop, 0.0)

    def test_it_is_flushed_when_the_fate_of_every_frame_is_known(self) -> None:
        stream = live()
        for _ in range(3):
            stream.take(2, 0.0)
        stream.confirmed(1, 2)
        self.assertFalse(stream.flushed)
        stream.stop(0.0)
        self.assertFalse(stream.flushed)
        stream.dropped(2, 3, "overflow", 4)
        self.assertTrue(stream.flushed)
        stream.end(Step.FLUSHED)
        self.assertFalse(stream.flushed)
        self.assertIs(stream.state, State.ENDED)

    def test_a_stream_without_frames_is_flushed_at_once(self) -> None:
        stream = live()
        self.assertFalse(stream.flushed)
        stream.stop(0.0)
        self.assertTrue(stream.flushed)

    def test_the_bus_may_settle_after_the_end(self) -> None:
        stream = live()
        stream.take(2, 0.0)
        stream.take(2, 0.0)
        stream.end(Step.GONE)
        stream.confirmed(1, 2)
        stream.dropped(2, 2, "refused", 2)
        self.assertEqual(stream.ledger.summary()["pending"], 0)


class Acks(SynchronousTestCase):
    """Cadence, in both modes."""

    def acks(self, stream: Stream, settle: Callable[[int], bool], count: int) -> list[int]:
        """Take ``count`` frames one by one; the acks that ``settle`` makes due."""
        return [seq for seq in (stream.take(2, 0.0) for _ in range(count)) if settle(seq)]

    def test_published_every_tenth_confirmed_frame(self) -> None:
        stream = live()
        self.assertEqual(self.acks(stream, lambda seq: stream.confirmed(seq, 2), 35), [10, 20, 30])

    def test_published_none_for_what_is_only_read(self) -> None:
        stream = live()
        self.assertEqual(self.acks(stream, stream.received_ack_due, 35), [])

    def test_received_every_tenth_read_frame(self) -> None:
        stream = live(StreamRules(ack_published=False))
        self.assertEqual(self.acks(stream, stream.received_ack_due, 35), [10, 20, 30])

    def test_received_none_when_the_bus_confirms(self) -> None:
        stream = live(StreamRules(ack_published=False))
        self.assertEqual(self.acks(stream, lambda seq: stream.confirmed(seq, 2), 35), [])
        self.assertEqual(stream.ledger.published, 35)

    def test_interval_1_acknowledges_each(self) -> None:
        stream = live(StreamRules(ack_interval=1))
        self.assertEqual(self.acks(stream, lambda seq: stream.confirmed(seq, 2), 3), [1, 2, 3])

    def test_a_declared_gap_counts_towards_the_interval(self) -> None:
        stream = live()
        for _ in range(25):
            stream.take(2, 0.0)
        stream.dropped(3, 9, "overflow", 14)
        self.assertEqual([seq for seq in (1, 2, *range(10, 26)) if stream.confirmed(seq, 2)], [10, 20])

    def test_the_frame_on_the_interval_may_be_the_dropped_one(self) -> None:
        stream = live()
        for _ in range(25):
            stream.take(2, 0.0)
        stream.dropped(10, 12, "overflow", 6)
        seqs = (*range(1, 10), *range(13, 26))
        self.assertEqual([seq for seq in seqs if stream.confirmed(seq, 2)], [13, 23])


class Authentication(SynchronousTestCase):
    """A fresh token for a stream that goes on."""

    def test_which_credential_is_taken(self) -> None:
        table: list[tuple[dict[str, Any], bool]] = [
            ({}, True),
            ({"interaction_id": "call"}, True),
            ({"interaction_id": "other"}, False),
            ({"subject": "someone"}, False),
            ({"tenant_id": "other"}, False),
            ({"tenant_id": None}, False),
        ]
        for changes, taken in table:
            stream = live(expires_in_s=100.0)
            if taken:
                stream.reauthenticate(authority(expires_in_s=500.0, **changes), 10.0)
                self.assertEqual(stream.expires_in_s(10.0), 500.0)
            else:
                fresh = authority(expires_in_s=500.0, **changes)
                self.assertRaises(TokenRefused, stream.reauthenticate, fresh, 10.0)
                self.assertEqual(stream.expires_in_s(10.0), 90.0, "the old one still holds")

    def test_before_the_start_any_interaction_of_the_tenant(self) -> None:
        stream = waiting(interaction_id="one")
        stream.reauthenticate(authority(interaction_id="two"), 0.0)
        self.assertRaises(Forbidden, stream.start, "acme", "one", AUDIO, 0.0)
        stream.start("acme", "two", AUDIO, 0.0)

    def test_before_the_start_not_another_tenant_or_subject(self) -> None:
        for changes in ({"tenant_id": "other"}, {"subject": "other"}):
            self.assertRaises(TokenRefused, waiting().reauthenticate, authority(**changes), 0.0)

    def test_while_stopping_it_is_taken_and_after_the_end_it_is_not(self) -> None:
        stream = live()
        stream.take(2, 0.0)
        stream.stop(0.0)
        stream.reauthenticate(authority(), 0.0)
        self.assertIs(stream.state, State.STOPPING)
        self.assertRaises(AlreadyStopped, ended().reauthenticate, authority(), 0.0)


class Blunders(SynchronousTestCase):
    """Errors in a row."""

    def test_the_limit_is_the_last_one_forgiven(self) -> None:
        stream = live()
        for _ in range(PEER_ERRORS_MAX_COUNT):
            stream.blunder()
        self.assertRaises(TooManyErrors, stream.blunder)

    def test_a_frame_that_is_taken_starts_the_count_again(self) -> None:
        stream = live()
        for _ in range(3):
            for _ in range(PEER_ERRORS_MAX_COUNT):
                stream.blunder()
            stream.take(2, 0.0)

    def test_a_start_that_is_taken_starts_the_count_again(self) -> None:
        stream = waiting()
        for _ in range(PEER_ERRORS_MAX_COUNT):
            stream.blunder()
        stream.start("acme", "call", AUDIO, 0.0)
        stream.blunder()

    def test_a_frame_that_is_refused_does_not(self) -> None:
        stream = live()
        for _ in range(PEER_ERRORS_MAX_COUNT):
            stream.blunder()
            self.assertRaises(OddFrame, stream.take, 3, 0.0)
        self.assertRaises(TooManyErrors, stream.blunder)


class Deadlines(SynchronousTestCase):
    """What happens when time goes by; the end of each is a class of its own."""

    rules = StreamRules(
        start_timeout_s=10, idle_timeout_s=60, flush_timeout_s=5, auth_expiring_lead_s=30, auth_leeway_s=20
    )

    def assert_ends(self, stream: Stream, at: float, error: type[VoiceIngestError]) -> None:
        """It says so beforehand, goes on until then and ends then."""
        self.assertEqual(stream.next_deadline(), at)
        self.assertIs(stream.wake(at - 0.001), Wake.NOTHING)
        self.assertRaises(error, stream.wake, at)

    def test_no_start(self) -> None:
        self.assert_ends(waiting(self.rules, now=100.0), 110.0, StartTimeout)

    def test_no_audio_since_the_start(self) -> None:
        self.assert_ends(live(self.rules, now=100.0), 160.0, PeerIdle)

    def test_no_audio_since_the_last_frame(self) -> None:
        stream = live(self.rules)
        stream.take(2, 42.0)
        self.assertIs(stream.wake(60.0), Wake.NOTHING)
        self.assert_ends(stream, 102.0, PeerIdle)

    def test_refused_frames_are_not_audio(self) -> None:
        stream = live(self.rules)
        self.assertRaises(OddFrame, stream.take, 3, 42.0)
        self.assert_ends(stream, 60.0, PeerIdle)

    def test_idle_0_is_never(self) -> None:
        stream = live(StreamRules(idle_timeout_s=0, auth_expiring_lead_s=0, auth_leeway_s=0))
        self.assertEqual(stream.next_deadline(), DAY)

    def test_the_flush(self) -> None:
        stream = live(self.rules)
        stream.take(2, 50.0)
        stream.stop(55.0)
        self.assert_ends(stream, 60.0, FlushTimeout)

    def test_the_token_is_announced_once_and_then_lapses(self) -> None:
        stream = live(
            StreamRules(idle_timeout_s=0, auth_expiring_lead_s=30, auth_leeway_s=20), expires_in_s=100.0
        )
        self.assertEqual(stream.next_deadline(), 70.0)
        self.assertIs(stream.wake(69.9), Wake.NOTHING)
        self.assertIs(stream.wake(70.0), Wake.AUTH_EXPIRING)
        self.assertEqual(stream.expires_in_s(70.0), 30.0)
        self.assertIs(stream.wake(70.0), Wake.NOTHING)
        self.assertIs(stream.wake(119.9), Wake.NOTHING)
        self.assertEqual(stream.expires_in_s(119.9), 0.0, "leeway is not promised to anybody")
        self.assert_ends(stream, 120.0, TokenExpired)

    def test_a_fresh_token_moves_both(self) -> None:
        stream = live(
            StreamRules(idle_timeout_s=0, auth_expiring_lead_s=30, auth_leeway_s=20), expires_in_s=100.0
        )
        self.assertIs(stream.wake(70.0), Wake.AUTH_EXPIRING)
        stream.reauthenticate(authority(expires_in_s=100.0), 80.0)
        self.assertEqual(stream.next_deadline(), 150.0)
        self.assertIs(stream.wake(150.0), Wake.AUTH_EXPIRING)
        self.assert_ends(stream, 200.0, TokenExpired)

    def test_a_fresh_token_that_lapses_sooner_counts(self) -> None:
        stream = live(
            StreamRules(idle_timeout_s=0, auth_expiring_lead_s=0, auth_leeway_s=0), expires_in_s=100.0
        )
        stream.reauthenticate(authority(expires_in_s=10.0), 5.0)
        self.assertEqual(stream.next_deadline(), 15.0)

    def test_a_token_within_its_lead_is_announced_at_the_first_wake(self) -> None:
        stream = live(self.rules, expires_in_s=12.0)
        self.assertLessEqual(stream.next_deadline(), 0.0)
        self.assertIs(stream.wake(0.0), Wake.AUTH_EXPIRING)
        self.assertEqual(stream.next_deadline(), 32.0)

    def test_a_token_within_its_leeway_still_opens_a_stream(self) -> None:
        stream = waiting(self.rules, expires_in_s=-5.0)
        self.assertIs(stream.wake(0.0), Wake.AUTH_EXPIRING)
        self.assertEqual(stream.expires_in_s(0.0), 0.0)
        stream.start("acme", "call", AUDIO, 0.0)
        self.assert_ends(stream, 15.0, TokenExpired)

    def test_a_fresh_token_with_little_life_is_not_announced_in_the_same_breath(self) -> None:
        """Issuers hand out a cached token until it lapses: answer and announcement would chase."""
        stream = live(self.rules, expires_in_s=100.0)
        self.assertIs(stream.wake(70.0 - 60.0), Wake.NOTHING)
        stream.take(2, 70.0)
        self.assertIs(stream.wake(70.0), Wake.AUTH_EXPIRING)
        stream.reauthenticate(authority(expires_in_s=25.0), 70.0)
        self.assertIs(stream.wake(70.0), Wake.NOTHING)
        self.assertGreater(stream.next_deadline(), 70.0)

    def test_the_end_waits_for_nothing(self) -> None:
        for stream in (ended(), ended(Step.GONE)):
            self.assertEqual(stream.next_deadline(), math.inf)
            self.assertIs(stream.wake(1e12), Wake.NOTHING)

    def test_who_was_late_twice_hears_of_the_token(self) -> None:
        stream = live(self.rules, expires_in_s=1.0)
        self.assertRaises(TokenExpired, stream.wake, 1e9)


class Machine(RuleBasedStateMachine):
    """Any order of calls that the driver and the bus can make."""

    @initialize(interval=st.integers(1, 7), published=st.booleans(), expires=st.floats(1, 500))
    def open(self, interval: int, published: bool, expires: float) -> None:
        self.now = 1000.0
        self.stream_rules = StreamRules(ack_interval=interval, ack_published=published)
        self.stream = Stream(self.stream_rules, authority(expires_in_s=expires), self.now)
        self.accepted = 0
        self.open_frames: list[int] = []
        self.confirmed_up_to = 0
        self.acks = [0]

    def ack(self, seq: int) -> None:
        """An ack is due: is it true, and is it its turn?"""
        assert seq - self.acks[-1] >= self.stream_rules.ack_interval
        if self.stream_rules.ack_published:
            assert not [frame for frame in self.open_frames if frame <= seq], "acknowledged what is open"
        assert seq <= self.accepted
        self.acks.append(seq)

    def refusable(self, call: Callable[..., Any], *arguments: Any) -> bool:
        """Make a call that may be refused; a refusal changes neither state nor ledger."""
        before = (self.stream.state, self.stream.seq, self.stream.ledger.summary())
        try:
            call(*arguments)
        except PeerError:
            assert (self.stream.state, self.stream.seq, self.stream.ledger.summary()) == before
            return False
        return True

    @rule(tenant=st.sampled_from(["acme", "acme", "other"]))
    def start(self, tenant: str) -> None:
        waits = self.stream.state is State.WAITING
        assert self.refusable(self.stream.start, tenant, "call", AUDIO, self.now) == (
            waits and tenant == "acme"
        )

    @rule(size=st.sampled_from([0, 1, 2, 960, 9600, 9600, 9600, 9600, 65536]))
    def take(self, size: int) -> None:
        takes = self.stream.state is State.LIVE and size > 0 and size % 2 == 0
        assert self.refusable(self.stream.take, size, self.now) == takes
        if takes:
            self.accepted += 1
            self.open_frames.append(self.accepted)
            assert self.stream.seq == self.accepted
            if self.stream.received_ack_due(self.accepted):
                self.ack(self.accepted)

    @rule(count=st.integers(1, 15))
    def burst(self, count: int) -> None:
        for _ in range(count):
            self.take(960)

    @rule()
    def stop(self) -> None:
        was_live = self.stream.state is State.LIVE
        assert self.refusable(self.stream.stop, self.now) == was_live
        assert not was_live or self.stream.state is State.STOPPING

    @rule(expires=st.floats(-10, 500), subject=st.sampled_from(["s", "s", "t"]))
    def auth(self, expires: float, subject: str) -> None:
        taken = self.refusable(
            self.stream.reauthenticate, authority(expires_in_s=expires, subject=subject), self.now
        )
        assert taken == (subject == "s" and self.stream.state is not State.ENDED)

    @precondition(lambda self: self.open_frames)
    @rule(count=st.integers(1, 12))
    def confirm(self, count: int) -> None:
        """The bus confirms in order, whatever the state: it may be late."""
        for seq in self.open_frames[:count]:
            self.open_frames.remove(seq)
            if self.stream.confirmed(seq, 2):
                self.ack(seq)

    @precondition(lambda self: self.open_frames)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """Any run of numbers that are all open."""
        first = data.draw(st.sampled_from(self.open_frames))
        last = first
        while last + 1 in self.open_frames and data.draw(st.booleans()):
            last += 1
        self.open_frames = [seq for seq in self.open_frames if not first <= seq <= last]
        self.stream.dropped(first, last, "overflow", 2 * (last - first + 1))

    @rule(seconds=st.floats(0, 40))
    def wake(self, seconds: float) -> None:
        self.now += seconds
        due = self.stream.next_deadline()
        try:
            wake = self.stream.wake(self.now)
        except VoiceIngestError:
            assert due <= self.now
            self.stream.end(Step.CUT)
        else:
            assert wake is Wake.NOTHING or due <= self.now
            assert self.stream.next_deadline() > self.now, "it would be woken again at once, for ever"

    @rule(step=st.sampled_from([Step.CUT, Step.GONE]))
    def end(self, step: Step) -> None:
        if step is Step.GONE or self.stream.state is not State.ENDED:
            self.stream.end(step)
            assert self.stream.state is State.ENDED

    @precondition(lambda self: self.stream.flushed)
    @rule()
    def flush(self) -> None:
        self.stream.end(Step.FLUSHED)
        assert not self.open_frames

    @invariant()
    def the_ledger_adds_up(self) -> None:
        ledger = self.stream.ledger
        assert ledger.received == ledger.published + ledger.dropped + ledger.pending
        assert ledger.pending == len(self.open_frames)
        assert ledger.received == self.stream.seq == self.accepted

    @invariant()
    def it_is_flushed_only_when_nothing_is_open(self) -> None:
        assert self.stream.flushed == (self.stream.state is State.STOPPING and not self.open_frames)

    @invariant()
    def only_the_end_waits_for_nothing(self) -> None:
        assert (self.stream.next_deadline() == math.inf) == (self.stream.state is State.ENDED)


class AnyOrder(SynchronousTestCase):
    """The machine above, under trial."""

    def test_whatever_the_order_the_promises_hold(self) -> None:
        run_state_machine_as_test(
            Machine, settings=settings(deadline=None, max_examples=150, stateful_step_count=40)
        )
