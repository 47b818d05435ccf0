"""The dialect of Exotel: every spelling of its pages, and nothing but the named errors."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pybase64 import b64decode, b64encode

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadAudio, BadField, BadJson, FrameTooBig, VoiceIngestError
from voiceingest.limits import (
    CALL_PARAMETER_MAX_CHARS,
    CALL_PARAMETERS_MAX_COUNT,
    EXOTEL_MESSAGE_MAX_BYTES,
    IDENTIFIER_MAX_CHARS,
)
from voiceingest.wire.exotel import (
    EXOTEL_RATES,
    Clear,
    Connected,
    Dtmf,
    Mark,
    Media,
    Message,
    Start,
    Stop,
    Unknown,
    decode,
    encode_clear,
    encode_mark,
    encode_media,
    parts,
    whole_number,
)

DOCUMENTED = (BadJson, BadField, BadAudio, FrameTooBig)

# The messages of protocols.md section 1.1, as they are there.
START = (
    b'{"event":"start","sequence_number":"1","stream_sid":"sid-A","start":{"stream_sid":"sid-A",'
    b'"call_sid":"call-A","account_sid":"acme1","from":"09876543210","to":"08012345678",'
    b'"custom_parameters":{"tenant":"t1"},"media_format":{"encoding":"audio/x-raw",'
    b'"sample_rate":"8000","bit_rate":"16"}}}'
)
MEDIA = (
    b'{"event":"media","sequence_number":3,"stream_sid":"sid-A","media":{"chunk":2,"timestamp":"200",'
    b'"payload":"AAAA"}}'
)
DTMF = b'{"event":"dtmf","sequence_number":"7","stream_sid":"sid-A","dtmf":{"digit":"5","duration":"200"}}'
MARK = b'{"event":"mark","sequence_number":15,"stream_sid":"sid-A","mark":{"name":"utt-3"}}'
STOP = (
    b'{"event":"stop","sequence_number":"20","stream_sid":"sid-A","stop":{"call_sid":"call-A",'
    b'"account_sid":"acme1","reason":"callended"}}'
)


def said(fields: Any) -> bytes:
    """The bytes of a message."""
    return json.dumps(fields).encode()


def start(fields: dict[str, Any], **envelope: Any) -> Start:
    """What a ``start`` with these fields is read as."""
    message = decode(said({"event": "start", "start": fields, **envelope}))
    assert isinstance(message, Start)
    return message


def media(**fields: Any) -> Media:
    """What a ``media`` is read as."""
    message = decode(said({"event": "media", "media": fields}))
    assert isinstance(message, Media)
    return message


class Documented(SynchronousTestCase):
    """The examples of the reference."""

    def test_each(self) -> None:
        table: list[tuple[bytes, Message]] = [
            (b'{"event":"connected"}', Connected()),
            (
                START,
                Start(
                    "sid-A",
                    "call-A",
                    "acme1",
                    "09876543210",
                    "08012345678",
                    {"tenant": "t1"},
                    "pcm16",
                    8000,
                    1,
                ),
            ),
            (MEDIA, Media(bytes(3), 3)),
            (DTMF, Dtmf("5", 200, 7)),
            (MARK, Mark("utt-3", 15)),
            (STOP, Stop("callended", 20)),
            (b'{"event":"clear","stream_sid":"sid-A","sequence_number":"4"}', Clear(4)),
            (b'{"event":"silence","sequence_number":"5"}', Unknown(5)),
        ]
        for payload, message in table:
            self.assertEqual(decode(payload), message)

    def test_messages_are_values(self) -> None:
        message = start({"custom_parameters": {"a": "b"}})
        self.assertRaises(FrozenInstanceError, setattr, message, "call_id", "x")
        self.assertRaises(TypeError, _put, message)

    def test_the_other_events_need_nothing(self) -> None:
        self.assertEqual(decode(b'{"event":"stop"}'), Stop("", None))
        self.assertEqual(decode(b'{"event":"stop","stop":7}'), Stop("", None))
        self.assertEqual(decode(b'{"event":"Start"}'), Unknown(None))
        empty = Start("", "", "", "", "", {}, "pcm16", 0, None)
        for payload in (
            b'{"event":"start"}',
            b'{"event":"start","start":[]}',
            b'{"event":"start","start":{}}',
        ):
            self.assertEqual(decode(payload), empty)


def _put(message: Start) -> None:
    message.parameters["x"] = "y"  # type: ignore[index]


class Spellings(SynchronousTestCase):
    """What its pages, its samples and its callers disagree on."""

    def test_where_an_id_stands(self) -> None:
        snake = {"stream_sid": "s1", "call_sid": "c1"}
        camel = {"streamSid": "s2", "callSid": "c2"}
        table: list[tuple[dict[str, Any], dict[str, Any], tuple[str, str]]] = [
            (snake, {}, ("s1", "c1")),
            (camel, {}, ("s2", "c2")),
            ({**camel, **snake}, {}, ("s1", "c1")),
            ({}, snake, ("s1", "c1")),
            ({}, camel, ("s2", "c2")),
            (camel, snake, ("s2", "c2")),
            ({"stream_sid": None, "call_sid": ""}, camel, ("s2", "c2")),
            ({"streamSid": "s2"}, {"call_sid": "c1"}, ("s2", "c1")),
            ({}, {}, ("", "")),
        ]
        for fields, envelope, expected in table:
            message = start(fields, **envelope)
            self.assertEqual((message.stream_sid, message.call_id), expected)

    def test_sequence_numbers(self) -> None:
        for name in ("sequence_number", "sequenceNumber"):
            for value in (7, "7", 7.0, " 7 "):
                self.assertEqual(decode(said({"event": "clear", name: value})), Clear(7))

    def test_numbers(self) -> None:
        for value, number in ((0, 0), ("0", 0), ("0012", 12), (2**53, 2**53), (str(2**53), 2**53), (1.5, 1)):
            self.assertEqual(whole_number(value), number)
        wrong = [
            None,
            True,
            False,
            "",
            " ",
            "-1",
            -1,
            "+1",
            "1.5",
            "1_0",
            "0x1",
            "1e3",
            "٣",
            "²",
            "x",
            [],
            {},
        ]
        wrong += ["9" * 17, "9" * 5000, 2**53 + 1, 10**100, float("inf"), float("nan"), "NaN"]
        for value in wrong:
            self.assertIsNone(whole_number(value), value)

    def test_numbers_nobody_can_use_cost_no_message(self) -> None:
        self.assertEqual(media(payload="AAAA", chunk=True, timestamp=[1]), Media(bytes(3), None))
        self.assertEqual(decode(b'{"event":"clear","sequence_number":1e400}'), Clear(None))
        self.assertEqual(decode(b'{"event":"dtmf","dtmf":{"digit":"1"}}'), Dtmf("1", None, None))

    def test_the_encoding(self) -> None:
        for said_as in ("audio/x-mulaw", "MULAW", "audio/PCMU;rate=8000", "g711_ulaw", "mu-law", "ulaw"):
            self.assertEqual(start({"media_format": {"encoding": said_as}}).encoding, "mulaw", said_as)
        for other in (
            "raw",
            "audio/x-raw",
            "base64",
            "pcm16",
            "",
            None,
            7,
            ["mulaw"],
            {"mulaw": 1},
            "x" * 999,
        ):
            self.assertEqual(start({"media_format": {"encoding": other}}).encoding, "pcm16", other)

    def test_the_rate(self) -> None:
        for name in ("media_format", "mediaFormat"):
            for rate in EXOTEL_RATES:
                for key in ("sample_rate", "sampleRate"):
                    self.assertEqual(start({name: {key: rate}}).sample_rate, rate)
                    self.assertEqual(start({name: {key: str(rate)}}).sample_rate, rate)
        for other in (0, -8000, 44100, "8 kHz", "", None, True, [8000], 8000.5 * 3, 10**30, "9" * 400):
            self.assertEqual(start({"media_format": {"sample_rate": other}}).sample_rate, 0, other)
        for odd in (None, 8000, "8000", [], [{"sample_rate": 8000}]):
            self.assertEqual(start({"media_format": odd}).sample_rate, 0, odd)

    def test_a_digit_may_be_a_number(self) -> None:
        self.assertEqual(decode(b'{"event":"dtmf","dtmf":{"digit":0}}'), Dtmf("0", None, None))

    def test_what_is_only_passed_on_is_passed_on_if_it_is_text(self) -> None:
        message = start({"from": "+919876543210", "to": 8012345678, "account_sid": "a\nb"})
        self.assertEqual((message.caller, message.callee, message.account_sid), ("+919876543210", "", ""))


class Parameters(SynchronousTestCase):
    """What whoever placed the call has said of it."""

    def test_text_only(self) -> None:
        said_with = {"a": "b", "n": 1, "o": {}, "l": [], "none": None, "t": True, "": "", "ü": "通話"}
        for name in ("custom_parameters", "customParameters"):
            self.assertEqual(start({name: said_with}).parameters, {"a": "b", "": "", "ü": "通話"})

    def test_what_is_no_object(self) -> None:
        for odd in (None, "", "a=b", 1, [], [["a", "b"]]):
            self.assertEqual(start({"custom_parameters": odd}).parameters, {})

    def test_bounds(self) -> None:
        many = {str(n): "x" for n in range(CALL_PARAMETERS_MAX_COUNT + 1)}
        kept = start({"custom_parameters": many}).parameters
        self.assertEqual(list(kept), [str(n) for n in range(CALL_PARAMETERS_MAX_COUNT)])
        longest = "x" * CALL_PARAMETER_MAX_CHARS
        sizes = {"fits": longest, longest: "fits", "too long": longest + "x", longest + "x": "too long"}
        self.assertEqual(start({"custom_parameters": sizes}).parameters, {"fits": longest, longest: "fits"})
        self.assertEqual(start({"custom_parameters": {"a": "\x1b[0m", "\ud800": "b"}}).parameters, {})


class Refusals(SynchronousTestCase):
    """What is not understood, and the name of why."""

    def assert_refused(self, payload: bytes, error: type[VoiceIngestError]) -> None:
        """``payload`` is refused with exactly ``error``, and the text repeats none of it."""
        refusal = self.assertRaises(error, decode, payload)
        self.assertIs(type(refusal), error, payload[:80])
        self.assertIsNone(refusal.__cause__)
        self.assertNotIn("canary", refusal.message)

    def test_what_is_no_json_object(self) -> None:
        for payload in (
            b"",
            b"canary",
            b"[]",
            b'"start"',
            b"null",
            b'{"event":"stop"',
            b"\xff\xfe",
            MEDIA + b"x",
        ):
            self.assert_refused(payload, BadJson)
        for number in (b"NaN", b"Infinity", b"9" * 5000):
            self.assert_refused(b'{"event":"clear","sequence_number":' + number + b"}", BadJson)
        for opened in (b"[", b'{"a":'):
            depth = (EXOTEL_MESSAGE_MAX_BYTES - 100) // len(opened)
            self.assert_refused(b'{"event":"start","start":' + opened * depth, BadJson)

    def test_nesting_that_json_still_reads(self) -> None:
        for depth in range(50, 3000, 50):
            nested = b"[" * depth + b"]" * depth
            for name in (b"start", b"mark", b"sequence_number"):
                inside = b'{"media_format":{"encoding":%b},"name":%b}' % (nested, nested)
                try:
                    message = decode(b'{"event":"start","%b":%b}' % (name, inside))
                except BadJson:
                    continue
                self.assertIsInstance(message, Start)

    def test_the_event(self) -> None:
        for payload in (b"{}", b'{"event":null}', b'{"event":["media"]}', b'{"event":{}}', b'{"event":1}'):
            self.assert_refused(payload, BadField)

    def test_the_ids(self) -> None:
        wrong: list[Any] = [
            1,
            1.5,
            True,
            [],
            {},
            "x" * (IDENTIFIER_MAX_CHARS + 1),
            "canary{",
            "}",
            "a\nb",
            "\ud800",
        ]
        for name in ("stream_sid", "streamSid", "call_sid", "callSid"):
            for value in wrong:
                for fields in ({"start": {name: value}}, {name: value}):
                    start = decode(said({"event": "start", **fields}))
                    assert isinstance(start, Start)
                    self.assertEqual((start.stream_sid, start.call_id), ("", ""), value)

    def test_the_audio(self) -> None:
        for payload in (
            "canary!",
            "A",
            "AA",
            "AAA",
            "A===",
            "AAAA=",
            "AAAA\n",
            " AAAA",
            "AA AA",
            "-_-_",
            "é",
            "\ud800",
        ):
            self.assert_refused(said({"event": "media", "media": {"payload": payload}}), BadAudio)
        for value in (None, 1, True, ["AAAA"], {}):
            self.assert_refused(said({"event": "media", "media": {"payload": value}}), BadField)
        for payload in (
            b'{"event":"media"}',
            b'{"event":"media","media":"AAAA"}',
            b'{"event":"media","media":[]}',
        ):
            self.assert_refused(payload, BadField)

    def test_no_audio_is_audio_of_no_length(self) -> None:
        self.assertEqual(media(payload=""), Media(b"", None))

    def test_digits(self) -> None:
        for digit in "0123456789*#ABCD":
            self.assertEqual(
                decode(said({"event": "dtmf", "dtmf": {"digit": digit}})), Dtmf(digit, None, None)
            )
        for wrong in (None, "", "a", "E", "10", "٣", 10, -1, 1.0, True, False, ["1"], {}):
            self.assert_refused(said({"event": "dtmf", "dtmf": {"digit": wrong}}), BadField)
        self.assert_refused(b'{"event":"dtmf"}', BadField)

    def test_marks(self) -> None:
        for wrong in (None, "", 1, ["m1"], "x" * (IDENTIFIER_MAX_CHARS + 1)):
            self.assert_refused(said({"event": "mark", "mark": {"name": wrong}}), BadField)
        self.assert_refused(b'{"event":"mark","mark":"m1"}', BadField)

    def test_the_size(self) -> None:
        self.assertEqual(decode(STOP.ljust(EXOTEL_MESSAGE_MAX_BYTES)), decode(STOP))
        self.assert_refused(STOP.ljust(EXOTEL_MESSAGE_MAX_BYTES + 1), FrameTooBig)
        for size in (100_000, 100 * 1024):
            self.assertEqual(len(media(payload=b64encode(bytes(size)).decode()).payload), size)


class Writing(SynchronousTestCase):
    """What the daemon says: the documented spelling, numbers as text."""

    def test_the_documented_messages(self) -> None:
        begin = parts("sid-A")
        self.assertEqual(
            json.loads(encode_media(begin, b"\0\1" * 160, 3, 2, 200)),
            {
                "event": "media",
                "stream_sid": "sid-A",
                "sequence_number": "3",
                "media": {"chunk": "2", "timestamp": "200", "payload": b64encode(b"\0\1" * 160).decode()},
            },
        )
        self.assertEqual(
            encode_mark(begin, "m1", 4),
            b'{"event":"mark","stream_sid":"sid-A","sequence_number":"4","mark":{"name":"m1"}}',
        )
        self.assertEqual(
            encode_clear(begin, 5), b'{"event":"clear","stream_sid":"sid-A","sequence_number":"5"}'
        )

    @settings(deadline=None, max_examples=100)
    @given(
        st.text(max_size=20), st.binary(max_size=50), st.text(min_size=1, max_size=10), st.integers(0, 2**40)
    )
    @example("%d%b%%", b"", "%s", 0)
    @example('"\\', b"\xff", '"', 1)
    def test_any_stream_can_be_spoken_to(self, sid: str, audio: bytes, name: str, number: int) -> None:
        begin = parts(sid)
        sent = json.loads(encode_media(begin, audio, number, number, number))
        self.assertEqual((sent["stream_sid"], b64decode(sent["media"]["payload"])), (sid, audio))
        self.assertEqual({sent["sequence_number"], *list(sent["media"].values())[:2]}, {str(number)})
        mark, clear = json.loads(encode_mark(begin, name, number)), json.loads(encode_clear(begin, number))
        self.assertEqual((mark["stream_sid"], mark["mark"]["name"], clear["stream_sid"]), (sid, name, sid))

    def test_what_is_written_can_be_read(self) -> None:
        begin = parts("sid-A")
        self.assertEqual(decode(encode_media(begin, b"1234", 1, 2, 3)), Media(b"1234", 1))
        self.assertEqual(decode(encode_mark(begin, "m1", 2)), Mark("m1", 2))
        self.assertEqual(decode(encode_clear(begin, 3)), Clear(3))


IDS = ["stream_sid", "streamSid", "call_sid", "callSid", "account_sid", "from", "to", "name", "reason"]
AUDIO = ["media_format", "mediaFormat", "encoding", "sample_rate", "payload", "chunk", "timestamp"]
NAMES = st.sampled_from([*IDS, *AUDIO, "digit", "duration", "sequence_number", "custom_parameters", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
INSIDE = st.dictionaries(NAMES, JSON, max_size=5)
EVENTS = st.sampled_from(["connected", "start", "media", "dtmf", "mark", "stop", "clear", ""]) | JSON


class AnyBytes(SynchronousTestCase):
    """The only exceptions that may escape are the documented ones."""

    def decoded(self, payload: bytes) -> None:
        """Decode; what comes out is a message or a documented error."""
        try:
            message = decode(payload)
        except DOCUMENTED:
            return
        self.assertIsInstance(message, Message)
        hash(repr(message))
        if isinstance(message, Start):
            for name in (
                message.stream_sid,
                message.call_id,
                message.account_sid,
                message.caller,
                message.callee,
            ):
                self.assertTrue(len(name) <= IDENTIFIER_MAX_CHARS and (name.isprintable()))
            self.assertIn(message.sample_rate, (0, *EXOTEL_RATES))
            self.assertIn(message.encoding, ("pcm16", "mulaw"))
            json.dumps(dict(message.parameters)).encode()

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=200))
    @example(b"[" * 100_000)
    @example(b'{"event":' + b"9" * 5000 + b"}")
    def test_bytes(self, payload: bytes) -> None:
        self.decoded(payload)

    @settings(deadline=None, max_examples=200)
    @given(EVENTS, JSON, INSIDE | JSON)
    def test_json_of_the_right_shape_with_anything_in_it(self, event: Any, outside: Any, inside: Any) -> None:
        self.decoded(
            said({"sequence_number": outside, "call_sid": outside, "event": event, str(event): inside})
        )

    @settings(deadline=None, max_examples=200)
    @given(
        st.sampled_from([START, MEDIA, DTMF, MARK, STOP]),
        st.binary(min_size=1, max_size=3),
        st.integers(0, 400),
    )
    def test_messages_with_a_few_bytes_changed(self, payload: bytes, noise: bytes, at: int) -> None:
        at %= len(payload)
        self.decoded(payload[:at] + noise + payload[at + len(noise) :])
