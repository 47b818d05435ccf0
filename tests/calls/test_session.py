"""The record of a call as it is shown: the contract's names, and nothing that was not asked for."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.calls.session import VoiceSession, VoiceSessions


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wall = 1_700_000_000.25
        self.session = VoiceSession("echo", lambda: self.wall)

    def test_what_is_shown(self) -> None:
        session = self.session
        session.call_id, session.stream_sid, session.tenant_id = "call-1", "sid-1", "acme"
        session.sample_rate, session.sequence_number, session.is_active = 8000, 7, True
        session.buffered = lambda: 3
        self.wall += 1.5
        session.touch()
        self.assertEqual(
            session.shown(),
            {
                "callId": "call-1",
                "streamSid": "sid-1",
                "connectedAt": "2023-11-14T22:13:20.250Z",
                "lastActivity": "2023-11-14T22:13:21.750Z",
                "sequenceNumber": 7,
                "isActive": True,
                "audioChunksBuffered": 3,
                "tenantId": "acme",
                "sampleRate": 8000,
                "agent": "echo",
            },
        )

    def test_all_that_are_open_the_oldest_first(self) -> None:
        sessions = VoiceSessions()
        other = VoiceSession("echo", lambda: self.wall)
        self.session.call_id, other.call_id = "one", "two"
        sessions.add(self.session)
        sessions.add(other)
        self.assertEqual([shown["callId"] for shown in sessions.shown()["sessions"]], ["one", "two"])
        sessions.discard(self.session)
        sessions.discard(self.session)
        self.assertEqual((sessions.shown()["total"], len(sessions)), (1, 1))
