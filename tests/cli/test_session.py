from __future__ import annotations

from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.cli import session as session_module
from voiceingest.cli.session import Identity, Session


class FakeLink:
    """A connection that takes ``room`` frames."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.said: list[dict[str, Any]] = []
        self.frames: list[bytes] = []
        self.stop_said = False
        self.aborted = False

    @property
    def takes_frames(self) -> bool:
        return len(self.frames) < self.room

    def send(self, audio: bytes) -> None:
        self.frames.append(audio)

    def say(self, **fields: Any) -> None:
        self.said.append(fields)

    def abort(self) -> None:
        self.aborted = True


STARTED = {"event": "started", "epoch": 1, "resumed": False, "next_seq": 1, "resume_token": "t1"}
RESUMED = {**STARTED, "resumed": True, "resume_token": "t2"}


class SessionCase(SynchronousTestCase):
    def begin(self, frames: int = 0, *, resume: bool = True, room: int = 1000) -> tuple[Any, Any]:
        session: Any = Session(Identity("acme", "call-1"), lambda: 0.0, resume=resume)
        link: Any = FakeLink(room)
        session.say_start(link)
        session.hear(link, STARTED if resume else {"event": "started"})
        for number in range(1, frames + 1):
            session.add(b"%d" % number)
        session.pump(link)
        return session, link

    def again(self, session: Any, answer: dict[str, Any], room: int = 1000) -> Any:
        link: Any = FakeLink(room)
        session.attached = False
        session.say_start(link)
        session.hear(link, answer)
        return link


class ResumeTests(SessionCase):
    def test_a_first_start_says_that_it_can_resume_and_nothing_more(self) -> None:
        _, link = self.begin()
        self.assertEqual(link.said[0]["resumable"], True)
        self.assertFalse({"resume_token", "acked", "from_seq"} & set(link.said[0]))
        _, link = self.begin(resume=False)
        self.assertNotIn("resumable", link.said[0])

    def test_it_goes_on_with_the_frame_the_daemon_names(self) -> None:
        session, first = self.begin(12)
        session.hear(first, {"event": "ack", "seq": 8})
        link = self.again(session, {**RESUMED, "next_seq": 11})
        self.assertEqual(
            {name: link.said[0][name] for name in ("resume_token", "acked", "from_seq")},
            {"resume_token": "t1", "acked": 8, "from_seq": 9},
        )
        self.assertEqual(link.frames, [b"11", b"12"])
        session.add(b"13")
        session.pump(link)
        self.assertEqual(link.frames, [b"11", b"12", b"13"])
        self.assertEqual((session.tally.sent_frames, session.tally.resumes), (13, 1))
        # What was received is not acknowledged: another process may ask for it once more.
        self.assertEqual(session.backlog.first, 9)
        self.assertEqual(session.resumption.token, "t2")

    def test_frames_that_came_while_it_was_away_are_sent(self) -> None:
        session, _ = self.begin(2)
        session.attached = False
        session.add(b"3")
        link = self.again(session, {**RESUMED, "next_seq": 3})
        self.assertEqual(link.frames, [b"3"])

    def test_what_was_forgotten_is_named_by_from_seq(self) -> None:
        self.patch(session_module, "kept_bytes", lambda rate: 3)
        session, _ = self.begin(9)
        link = self.again(session, {**RESUMED, "next_seq": 7})
        self.assertEqual((link.said[0]["from_seq"], link.frames), (7, [b"7", b"8", b"9"]))

    def test_a_daemon_that_goes_on_where_nothing_is_kept_is_left(self) -> None:
        for next_seq in (3, 11):
            session, first = self.begin(9)
            session.hear(first, {"event": "ack", "seq": 5})
            link = self.again(session, {**RESUMED, "next_seq": next_seq})
            self.assertTrue(link.aborted)
            self.assertEqual(link.frames, [])
            self.assertEqual(session.tally.last_code, "resume_hole")

    def test_a_refused_token_begins_anew_with_what_is_not_acknowledged(self) -> None:
        for code in ("resume_refused", "resume_expired"):
            session, first = self.begin(12)
            session.hear(first, {"event": "ack", "seq": 10})
            link = self.again(session, {"event": "error", "code": code, "message": "no"})
            self.assertNotIn("resume_token", link.said[1])
            session.hear(link, {**STARTED, "epoch": 2})
            self.assertEqual(link.frames, [b"11", b"12"])
            self.assertEqual((session.tally.restarts, session.tally.resumes, session.tally.base), (1, 0, 10))
            session.hear(link, {"event": "ack", "seq": 2})
            self.assertEqual((session.tally.acked, session.backlog.first), (12, 13))
            again = self.again(session, {**RESUMED, "next_seq": 3})
            self.assertEqual((again.said[0]["acked"], again.said[0]["from_seq"]), (2, 3))

    def test_a_stream_that_was_stopped_is_not_begun_anew(self) -> None:
        session, link = self.begin(12)
        session.stopping = True
        session.pump(link)
        again = self.again(session, {"event": "error", "code": "resume_expired", "message": "no"})
        self.assertTrue(again.aborted and session.tally.unanswered)
        self.assertEqual(len(again.said), 1)
        problem = session.tally.problem(None)
        assert problem is not None
        self.assertIn("12 of 12 frames are not confirmed", problem.text)
        session.hear(link, {"event": "ack", "seq": 12})
        self.assertIsNone(session.tally.problem(None))

    def test_a_daemon_that_does_not_know_of_resuming_begins_anew(self) -> None:
        session, _ = self.begin(3)
        link = self.again(session, {"event": "started"})
        self.assertEqual((link.frames, session.tally.restarts), ([b"1", b"2", b"3"], 1))

    def test_without_a_token_nothing_is_kept(self) -> None:
        session, link = self.begin(3, resume=False)
        self.assertEqual((link.frames, session.backlog.first), ([b"1", b"2", b"3"], 4))

    def test_the_newest_token_is_that_of_moved(self) -> None:
        session, link = self.begin(3)
        session.hear(link, {"event": "goaway", "after_ms": 10, "resume_token": "t7"})
        self.assertFalse(session.moved)
        session.hear(link, {"event": "moved", "seq": 3, "next_seq": 4, "resume_token": "t8"})
        self.assertTrue(session.moved)
        self.assertEqual(self.again(session, {**RESUMED, "next_seq": 4}).said[0]["resume_token"], "t8")


class RoomTests(SessionCase):
    def test_what_the_connection_does_not_take_waits_in_order(self) -> None:
        session, link = self.begin(5, room=2)
        self.assertEqual(link.frames, [b"1", b"2"])
        link.room = 4
        session.pump(link)
        self.assertEqual(link.frames, [b"1", b"2", b"3", b"4"])

    def test_stop_comes_after_the_last_frame_and_once_on_each_connection(self) -> None:
        session, link = self.begin(3, room=2)
        session.stopping = True
        session.pump(link)
        self.assertEqual(len(link.said), 1)
        link.room = 9
        session.pump(link)
        session.pump(link)
        self.assertEqual(link.said[1:], [{"event": "stop"}])
        again = self.again(session, {**RESUMED, "next_seq": 3})
        self.assertEqual((again.frames, again.said[1:]), ([b"3"], [{"event": "stop"}]))

    def test_a_forgotten_frame_that_was_not_sent_is_a_hole(self) -> None:
        self.patch(session_module, "kept_bytes", lambda rate: 3)
        session, link = self.begin(5, room=1)
        self.assertTrue(session.has_hole)
        link.room = 9
        session.pump(link)
        self.assertEqual(link.frames, [])
