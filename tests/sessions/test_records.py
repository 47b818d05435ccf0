"""What streams tell, and whose their sessions are."""

from __future__ import annotations

from dataclasses import replace

from tests.support.case import SynchronousTestCase, TestCase
from tests.support.session_world import WALL, SessionWorld
from tests.support.world import AUDIO, FRAME, World
from voiceingest.aio import as_deferred
from voiceingest.errors import TokenRevoked
from voiceingest.session_interfaces import SessionEdit
from voiceingest.sessions.live import Ending
from voiceingest.sessions.records import user_of
from voiceingest.stream import SessionState, Wish


class RecordTests(SynchronousTestCase):
    def test_what_is_told_waits_for_the_writer(self) -> None:
        world = SessionWorld()
        world.clock.advance(5.0)
        stream = world.begin("call", subject="someone")
        (one,) = world.live.nameless
        self.assertEqual((one.user_id, one.transport, one.began_at), ("someone", "ingest", WALL + 5.0))
        world.clock.advance(1.0)
        world.end(stream, "stopped", 7)
        self.assertEqual(one.ending, Ending("stopped", 7, WALL + 6.0))
        # Once, for both; and the store was not asked for any of it.
        self.assertEqual((len(world.writer), world.metrics.store_queue, world.store.asked), (1, 1, []))

    def test_an_end_without_a_beginning_is_none(self) -> None:
        world = SessionWorld()
        stream = world.begin()
        world.end(stream)
        world.end(stream)
        self.assertEqual(len(world.writer), 1)

    def test_whose_it_is(self) -> None:
        for subject, user in (
            ("usr_1", "usr_1"),
            ("", "acme"),
            ("x" * 128, "x" * 128),
            ("x" * 129, "acme"),
            ("a\x00b", "acme"),
        ):
            self.assertEqual(user_of(subject, "acme"), user)


class RealStreamTests(TestCase):
    """Streams as they are, with their sessions."""

    def setUp(self) -> None:
        self.world = SessionWorld()
        self.audio = World(resume_window_s=30.0, clock=self.world.clock)
        self.audio.house = replace(self.audio.house, records=self.world.records)

    async def test_a_session_from_the_first_question_to_the_last_frame(self) -> None:
        sessions = self.world.sessions
        made, _ = await as_deferred(sessions.create(self.world.caller, "rest", SessionEdit(), None))
        driver, far = self.audio.connect(subject="usr_1", tenant_id="usr_1")
        driver.start("usr_1", made.session_id, AUDIO)
        driver.frame(FRAME)
        await self.world.written()
        self.assertIs(self.world.row().status, SessionState.ACTIVE)
        self.assertEqual(self.world.row().epoch, far.last("started")["epoch"])
        await as_deferred(sessions.end("usr_1", made.session_id))
        self.assertIsNone(far.closed)
        self.audio.lanes[0].confirm()
        self.assertEqual((far.words()[-1], far.closed), ("stopped", (1000, "")))
        await self.world.written()
        row = self.world.row()
        self.assertEqual((row.status, row.reason, row.frames), (SessionState.COMPLETED, "ended", 1))

    async def test_its_client_comes_back_and_goes_for_good(self) -> None:
        driver, far, lane = self.audio.live()
        driver.lost(1006)
        again, _ = self.audio.connect()
        again.start("acme", "call", AUDIO, Wish(far.last("started")["resume_token"]))
        again.frame(FRAME)
        lane.confirm()
        again.lost(1006)
        await self.world.written()
        self.assertIs(self.world.row().status, SessionState.ACTIVE)
        self.audio.pump(31.0)
        await self.world.written()
        row = self.world.row()
        self.assertEqual((row.status, row.reason, row.frames), (SessionState.COMPLETED, "disconnected", 1))

    async def test_a_user_who_is_revoked(self) -> None:
        _, far, _ = self.audio.live("one", subject="usr_1")
        waits, _, _ = self.audio.live("two", subject="usr_1")
        waits.lost(1006)
        _, other, _ = self.audio.live("three", subject="usr_2")
        await self.world.written()
        revoked = [one.stream for one in self.world.live._by_stream.values() if one.user_id == "usr_1"]
        self.assertEqual(len(revoked), 2)
        for stream in revoked:
            stream.hang_up(TokenRevoked())
        self.assertEqual((far.closed, other.closed), ((4401, "token_revoked"), None))
        await self.world.written()
        reasons = sorted(row.reason for row in self.world.store.rows.values())
        self.assertEqual(reasons, ["", "token_revoked", "token_revoked"])
