"""The JSON on the bus."""

from __future__ import annotations

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.audio import SAMPLE_RATES
from voiceingest.errors import PeerError
from voiceingest.wire.envelope import (
    FRAME_END,
    FrameMessage,
    channel_name,
    decode_event,
    decode_frame,
    encode_event,
    encode_frame,
    encode_halves,
    frame_parts,
)

# Anything a JSON string may hold: quotes, control characters, lone surrogates, astral planes.
HOSTILE = st.text(st.characters(codec=None), max_size=40)
WORST = ['"', '","seq":9,"x":"', "\\", "\r\n", "\x00", "é", "\U0001f600", "\ud800"]
IDENTIFIERS = HOSTILE | st.sampled_from(WORST)
FEW = settings(max_examples=150, deadline=None)


class FrameTests(SynchronousTestCase):
    def test_exact_bytes(self) -> None:
        """The wire format, letter for letter."""
        parts = frame_parts("acme", "call-1", 24000, "pcm16")
        self.assertEqual(
            encode_frame(parts, 7, 1790000000123, b"\x00\x01\xff\xfe"),
            b'{"tenant_id":"acme","interaction_id":"call-1","seq":7,"timestamp_ms":1790000000123,'
            b'"sample_rate":24000,"encoding":"pcm16","audio":"AAH//g=="}',
        )

    @FEW
    @given(IDENTIFIERS, IDENTIFIERS, st.integers(1, 2**53), st.integers(0, 2**53), st.binary(max_size=500))
    def test_any_json_reader_finds_exactly_the_fields_in_order(
        self, tenant_id: str, interaction_id: str, seq: int, timestamp_ms: int, audio: bytes
    ) -> None:
        parts = frame_parts(tenant_id, interaction_id, 8000, "pcm16")
        payload = encode_frame(parts, seq, timestamp_ms, audio)
        self.assertEqual(b"".join(encode_halves(parts, seq, timestamp_ms, audio)) + FRAME_END, payload)
        fields = json.loads(payload)
        self.assertEqual(
            list(fields),
            ["tenant_id", "interaction_id", "seq", "timestamp_ms", "sample_rate", "encoding", "audio"],
        )
        self.assertEqual(fields["tenant_id"], tenant_id)
        self.assertEqual(fields["interaction_id"], interaction_id)
        self.assertEqual((fields["seq"], fields["timestamp_ms"]), (seq, timestamp_ms))
        self.assertTrue(payload.isascii())
        self.assertNotIn(b"\n", payload)

    @FEW
    @given(
        IDENTIFIERS,
        IDENTIFIERS,
        st.integers(1, 2**53),
        st.integers(0, 2**53),
        st.sampled_from(SAMPLE_RATES),
        st.binary(max_size=3000),
    )
    def test_round_trip(
        self, tenant_id: str, interaction_id: str, seq: int, timestamp_ms: int, rate: int, audio: bytes
    ) -> None:
        parts = frame_parts(tenant_id, interaction_id, rate, "pcm16")
        payload = encode_frame(parts, seq, timestamp_ms, audio)
        self.assertEqual(
            decode_frame(payload),
            FrameMessage(tenant_id, interaction_id, seq, timestamp_ms, rate, "pcm16", audio),
        )

    @FEW
    @given(st.binary(max_size=200))
    @example(b"[" * 100_000)
    @example(b"1" * 5000)
    @example(b"\xff\xfe{}")
    def test_only_peer_errors_come_out_of_any_bytes(self, payload: bytes) -> None:
        for decode in (decode_frame, decode_event):
            with self.assertRaises(PeerError):
                decode(payload)

    def test_wrong_fields_are_refused(self) -> None:
        good = json.loads(encode_frame(frame_parts("a", "b", 8000, "pcm16"), 1, 2, b"\0\0"))
        self.assertEqual(decode_frame(json.dumps(good).encode()).audio, b"\0\0")
        wrong = [
            {"seq": "1"},
            {"seq": True},
            {"seq": 1.5},
            {"tenant_id": None},
            {"audio": "AA="},
            {"audio": "A*=="},
            {"audio": "ÄÄÄÄ"},
            {"audio": 5},
        ]
        for fields in wrong:
            with self.assertRaises(PeerError) as caught:
                decode_frame(json.dumps(good | fields).encode())
            self.assertEqual(caught.exception.code, "bad_field", fields)


class EventTests(SynchronousTestCase):
    def test_exact_bytes(self) -> None:
        self.assertEqual(
            encode_event("gap", "acme", "call-1", 17, {"from": 3, "to": 5, "reason": "overflow"}),
            b'{"event":"gap","tenant_id":"acme","interaction_id":"call-1","timestamp_ms":17,'
            b'"from":3,"to":5,"reason":"overflow"}',
        )

    @FEW
    @given(IDENTIFIERS, IDENTIFIERS, st.dictionaries(HOSTILE, st.integers() | HOSTILE, max_size=5))
    def test_fields_follow_and_never_replace_the_common_ones(
        self, tenant_id: str, interaction_id: str, fields: dict[str, object]
    ) -> None:
        fields = {**fields, "tenant_id": "somebody else"}
        decoded = decode_event(encode_event("started", tenant_id, interaction_id, 17, fields))
        self.assertEqual(list(decoded)[:4], ["event", "tenant_id", "interaction_id", "timestamp_ms"])
        self.assertEqual(decoded["tenant_id"], tenant_id)
        self.assertEqual({**fields, **decoded}, decoded)

    def test_what_json_cannot_hold_is_our_mistake(self) -> None:
        for value, error in ((float("nan"), ValueError), (b"bytes", TypeError)):
            with self.assertRaises(error):
                encode_event("x", "a", "b", 1, {"value": value})


class ChannelTests(SynchronousTestCase):
    def test_templates(self) -> None:
        cases = {
            ("audio:frames", "acme", "c1"): b"audio:frames",
            ("audio:frames:{tenant_id}", "acme", "c1"): b"audio:frames:acme",
            ("{interaction_id}/{tenant_id}", "acme", "c1"): b"c1/acme",
            ("f:{tenant_id}", "{interaction_id}", "c1"): b"f:{interaction_id}",
            ("f:{tenant_id}", "a b\r\n", "c1"): b"f:a b\r\n",
            ("f:{tenant_id}", "zürich", "c1"): "f:zürich".encode(),
            ("f:{tenant_id}", "a:b%", "c1"): b"f:a%3Ab%25",
            ("{other}:{tenant_id}", "acme", "c1"): b"{other}:acme",
        }
        for (template, tenant_id, interaction_id), channel in cases.items():
            self.assertEqual(channel_name(template, tenant_id, interaction_id), channel)

    @FEW
    @given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    @example("a:b", "c", "a", "b:c")
    @example("a%3Ab", "c", "a:b", "c")
    def test_two_streams_never_share_a_channel_by_accident(self, a: str, b: str, c: str, d: str) -> None:
        template = "f:{tenant_id}:{interaction_id}"
        self.assertEqual(channel_name(template, a, b) == channel_name(template, c, d), (a, b) == (c, d))
