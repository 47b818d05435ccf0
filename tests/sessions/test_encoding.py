"""Sessions as JSON."""

from __future__ import annotations

import json

from tests.support.case import SynchronousTestCase
from voiceingest.session_interfaces import Session
from voiceingest.sessions.encoding import decode_session, encode_session
from voiceingest.stream import SessionState

SESSION = Session(
    session_id="ses_1", user_id="u", status=SessionState.ACTIVE, transport="rest", created_at=0.1 + 0.2,
    updated_at=1e10 / 3, expires_at=1.0, epoch=2**40, context={"é\x00": [1, {"a": None}]}, version=7,
)  # fmt: skip


class EncodingTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        self.assertEqual(decode_session(encode_session(SESSION)), SESSION)

    def test_what_another_version_has_written(self) -> None:
        found = json.loads(encode_session(SESSION))
        less = {name: value for name, value in found.items() if name != "node"}
        for other in ("", "{", "[]", "3", json.dumps(less), json.dumps({**found, "more": 1})):
            with self.assertRaises(ValueError):
                decode_session(other)
        with self.assertRaises(ValueError):
            decode_session(json.dumps({**found, "status": "unheard of"}))
