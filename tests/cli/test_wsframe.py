from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.wsframe import encode_binary, encode_text


def decode(frame: bytes, opcode: int = 0x82) -> bytes:
    """As RFC 6455 section 5.2 has it, byte by byte."""
    assert frame[0] == opcode and frame[1] & 0x80
    size, at = frame[1] & 0x7F, 2
    if size == 126:
        size, at = int.from_bytes(frame[2:4], "big"), 4
    elif size == 127:
        size, at = int.from_bytes(frame[2:10], "big"), 10
    key, body = frame[at : at + 4], frame[at + 4 :]
    assert len(body) == size
    return bytes(byte ^ key[place % 4] for place, byte in enumerate(body))


class FrameTests(SynchronousTestCase):
    def test_the_lengths_where_the_head_changes(self) -> None:
        for size in (0, 1, 125, 126, 127, 65535, 65536):
            payload = bytes(number % 251 for number in range(size))
            self.assertEqual(decode(encode_binary(payload, b"\1\2\3\4")), payload)

    @given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
    def test_what_goes_in_comes_out(self, payload: bytes, key: bytes) -> None:
        self.assertEqual(decode(encode_binary(payload, key)), payload)

    def test_text_differs_in_the_opcode_only(self) -> None:
        self.assertEqual(decode(encode_text(b"{}", b"\1\2\3\4"), 0x81), b"{}")
