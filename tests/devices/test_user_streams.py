from __future__ import annotations

from dataclasses import replace

from pydantic import SecretStr
from twisted.internet.task import Clock

from tests.devices.test_chain import FACTS, Line
from tests.support.case import SynchronousTestCase, TestCase
from tests.support.device_store import MemoryDeviceStore
from tests.support.world import AUDIO, FRAME, Far, World
from voiceingest.aio import as_deferred
from voiceingest.auth.authenticator import JwtAuthenticator
from voiceingest.auth.device_tokens import DeviceTokens
from voiceingest.auth.either import EitherAuthenticator
from voiceingest.auth.pinned import PinnedKeys
from voiceingest.auth.tokens import Rules
from voiceingest.config import Settings
from voiceingest.deadlines import Deadlines
from voiceingest.devices import Chain, Devices, IUserStreams, UserStreams
from voiceingest.devices.user_streams import MARKS_MAX_COUNT
from voiceingest.errors import RefreshReused, TokenRevoked, VoiceIngestError
from voiceingest.metrics import Metrics
from voiceingest.session_interfaces import IStreamRecords

# The life of a ticket, the time to say start, and a margin, by the defaults.
MARKED_S = 30.0 + 10.0 + 15.0
REVOKED = TokenRevoked(reason="revoked")


class RevokedWorld(World):
    """A house whose streams are known by their users."""

    def __init__(self, **rules: float) -> None:
        super().__init__(**rules)
        self.live_streams = UserStreams(Settings(), self.clock, self.deadlines, self.metrics)
        self.house = replace(self.house, records=Chain(self.live_streams))


class RevokedStreamTests(SynchronousTestCase):
    """What a live stream hears when its tokens are revoked."""

    def test_it_is_closed_with_4401_at_once(self) -> None:
        world = RevokedWorld(resume_window_s=30.0)
        driver, far, lane = world.live(subject="usr_1")
        _, other, _ = world.live("other", subject="usr_2")
        driver.frame(FRAME)
        world.live_streams.end_streams("usr_1", REVOKED)
        self.assertEqual(far.closed, (4401, "token_revoked"))
        self.assertEqual(far.last("error")["code"], "token_revoked")
        self.assertIsNone(other.closed)
        # What was taken is still delivered, and it does not wait to be resumed.
        driver.lost(4401)
        lane.confirm()
        event, fields = lane.events[-1]
        self.assertEqual((event, fields["reason"], fields["seq"]), ("stopped", "token_revoked", 1))
        self.assertTrue(lane.closed)
        self.assertEqual(world.metrics.streams_revoked, 1)
        self.assertEqual(len(world.live_streams), 1)

    def test_one_that_waits_to_be_resumed_waits_no_longer(self) -> None:
        world = RevokedWorld(resume_window_s=30.0)
        driver, _, lane = world.live(subject="usr_1")
        driver.lost(1006)
        self.assertFalse(lane.closed)
        world.live_streams.end_streams("usr_1", REVOKED)
        self.assertTrue(lane.closed)
        self.assertEqual(lane.events[-1][1]["reason"], "token_revoked")
        self.assertEqual(len(world.live_streams), 0)

    def test_every_stream_of_the_user(self) -> None:
        world = RevokedWorld()
        fars = [world.live(name, subject="usr_1")[1] for name in "abc"]
        world.live_streams.end_streams("usr_1", REVOKED)
        self.assertEqual([far.closed for far in fars], [(4401, "token_revoked")] * 3)

    def test_those_that_began_before(self) -> None:
        world = RevokedWorld()
        _, far, _ = world.live("old", subject="usr_1")
        _, other, _ = world.live("other", subject="usr_2")
        world.clock.advance(5.0)
        _, young, _ = world.live("young", subject="usr_1")
        self.assertEqual(world.live_streams.users, ["usr_1", "usr_2"])
        world.live_streams.end_older("usr_1", 5.1, REVOKED)
        self.assertIsNone(far.closed)
        world.live_streams.end_older("usr_1", 5.0, REVOKED)
        self.assertEqual(far.closed, (4401, "token_revoked"))
        self.assertEqual((other.closed, young.closed), (None, None))
        world.live_streams.end_older("nobody", 0.0, REVOKED)
        world.live_streams.end_older("usr_1", float("-inf"), REVOKED)
        self.assertEqual((other.closed, young.closed), (None, (4401, "token_revoked")))

    def test_a_connection_that_was_let_in_before_and_starts_after(self) -> None:
        world = RevokedWorld()
        driver, far = world.connect(subject="usr_1")
        world.live_streams.end_streams("usr_1", REVOKED)
        world.pump(5)
        driver.start("acme", "call", AUDIO)
        self.assertEqual(far.words(), ["started"])
        world.pump(0.25)
        self.assertEqual(far.closed, (4401, "token_revoked"))
        self.assertEqual(len(world.live_streams), 0)


