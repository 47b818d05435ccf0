"""The streams that are here, by their sessions and by their users."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase
from tests.support.session_world import FakeStream, SessionWorld
from voiceingest.audio import AudioFormat
from voiceingest.errors import VoiceIngestError
from voiceingest.interfaces import StreamFacts
from voiceingest.session_interfaces import Session
from voiceingest.sessions.live import new_session_id
from voiceingest.stream import SessionState


def session(session_id: str) -> Session:
    """One that is active."""
    return Session(session_id, "usr_1", SessionState.ACTIVE, "ingest", 0.0, 0.0, 1.0)


class LiveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = SessionWorld()
        self.live = self.world.live

    def named(self, stream: FakeStream) -> str:
        """Give a stream its session."""
        one = next(one for one in self.live.nameless if one.stream is stream)
        self.live.name(one, session(one.fresh_id))
        return one.fresh_id

    def test_ids(self) -> None:
        self.assertRegex(new_session_id(), r"^ses_[A-Za-z0-9_-]{22}$")
        self.assertNotEqual(new_session_id(), new_session_id())

    def test_a_stream_has_a_session_once_that_is_known(self) -> None:
        stream = self.world.begin()
        self.assertEqual((len(self.live), self.live.session_ids), (1, []))
        name = self.named(stream)
        self.assertEqual((self.live.session_ids, self.live.nameless), ([name], []))
        self.assertFalse(self.live.hang_up("ses_other"))
        self.assertTrue(self.live.hang_up(name))
        self.assertEqual(stream.hung_up, ["ended"])
        self.assertEqual((len(self.live), self.live.session_ids), (0, []))
        self.assertFalse(self.live.hang_up(name))

    def test_one_that_has_ended_gets_no_name_any_more(self) -> None:
        stream = self.world.begin()
        one = self.live.nameless[0]
        self.world.end(stream)
        self.live.name(one, session("ses_1"))
        self.assertEqual(self.live.session_ids, [])
        self.assertIsNone(self.live.remove(stream))

    def test_one_that_fails_is_logged(self) -> None:
        class Broken(FakeStream):
            def hang_up(self, error: VoiceIngestError | None) -> None:
                raise RuntimeError("a bug")

        broken = Broken(self.world.records)
        self.world.records.began(broken, StreamFacts("t", "b", AudioFormat(), 1), "usr_1", "ingest")
        self.live.name(self.live.nameless[0], session("ses_1"))
        self.assertTrue(self.live.hang_up("ses_1"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
