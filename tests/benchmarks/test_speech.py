"""What the load generator says, read as the daemon reads it; what the consumer makes of it."""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.consumer import Count
from benchmarks.loads import CALLS, SMALL
from benchmarks.speech import (
    ExotelSpeech,
    IngestSpeech,
    Mark,
    farewell,
    filler,
    opening,
    pack_mark,
    read_mark,
    upgrade_request,
)
from tests.support.case import SynchronousTestCase
from voiceingest.wire import exotel, ingest
from voiceingest.wire.envelope import encode_frame, frame_parts

KEY = b"\x01\x80\xff\x37"
_PARTS = frame_parts("bench", "b3-2", 24000, "pcm16")
_U32 = st.integers(0, 2**32 - 1)
_U64 = st.integers(0, 2**64 - 1)


def unmasked(frame: bytes) -> list[bytes]:
    """The payloads of frames in a row."""
    payloads = []
    while frame:
        size, begin = frame[1] & 0x7F, 2
        if size == 126:
            size, begin = int.from_bytes(frame[2:4], "big"), 4
        key, body = frame[begin : begin + 4], frame[begin + 4 : begin + 4 + size]
        payloads.append(bytes(byte ^ key[at % 4] for at, byte in enumerate(body)))
        frame = frame[begin + 4 + size :]
    return payloads


class MarkTests(SynchronousTestCase):
    @given(_U32, _U32, _U64, _U64)
    def test_round_trip(self, run: int, stream: int, seq: int, made_ns: int) -> None:
        mark = Mark(run, stream, seq, made_ns)
        self.assertEqual(read_mark(pack_mark(mark) + b"more"), mark)


class SpeechTests(SynchronousTestCase):
    def test_a_frame_is_its_mark_and_the_filler(self) -> None:
        speech = IngestSpeech(3, 2, SMALL.size, KEY)
        for seq in (1, 2, 70000):
            (audio,) = unmasked(bytes(speech.frame(seq, 10**15 + seq)))
            self.assertEqual(read_mark(audio), Mark(3, 2, seq, 10**15 + seq))
            self.assertEqual(audio[24:], filler(SMALL.size))
            self.assertEqual(len(audio), SMALL.size)

    def test_a_message_of_a_call_is_what_exotel_says(self) -> None:
        speech = ExotelSpeech(3, 2, CALLS.size, KEY, CALLS.per_s)
        for seq in (1, 2, 70000):
            (text,) = unmasked(bytes(speech.frame(seq, 10**15 + seq)))
            message = exotel.decode(text)
            self.assertIsInstance(message, exotel.Media)
            self.assertEqual(read_mark(message.payload), Mark(3, 2, seq, 10**15 + seq))
            self.assertEqual(message.payload[24:], filler(CALLS.size))
            self.assertEqual(message.sequence, 100_000 + seq)

    def test_around_it(self) -> None:
        (start,) = unmasked(opening("ingest", 3, 2, 24000, KEY))
        self.assertEqual(ingest.decode(start).interaction_id, "b3-2")
        (stop,) = unmasked(farewell("ingest", 3, 2, KEY))
        self.assertEqual(ingest.decode(stop), ingest.Stop())
        connected, begun = unmasked(opening("exotel", 3, 2, 16000, KEY))
        self.assertEqual(exotel.decode(connected), exotel.Connected())
        self.assertEqual(exotel.decode(begun).call_id, "b3-2")
        self.assertEqual(exotel.decode(begun).sample_rate, 16000)
        (over,) = unmasked(farewell("exotel", 3, 2, KEY))
        self.assertIsInstance(exotel.decode(over), exotel.Stop)

    def test_the_token_is_in_the_request(self) -> None:
        request = upgrade_request("/v1/ingest", "abc")
        self.assertIn(b"\r\nAuthorization: Bearer abc\r\n", request)
        self.assertTrue(request.endswith(b"\r\n\r\n"))


class CountTests(SynchronousTestCase):
    """What the consumer counts."""

    def setUp(self) -> None:
        self.count = Count()
        self.count.begin(3, SMALL.size)

    def audio(self, seq: int, run: int = 3) -> bytes:
        return pack_mark(Mark(run, 2, seq, 5)) + filler(SMALL.size)

    def test_in_order_and_whole(self) -> None:
        for seq in (1, 2, 3):
            self.count.envelope(encode_frame(_PARTS, seq, 1, self.audio(seq)))
        self.count.audio(self.audio(4))
        self.assertEqual((self.count.frames, self.count.wrong, self.count.foreign), (4, 0, 0))
        self.assertEqual(set(self.count.report()["latency_ms"]), {"p50", "p99", "p999"})

    def test_a_gap_and_a_repeat(self) -> None:
        for seq in (1, 3, 3):
            self.count.audio(self.audio(seq))
        self.assertEqual((self.count.frames, self.count.wrong), (3, 2))

    def test_a_changed_byte(self) -> None:
        self.count.envelope(encode_frame(_PARTS, 1, 1, self.audio(1)[:-1] + b"\0"))
        self.count.audio(self.audio(2)[:-2])
        self.assertEqual((self.count.frames, self.count.wrong), (2, 2))

    def test_a_frame_of_another_run(self) -> None:
        self.count.audio(self.audio(1, run=2))
        self.assertEqual((self.count.frames, self.count.foreign), (0, 1))

    def test_as_a_peer_writes_it(self) -> None:
        fields = {"seq": 1, "audio": base64.b64encode(self.audio(1)).decode()}
        body = json.dumps(fields, separators=(",", ":"))
        self.count.envelope(body.encode())
        self.assertEqual((self.count.frames, self.count.wrong), (1, 0))
