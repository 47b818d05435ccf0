"""The ingest dialect: every message, every malformed one, and nothing but the named errors."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from voiceingest.audio import SAMPLE_RATES, AudioFormat
from voiceingest.errors import (
    BadField,
    BadJson,
    FrameTooBig,
    OddFrame,
    Replaced,
    UnknownEvent,
    UnsupportedAudio,
    VoiceIngestError,
    every_error,
)
from voiceingest.limits import (
    CONTROL_MAX_BYTES,
    IDENTIFIER_MAX_CHARS,
    RESUME_TOKEN_MAX_BYTES,
    SEQ_MAX_COUNT,
    TOKEN_MAX_BYTES,
)
from voiceingest.wire.ingest import Auth, Start, Stop, decode, encode, encode_ack, encode_error

DOCUMENTED = (BadJson, BadField, UnknownEvent, UnsupportedAudio, FrameTooBig)
START: dict[str, Any] = {
    "event": "start",
    "interaction_id": "call-1",
    "tenant_id": "acme",
    "sample_rate": 24000,
    "encoding": "pcm16",
}
ABSENT = object()


def said(fields: Any) -> bytes:
    """The bytes of a message."""
    return json.dumps(fields).encode()


def start(**changes: Any) -> bytes:
    """A ``start`` with some fields changed, or taken out where the value is ``ABSENT``."""
    return said({name: value for name, value in {**START, **changes}.items() if value is not ABSENT})


class Events(SynchronousTestCase):
    """What a caller may say."""

    def test_start(self) -> None:
        self.assertEqual(decode(said(START)), Start("acme", "call-1", AudioFormat(24000, "pcm16")))

    def test_start_with_every_rate(self) -> None:
        for rate in SAMPLE_RATES:
            message = decode(start(sample_rate=rate))
            assert isinstance(message, Start)
            self.assertEqual(message.audio, AudioFormat(rate))

    def test_start_without_its_format_is_24_khz_pcm16(self) -> None:
        message = decode(start(sample_rate=ABSENT, encoding=ABSENT))
        self.assertEqual(message, Start("acme", "call-1", AudioFormat(24000, "pcm16")))

    def test_fields_of_tomorrow_are_ignored(self) -> None:
        self.assertEqual(decode(start(tomorrow="x", nested={"a": [1]})), decode(said(START)))

    def test_a_client_that_comes_back(self) -> None:
        said_at_once = start(resume_token="a.b", acked=20, from_seq=15, resumable=True)
        audio = AudioFormat(24000, "pcm16")
        self.assertEqual(decode(said_at_once), Start("acme", "call-1", audio, "a.b", 20, 15, True))
        refused = {
            "resume_token": (None, "", 7, "x" * (RESUME_TOKEN_MAX_BYTES + 1)),
            "acked": (None, -1, 1.0, "1", True, SEQ_MAX_COUNT + 1),
            "from_seq": (None, 0, 1.5, "1", True, SEQ_MAX_COUNT + 1),
            "resumable": (None, 1, "true"),
        }
        for name, values in refused.items():
            for value in values:
                self.assertRaises(BadField, decode, start(**{name: value}))

    def test_stop(self) -> None:
        self.assertEqual(decode(b'{"event":"stop"}'), Stop())
        self.assertEqual(decode(b' \n{ "event" : "stop" , "why" : null }\t'), Stop())

    def test_auth(self) -> None:
        self.assertEqual(decode(b'{"event":"auth","token":"a.b.c"}'), Auth("a.b.c"))
        self.assertEqual(
            decode(said({"event": "auth", "token": "x" * TOKEN_MAX_BYTES})), Auth("x" * TOKEN_MAX_BYTES)
        )

    def test_messages_are_values(self) -> None:
        message = decode(b'{"event":"auth","token":"x"}')
        self.assertRaises(FrozenInstanceError, setattr, message, "token", "y")

    def test_of_a_key_said_twice_the_last_one_counts(self) -> None:
        self.assertEqual(decode(b'{"event":"start","event":"stop"}'), Stop())

    def test_identifiers_of_all_languages(self) -> None:
        for name in (
            "a",
            "1",
            "Ünïcode",
            "通話",
            "a b",
            "a/b:c%20",
            "📞",
            "x" * IDENTIFIER_MAX_CHARS,
            "'\"\\",
        ):
            message = decode(start(interaction_id=name, tenant_id=name))
            self.assertEqual(message, Start(name, name, AudioFormat()))

    def test_escapes_are_read(self) -> None:
        message = decode(said(START).replace(b"acme", b"\\u0061cme"))
        self.assertEqual(message, decode(said(START)))


class Refusals(SynchronousTestCase):
    """What is not understood, and the name of why."""

    def assert_refused(self, payload: bytes, error: type[VoiceIngestError]) -> None:
        """``payload`` is refused with exactly ``error``, and the text repeats none of it."""
        refusal = self.assertRaises(error, decode, payload)
        self.assertIs(type(refusal), error, payload[:80])
        self.assertIsNone(refusal.__cause__)

    def test_what_is_no_json_object(self) -> None:
        for payload in (
            b"",
            b" ",
            b"x",
            b"{",
            b"{}}",
            b'{"event":"stop"} {"event":"stop"}',
            b"[]",
            b'["start"]',
            b'[{"event":"stop"}]',
            b'"start"',
            b"1",
            b"null",
            b"true",
            b"{'event':'stop'}",
            b'{"event":"stop",}',
            b'{event:"stop"}',
            b'{"event":"st\x00op"}',
            b'{"event":"st\nop"}',
            b'{"event":"stop"}\x00',
            b"\xff\xfe",
            b'{"event":"\xff"}',
            b'{"event":"\xed\xa0\x80"}',
        ):
            self.assert_refused(payload, BadJson)

    def test_numbers_that_are_no_json(self) -> None:
        for number in (
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"9" * 5000,
            b"-" + b"9" * 5000,
            b"0x10",
            b"01",
            b"1.",
        ):
            self.assert_refused(b'{"event":"stop","x":' + number + b"}", BadJson)

    def test_nesting_without_end(self) -> None:
        for opened in (b"[", b'{"a":'):
            depth = (CONTROL_MAX_BYTES - 20) // len(opened)
            self.assert_refused(b'{"event":"stop","x":' + opened * depth, BadJson)
            self.assert_refused(opened * 100_000, FrameTooBig)

    def test_json_in_another_encoding_than_utf_8(self) -> None:
        """RFC 8259 section 8.1; these bytes of UTF-16 are valid UTF-8 to a WebSocket."""
        for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            self.assert_refused('{"event":"stop"}'.encode(encoding), BadJson)

    def test_too_long(self) -> None:
        stop = b'{"event":"stop"}'
        self.assertEqual(decode(stop.ljust(CONTROL_MAX_BYTES)), Stop())
        self.assert_refused(stop.ljust(CONTROL_MAX_BYTES + 1), FrameTooBig)
        self.assert_refused(b"{" * 1_000_000, FrameTooBig)

    def test_the_event(self) -> None:
        self.assert_refused(b"{}", BadField)
        no_text: list[Any] = [None, 1, ["start"], {}, True]
        for value in no_text:
            self.assert_refused(said({"event": value}), BadField)
        for event in (
            "",
            "Start",
            "START",
            "start ",
            " start",
            "started",
            "ack",
            "ping",
            "st\u0000op",
            "\ud800",
        ):
            self.assert_refused(said({"event": event}), UnknownEvent)

    def test_identifiers(self) -> None:
        wrong: list[Any] = [ABSENT, None, 1, 1.5, True, [], ["a"], {}, {"a": 1}, ""]
        wrong += ["x" * (IDENTIFIER_MAX_CHARS + 1), "x" * 10_000]
        wrong += ["{tenant_id}", "a{", "}a", "{}"]
        wrong += [
            "a\nb",
            "a\rb",
            "a\x00",
            "\x1b[31m",
            "a\tb",
            "\x7f",
            "\x85",
            "\u2028",
            "\u202e",
            "\ud800",
            "\ufeff",
        ]
        for name in ("tenant_id", "interaction_id"):
            for value in wrong:
                self.assert_refused(start(**{name: value}), BadField)

    def test_the_audio(self) -> None:
        for changes, error in (
            ({"sample_rate": None}, BadField),
            ({"sample_rate": "24000"}, BadField),
            ({"sample_rate": 24000.0}, BadField),
            ({"sample_rate": True}, BadField),
            ({"sample_rate": [24000]}, BadField),
            ({"encoding": None}, BadField),
            ({"encoding": 16}, BadField),
            ({"encoding": ["pcm16"]}, BadField),
            ({"encoding": {}}, BadField),
            ({"sample_rate": 0}, UnsupportedAudio),
            ({"sample_rate": -24000}, UnsupportedAudio),
            ({"sample_rate": 22050}, UnsupportedAudio),
            ({"sample_rate": 10**100}, UnsupportedAudio),
            ({"encoding": ""}, UnsupportedAudio),
            ({"encoding": "PCM16"}, UnsupportedAudio),
            ({"encoding": "opus"}, UnsupportedAudio),
        ):
            self.assert_refused(start(**changes), error)
        self.assert_refused(said(START).replace(b"24000", b"1e400"), BadField)

    def test_the_token(self) -> None:
        wrong: list[Any] = [None, 1, ["x"], {}, True, "", "x" * (TOKEN_MAX_BYTES + 1)]
        for token in wrong:
            self.assert_refused(said({"event": "auth", "token": token}), BadField)
        self.assert_refused(said({"event": "auth"}), BadField)

    def test_the_text_of_an_error_repeats_nothing(self) -> None:
        for payload in (
            b"canary",
            b'{"event":"canary"}',
            start(tenant_id="canary{"),
            start(encoding="canary"),
            said({"event": "auth", "token": ["canary"]}),
        ):
            error = self.assertRaises(VoiceIngestError, decode, payload)
            self.assertNotIn("canary", error.message + repr(error))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
EVENTS = st.sampled_from(["start", "stop", "auth", "ack", ""]) | JSON


class AnyBytes(SynchronousTestCase):
    """The only exceptions that may escape are the documented ones."""

    def decoded(self, payload: bytes) -> None:
        """Decode; what comes out is a message or a documented error."""
        try:
            message = decode(payload)
        except DOCUMENTED:
            return
        self.assertIsInstance(message, Start | Stop | Auth)
        if isinstance(message, Start):
            for name in (message.tenant_id, message.interaction_id):
                self.assertTrue(name.isprintable() and 1 <= len(name) <= IDENTIFIER_MAX_CHARS)
                name.encode()
            self.assertIn(message.audio.sample_rate, SAMPLE_RATES)

    @settings(deadline=None, max_examples=300)
    @given(st.binary(max_size=200))
    @example(b"[" * 100_000)
    @example(b'{"event":' + b"9" * 5000 + b"}")
    @example(b'{"event":NaN}')
    def test_bytes(self, payload: bytes) -> None:
        self.decoded(payload)

    @settings(deadline=None, max_examples=200)
    @given(st.text(max_size=100))
    def test_text(self, text: str) -> None:
        self.decoded(text.encode("utf-8", "surrogatepass"))

    @settings(deadline=None, max_examples=300)
    @given(st.dictionaries(st.sampled_from([*START, "token"]), JSON, max_size=6), EVENTS)
    def test_json_of_the_right_shape_with_anything_in_it(self, fields: dict[str, Any], event: Any) -> None:
        self.decoded(said({**fields, "event": event}))

    @settings(deadline=None, max_examples=200)
    @given(st.binary(min_size=1, max_size=3), st.integers(0, 200))
    def test_a_start_with_a_few_bytes_changed(self, noise: bytes, at: int) -> None:
        payload = said(START)
        at %= len(payload)
        self.decoded(payload[:at] + noise + payload[at + len(noise) :])


class Writing(SynchronousTestCase):
    """What the daemon says."""

    def test_the_event_comes_first_then_the_fields_as_given_without_blanks(self) -> None:
        self.assertEqual(encode("started", b=1, a="x"), b'{"event":"started","b":1,"a":"x"}')
        self.assertEqual(encode("stopped"), b'{"event":"stopped"}')

    def test_a_gap_has_a_field_that_is_a_word_of_python(self) -> None:
        self.assertEqual(encode("gap", **{"from": 3, "to": 5}), b'{"event":"gap","from":3,"to":5}')

    def test_an_ack_is_the_same_the_quick_way(self) -> None:
        for seq in (0, 1, 10, 2**31, 2**63, 10**20):
            self.assertEqual(encode_ack(seq), encode("ack", seq=seq))

    def test_an_error_has_its_code_and_its_text(self) -> None:
        self.assertEqual(
            encode_error(OddFrame()),
            b'{"event":"error","code":"odd_frame",'
            b'"message":"The frame is not a whole number of 16-bit samples"}',
        )
        self.assertEqual(
            json.loads(encode_error(Replaced("own words"))),
            {"event": "error", "code": "replaced", "message": "own words"},
        )

    def test_every_error_can_be_said(self) -> None:
        for error in every_error():
            made = error([]) if error.code == "bad_settings" else error()  # type: ignore[arg-type]
            self.assertEqual(json.loads(encode_error(made))["code"], error.code)

    @settings(deadline=None, max_examples=150)
    @given(
        st.text(max_size=10),
        st.dictionaries(
            st.text(max_size=10).filter(lambda name: name != "event"),
            st.none() | st.booleans() | st.integers() | st.text(max_size=30),
            max_size=5,
        ),
    )
    def test_what_is_written_is_one_line_of_ascii_that_reads_the_same(
        self, event: str, fields: dict[str, Any]
    ) -> None:
        written = encode(event, **fields)
        self.assertTrue(written.isascii())
        self.assertFalse([byte for byte in written if byte < 0x20])
        self.assertEqual(json.loads(written), {"event": event, **fields})
        self.assertEqual(list(json.loads(written)), ["event", *fields])

    @settings(deadline=None, max_examples=100)
    @given(
        st.sampled_from(SAMPLE_RATES), st.text(min_size=1, max_size=128), st.text(min_size=1, max_size=128)
    )
    def test_a_start_that_is_written_is_read(self, rate: int, tenant: str, interaction: str) -> None:
        written = encode(
            "start", tenant_id=tenant, interaction_id=interaction, sample_rate=rate, encoding="pcm16"
        )
        names = tenant + interaction
        if names.isprintable() and not set("{}") & set(names):
            self.assertEqual(decode(written), Start(tenant, interaction, AudioFormat(rate)))
        else:
            self.assertRaises(BadField, decode, written)
