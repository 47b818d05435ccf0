"""The straight line takes exactly what it should and leaves the rest alone."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.sockets import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame
from voiceingest.websocket.frames import FIN_BINARY, client_frame, take_frames, unmask

LIMIT = 70_000


def run(read: bytes, limit: int = LIMIT) -> tuple[list[bytes], int, bool]:
    """Take frames from ``read``; returns them, the bytes used, and whether more is awaited."""
    taken: list[bytes] = []

    def take(payload: bytes, is_binary: bool) -> bool:
        taken.append(payload if is_binary else b"text:" + payload)
        return True

    used, partial = take_frames(read, limit, take)
    return taken, used, partial


class Unmask(SynchronousTestCase):
    """RFC 6455 section 5.3."""

    def test_both_ways_of_computing_agree_with_the_definition(self) -> None:
        """Around the size at which the computation changes, and for every remainder of four."""
        for size in (0, 1, 2, 3, 4, 5, 959, 960, 1023, 1024, 1025, 1026, 1027, 9600, 65536):
            mask, payload = os.urandom(4), os.urandom(size)
            expected = bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))
            self.assertEqual(unmask(mask, payload), expected, size)


class ClientFrame(SynchronousTestCase):
    """What we write as a client is what we would read as a server."""

    def test_every_length_encoding(self) -> None:
        for size in (0, 1, 125, 126, 65535, 65536):
            payload = os.urandom(size)
            written = client_frame(FIN_BINARY, payload, os.urandom(4))
            self.assertEqual(run(written), ([payload], len(written), True))


class TakeFrames(SynchronousTestCase):
    """What is taken, what is awaited, what is left for Autobahn."""

    def test_every_length_encoding(self) -> None:
        """7-bit, 16-bit and 64-bit lengths, several frames in one read."""
        payloads = [os.urandom(size) for size in (0, 1, 125, 126, 960, 65535, 65536, LIMIT)]
        read = b"".join(frame(BINARY, payload) for payload in payloads)
        self.assertEqual(run(read), (payloads, len(read), True))

    def test_left_for_autobahn(self) -> None:
        """Anything but a whole, masked, unfragmented binary frame of a sound header."""
        left = {
            "text that is more than ASCII": frame(TEXT, "é".encode()),
            "text that is no UTF-8": frame(TEXT, b"\xff"),
            "a first fragment of text": frame(TEXT, b"{", fin=False),
            "text with a reserved bit": frame(TEXT, b"{}", rsv=4),
            "text that is not masked": frame(TEXT, b"{}", masked=False),
            "ping": frame(PING, b"x"),
            "close": frame(CLOSE, b"\x03\xe8"),
            "first fragment": frame(BINARY, b"ab", fin=False),
            "continuation": frame(CONTINUATION, b"ab"),
            "reserved bit": frame(BINARY, b"ab", rsv=4),
            "unmasked": frame(BINARY, b"ab", masked=False),
            "too big": frame(BINARY, bytes(LIMIT + 1)),
            "16-bit length for a short one": b"\x82\xfe\x00\x05" + bytes(9),
            "64-bit length for a short one": b"\x82\xff" + (1000).to_bytes(8, "big") + bytes(1004),
            "a length of 2^63 and more": b"\x82\xff\xff" + bytes(11),
        }
        audio = frame(BINARY, b"\x01\x02")
        for name, odd in left.items():
            with self.subTest(name):
                self.assertEqual(run(audio + odd), ([b"\x01\x02"], len(audio), False))

    def test_text_of_ascii_is_taken_in_its_place(self) -> None:
        read = frame(BINARY, b"ab") + frame(TEXT, b'{"event":"stop"}') + frame(BINARY, b"\xff")
        self.assertEqual(run(read), ([b"ab", b'text:{"event":"stop"}', b"\xff"], len(read), True))
        part = frame(TEXT, b"{}" * 100)
        for cut in (1, 2, 7, len(part) - 1):
            self.assertEqual(run(part[:cut]), ([], 0, True), cut)

    def test_stops_when_told(self) -> None:
        """A frame that ends the connection is the last one taken."""
        read = frame(BINARY, b"ab") * 3
        taken: list[bytes] = []
        used, partial = take_frames(read, LIMIT, lambda payload, _: bool(taken.append(payload)))
        self.assertEqual((taken, used, partial), ([b"ab"], len(read) // 3, False))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.binary(max_size=700), max_size=6), st.data())
    def test_any_cut_gives_the_same_frames(self, payloads: list[bytes], data: st.DataObject) -> None:
        """However a run of frames is cut into reads, the frames and their order are the same."""
        stream = b"".join(frame(BINARY, payload) for payload in payloads)
        taken: list[bytes] = []
        tail = b""
        at = 0
        while at < len(stream):
            size = data.draw(st.integers(1, 400))
            read, at = tail + stream[at : at + size], at + size
            frames, used, partial = run(read)
            taken += frames
            self.assertTrue(partial)
            tail = read[used:]
        self.assertEqual((taken, tail), (payloads, b""))
