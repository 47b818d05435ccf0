"""Status callbacks, as they are documented and as they might be."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadField, BadJson, VoiceIngestError
from voiceingest.wire.exotel_callback import Leg, StatusCallback, read_callback

from .test_exotel_fields import FORM, MULTIPART, multipart

TERMINAL: dict[str, Any] = {
    "CallSid": "c0ffee00",
    "DateUpdated": "2026-01-15 14:30:45",
    "Status": "completed",
    "RecordingUrl": None,
    "EventType": "terminal",
    "To": "09123456789",
    "From": "09876543210",
    "ConversationDuration": 320,
    "Direction": "outbound-api",
    "Legs": [
        {"OnCallDuration": 335, "Status": "completed", "AnsweredBy": "NA"},
        {"OnCallDuration": 320, "Status": "completed", "AnsweredBy": "HUMAN"},
    ],
}
FLAT = [
    (name, str(value)) for name, value in TERMINAL.items() if name != "Legs" and value is not None
] + [
    (f"Legs[{number}][{name}]", str(value))
    for number, leg in enumerate(TERMINAL["Legs"])
    for name, value in leg.items()
]
READ = StatusCallback(
    "c0ffee00", "terminal", "completed", 320, (Leg("completed", 335, "na"), Leg("completed", 320, "human"))
)


def read(**fields: Any) -> StatusCallback:
    return read_callback("application/json", json.dumps(fields).encode())


class CallbackTests(SynchronousTestCase):
    def test_json_form_and_multipart(self) -> None:
        self.assertEqual(read(**TERMINAL), READ)
        self.assertEqual(read_callback(FORM, urlencode(FLAT).encode()), READ)
        self.assertEqual(read_callback(MULTIPART, multipart(*FLAT)), READ)
        self.assertEqual(READ.answered_by, "human")

    def test_the_least_there_is(self) -> None:
        least = read(CallSid="c", Status="no-answer", DateUpdated="x", RecordingUrl="")
        self.assertEqual(least, StatusCallback("c", "terminal", "no-answer"))
        self.assertEqual(least.answered_by, "")

    def test_other_spellings(self) -> None:
        self.assertEqual(
            read(call_sid="c", event_type="Answered", status="In-Progress", conversation_duration="12"),
            StatusCallback("c", "answered", "in-progress", 12),
        )

    def test_values_that_are_none(self) -> None:
        for duration in ("", "-1", "1.5", "12345678", "x", None, [1], "\u0661", True):
            self.assertIsNone(read(CallSid="c", ConversationDuration=duration).duration_s, duration)
        self.assertEqual(read(CallSid="c", ConversationDuration=0).duration_s, 0)
        odd = read(CallSid="c", EventType="a\r\nb", Status="+919876543210")
        self.assertEqual((odd.event, odd.status), ("unknown", "unknown"))

    def test_legs(self) -> None:
        legs = read(CallSid="c", Legs=[{"Status": None, "AnsweredBy": "NotSure"}] * 20).legs
        self.assertEqual(legs, (Leg("unknown", None, "notsure"),) * 8)
        for strange in ([], {}, "x", [[1]], [None], {"x": {"Status": "busy"}}):
            self.assertEqual(read(CallSid="c", Legs=strange).legs, ())

    def test_no_number_and_no_url_is_taken(self) -> None:
        for secret in ("9123456789", "9876543210", "https"):
            self.assertNotIn(secret, repr(read(**TERMINAL, CustomField="9876543210")))

    def test_without_a_call_it_is_none(self) -> None:
        for call_id in ("", "a\r\nX-Injected: 1", "a b", "x" * 129, None, {"a": 1}, "{tenant_id}"):
            self.assertRaises(BadField, read, CallSid=call_id, Status="completed")
        self.assertRaises(BadField, read, Status="completed")
        self.assertRaises(BadField, read, CallSid="a", call_sid="b")
        self.assertRaises(BadJson, read_callback, "application/json", b"[" * 60_000)
        self.assertRaises(BadField, read_callback, "", b"CallSid=c")

    @settings(max_examples=200, deadline=None, database=None)
    @given(
        st.dictionaries(
            st.sampled_from(["CallSid", "Status", "EventType", "ConversationDuration", "Legs"]),
            st.text(max_size=10)
            | st.integers()
            | st.lists(st.dictionaries(st.just("Status"), st.text(max_size=5))),
        )
    )
    def test_words_or_an_error_of_ours(self, fields: dict[str, Any]) -> None:
        try:
            callback = read(**fields)
        except VoiceIngestError as error:
            self.assertEqual(error.http_status, 400)
            return
        for text in (callback.event, callback.status, *(leg.status for leg in callback.legs)):
            self.assertRegex(text, r"\A[a-z][a-z_-]*\Z")