class RevokedByItsDeviceTests(TestCase):
    """The same from the other end: what a device, or whoever has copied its token, does."""

    def setUp(self) -> None:
        settings = Settings(jwt_secret=SecretStr("s" * 32))
        self.world = world = RevokedWorld()
        tokens = DeviceTokens(settings)
        self.devices = Devices(
            MemoryDeviceStore(),
            tokens,
            settings,
            world.wall,
            world.clock.seconds,
            world.metrics,
            world.live_streams,
        )
        issuer = JwtAuthenticator(PinnedKeys(()), Rules(), world.wall, world.metrics)
        self.door = EitherAuthenticator(issuer, tokens.is_ours, self.devices)

    async def stream(self, token: str) -> Far:
        """A live stream that came with this token."""
        claims = await self.door.verify(token)
        driver, far = self.world.connect(subject=claims.subject, tenant_id=claims.tenant_id)
        driver.start(claims.subject, f"call of {claims.subject}", AUDIO)
        self.assertEqual(far.words(), ["started"])
        return far

    async def test_it_logs_out(self) -> None:
        tokens = await as_deferred(self.devices.register("one", None, None))
        other = await as_deferred(self.devices.register("two", None, None))
        far, theirs = await self.stream(tokens.access_token), await self.stream(other.access_token)
        caller = await as_deferred(self.devices.authenticate(tokens.access_token))
        await as_deferred(self.devices.revoke(caller))
        self.assertEqual((far.closed, theirs.closed), ((4401, "token_revoked"), None))
        # It comes back with its device token, and stays.
        again = await as_deferred(self.devices.register("one", tokens.device_token, None))
        far = await self.stream(again.access_token)
        self.world.pump(1)
        self.assertIsNone(far.closed)

    async def test_a_refresh_token_comes_twice(self) -> None:
        tokens = await as_deferred(self.devices.register("one", None, None))
        far = await self.stream(tokens.access_token)
        await as_deferred(self.devices.refresh(tokens.refresh_token))
        self.assertIsNone(far.closed)
        with self.assertRaises(RefreshReused):
            await as_deferred(self.devices.refresh(tokens.refresh_token))
        self.assertEqual(far.closed, (4401, "token_revoked"))


class Caller(Line):
    """A live stream that notes what ends it."""

    def __init__(self) -> None:
        self.ended_by: list[VoiceIngestError | None] = []

    def hang_up(self, error: VoiceIngestError | None) -> None:
        """ILiveStream."""
        self.ended_by.append(error)


class UserStreamsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.live = UserStreams(Settings(), self.clock, Deadlines(self.clock), self.metrics)
        records: IStreamRecords = self.live
        streams: IUserStreams = self.live
        self.assertIs(records, streams)

    def begin(self, user_id: str = "usr_1") -> Caller:
        stream = Caller()
        self.live.began(stream, FACTS, user_id, "ingest")
        return stream

    def late(self) -> bool:
        """Whether what begins now is ended."""
        stream = self.begin()
        self.clock.advance(0)
        is_ended = bool(stream.ended_by)
        self.live.ended(stream, "stopped", 0)
        return is_ended

    def test_only_what_is_live(self) -> None:
        ended, live = self.begin(), self.begin()
        self.live.ended(ended, "stopped", 7)
        self.live.ended(ended, "stopped", 7)
        self.live.end_streams("usr_1", REVOKED)
        self.assertEqual((ended.ended_by, live.ended_by), ([], [REVOKED]))
        self.live.ended(live, "token_revoked", 7)
        # Nothing is left of the user.
        self.assertEqual((len(self.live), self.live._of_user), (0, {}))

    def test_a_mark_lasts_as_long_as_a_credential_may_wait(self) -> None:
        self.live.end_streams("usr_1", REVOKED)
        self.assertTrue(self.late())
        self.clock.advance(MARKED_S - 0.001)
        self.assertTrue(self.late())
        self.clock.advance(0.001)
        self.assertFalse(self.late())

    def test_who_is_let_in_anew_is_marked_no_longer(self) -> None:
        self.live.let_in("usr_1")
        self.live.end_streams("usr_1", REVOKED)
        self.live.let_in("usr_2")
        self.assertTrue(self.late())
        self.live.let_in("usr_1")
        self.assertFalse(self.late())

    def test_one_that_ends_before_its_turn_is_left_alone(self) -> None:
        self.live.end_streams("usr_1", REVOKED)
        stream = self.begin()
        self.live.ended(stream, "stopped", 0)
        self.clock.advance(0)
        self.assertEqual(stream.ended_by, [])

    def test_marks_are_bounded(self) -> None:
        for number in range(MARKS_MAX_COUNT):
            self.live.end_streams(f"usr_{number}", REVOKED)
        self.assertTrue(self.late())
        self.live.end_streams("usr_0", REVOKED)
        self.live.end_streams("usr_more", REVOKED)
        self.assertFalse(self.late())

    def test_one_that_cannot_be_ended_keeps_none_of_the_others(self) -> None:
        class Stuck(Caller):
            def hang_up(self, error: VoiceIngestError | None) -> None:
                raise KeyError("stuck")

        self.live.began(Stuck(), FACTS, "usr_1", "ingest")
        stream = self.begin()
        self.live.end_streams("usr_1", REVOKED)
        self.assertEqual(stream.ended_by, [REVOKED])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(self.metrics.streams_revoked, 2)
