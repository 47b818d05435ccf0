"""One outbound call: what is asked for, and everything that may come back."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import (
    BadField,
    InternalError,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamRefused,
    VoiceIngestError,
)
from voiceingest.wire.exotel_api import (
    CallRequest,
    PlacedCall,
    checked_call_id,
    flow_url,
    form,
    normalise_number,
    read_answer,
    word,
)

STREAM = "wss://voice.example.com/voicebot/ws?sample-rate=8000&ticket=t"
CALLBACK = "https://voice.example.com/api/v1/exotel/status?run=r&sig=s"


class NumberTests(SynchronousTestCase):
    def test_what_is_taken(self) -> None:
        for text, e164, national in (
            ("+919876543210", "+919876543210", "09876543210"),
            ("09876543210", "+919876543210", "09876543210"),
            (" +91 (98765) 432-10 ", "+919876543210", "09876543210"),
            ("+91.98765.43210", "+919876543210", "09876543210"),
            ("+14155550100", "+14155550100", "+14155550100"),
            ("+6561234567", "+6561234567", "+6561234567"),
            ("+123456789012345", "+123456789012345", "+123456789012345"),
            ("+911800123456789", "+911800123456789", "+911800123456789"),
        ):
            self.assertEqual(normalise_number(text), e164)
            self.assertEqual(normalise_number(text, "national"), national)
            self.assertEqual(normalise_number(normalise_number(text, "national")), e164)

    def test_what_is_no_telephone_number(self) -> None:
        for text in (
            "", "+", "9876543210", "919876543210", "00919876543210", "+09876543210", "0987654321",
            "098765432100", "+123456", "+1234567890123456", "+91987654321", "+91987654321x",
            "tel:+919876543210", "sip:a@b",
            "+919876543210\n", "+9198765\r\n43210", "+91987654321\u0660", "+91\u200b9876543210",
            "+919876543210,+14155550100", "+919876543210;ext=1", "+9" + " " * 100 + "19876543210", "\ud800",
            "+" + "9" * 100_000, "*99#", "00876543210",
        ):
            with self.assertRaises(BadField, msg=repr(text)) as caught:
                normalise_number(text)
            self.assertNotIn("987", str(caught.exception))


class FormTests(SynchronousTestCase):
    def test_straight_to_the_daemon(self) -> None:
        call = CallRequest("+919876543210", "08012345678", STREAM, status_callback=CALLBACK, custom="order 7")
        self.assertEqual(
            form(call),
            [
                ("From", "+919876543210"),
                ("CallerId", "08012345678"),
                ("StreamUrl", STREAM),
                ("StreamType", "bidirectional"),
                ("StatusCallback", CALLBACK),
                ("StatusCallbackEvents[0]", "terminal"),
                ("StatusCallbackEvents[1]", "answered"),
                ("StatusCallbackContentType", "application/json"),
                ("CustomField", "order 7"),
            ],
        )

    def test_into_a_flow(self) -> None:
        url = flow_url("acme1", "926")
        self.assertEqual(url, "http://my.exotel.com/acme1/exoml/start_voice/926")
        call = CallRequest("+919876543210", "08012345678", STREAM, flow_url=url)
        self.assertEqual(
            form(call), [("From", "+919876543210"), ("CallerId", "08012345678"), ("Url", url)]
        )

    def test_bounds(self) -> None:
        longest = CallRequest("+1", "1", "w" * 599, custom="c" * 128)
        self.assertIn(("CustomField", "c" * 128), form(longest))
        self.assertIn(("StreamUrl", "w" * 599), form(longest))
        self.assertRaises(InternalError, form, CallRequest("+1", "1", "w" * 600))
        for custom in ("c" * 129, "a\r\nb", "a\x00", "\ud800"):
            self.assertRaises(BadField, form, CallRequest("+1", "1", STREAM, custom=custom))

    def test_nobody_is_named_in_its_representation(self) -> None:
        shown = repr(CallRequest("+919876543210", "08012345678", STREAM, "", CALLBACK, "order 7"))
        for secret in ("98765", "08012", "ticket", "sig", "order"):
            self.assertNotIn(secret, shown)


def answered(body: Any, status: int = 200, **headers: str) -> PlacedCall:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(status, headers, raw)


class AnswerTests(SynchronousTestCase):
    def test_placed(self) -> None:
        for body in (
            {"Call": {"Sid": "c0ffee00", "Status": "in-progress", "To": None}},
            {"call": {"sid": "c0ffee00", "status": "In-Progress"}},
            {"CALL": {"SID": "c0ffee00", "STATUS": "in-progress"}, "other": []},
        ):
            self.assertEqual(answered(body), PlacedCall("c0ffee00", "in-progress"))
        self.assertEqual(answered({"Call": {"Sid": "c"}}, 202), PlacedCall("c", "queued"))
        self.assertEqual(answered({"Call": {"Sid": "c", "Status": "+91 98765\r\n"}}).status, "unknown")

    def test_an_answer_that_names_no_call(self) -> None:
        for body in (
            b"", b"<Call/>", b"[]", b"null", b"\xff", b"[" * 10_000, {}, {"Call": None}, {"Call": []},
            {"Call": {"Status": "queued"}}, {"Call": {"Sid": 7}}, {"Call": {"Sid": ""}}, {"Sid": "c"},
            {"Call": {"Sid": "a\r\nb"}}, {"Call": {"Sid": "a" * 129}}, {"Call": {"Sid": "{tenant_id}"}},
        ):
            with self.assertRaises(UpstreamFailed) as caught:
                answered(body)
            self.assertEqual(str(caught.exception), "Exotel's answer names no call")

    def test_refused(self) -> None:
        secret = "number +919876543210 of canary is blocked"
        known = {"RestException": {"Status": 400, "Message": secret, "Code": 34010}}
        lower = {"restexception": {"code": "1010", "message": secret}}
        for status, body, text in (
            (400, known, "(HTTP 400, code 34010)"),
            (403, lower, "(HTTP 403, code 1010): the account may not do this"),
            (401, b"<html>" + secret.encode(), "(HTTP 401): the API key or token is wrong"),
            (402, {"RestException": {"Code": secret}}, "(HTTP 402): the account has no credit"),
            (404, {"RestException": [secret]}, "(HTTP 404): there is no such account"),
            (418, {"RestException": {"Code": True}}, "(HTTP 418)"),
            (400, {"RestException": {"Code": 10**9}}, "(HTTP 400)"),
            (400, {"RestException": {"Code": -1}}, "(HTTP 400)"),
        ):
            with self.assertRaises(UpstreamRefused) as caught:
                answered(body, status)
            self.assertIn(text, str(caught.exception))
            for word_of_theirs in ("canary", "98765"):
                self.assertNotIn(word_of_theirs, str(caught.exception))

    def test_busy(self) -> None:
        for header, seconds in (
            ("7", 7.0), (" 7 ", 7.0), ("0", 1.0), ("86400", 3600.0), ("999999999999", None), ("-1", None),
            ("soon", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("", None), ("1.5", None),
            ("\u0667", None),
        ):
            with self.assertRaises(UpstreamBusy) as caught:
                read_answer(429, {"retry-after": header}, b"anything")
            self.assertEqual(caught.exception.retry_after_s, seconds, header)
        with self.assertRaises(UpstreamBusy):
            answered({}, 429)

    def test_failed(self) -> None:
        placed = {"Call": {"Sid": "c", "Status": "queued"}}
        for status in (100, 301, 302, 500, 502, 503, 599):
            with self.assertRaises(UpstreamFailed) as caught:
                answered(placed, status)
            self.assertEqual(str(caught.exception), f"Exotel has not placed the call (HTTP {status})")

    @settings(max_examples=200, deadline=None, database=None)
    @given(
        st.integers(100, 599),
        st.dictionaries(st.just("retry-after"), st.text(max_size=8)),
        st.binary(max_size=60)
        | st.recursive(
            st.none() | st.text(max_size=5) | st.integers(),
            lambda below: st.dictionaries(st.sampled_from(["Call", "Sid", "RestException", "Code"]), below),
            max_leaves=5,
        ).map(lambda value: json.dumps(value).encode()),
    )
    def test_a_call_or_an_error_of_ours(self, status: int, headers: dict[str, str], body: bytes) -> None:
        try:
            call = read_answer(status, headers, body)
        except VoiceIngestError as error:
            self.assertIn(error.http_status, (502, 503))
        else:
            self.assertEqual(checked_call_id(call.call_id), call.call_id)


class WordTests(SynchronousTestCase):
    def test_words(self) -> None:
        self.assertEqual((word("No-Answer"), word("busy"), word("", "")), ("no-answer", "busy", ""))
        for text in ("", "+91", "a b", "a\n", "x" * 33, "-a", "é"):
            self.assertEqual(word(text), "unknown")

    def test_call_ids(self) -> None:
        for text in ("c0ffee00", "a" * 128, "a.b_c:d@e-f"):
            self.assertEqual(checked_call_id(text), text)
        for text in ("", "a" * 129, "a b", "a\r\nb", "a\n", "{a}", "a/b", "a?b", "a%b", "é", "\x00", "a#b"):
            self.assertRaises(BadField, checked_call_id, text)
