from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.wsclient import ANSWER_MAX_BYTES, read_refusal


class RefusalTests(SynchronousTestCase):
    """The rest of the module is tested over real sockets, in ``test_client``."""

    def test_table(self) -> None:
        for answer, expected in (
            (b"", (None, b"", False)),
            (b"HTTP/1.1 401 Unauthor", (None, b"", False)),
            (b"HTTP/1.1 401 No\r\n\r\n", (401, b"", True)),
            (b"HTTP/1.1 401\r\ncontent-length : 4\r\n\r\nab", (401, b"ab", False)),
            (b"HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nabcdefg", (401, b"abcd", True)),
            (b"HTTP/1.1 401 No\r\nContent-Length: many\r\n\r\nabc", (401, b"", True)),
            (b"SSH-2.0-x\r\n\r\n", (None, b"", False)),
            (b"\r\n\r\n", (None, b"", False)),
        ):
            self.assertEqual(read_refusal(answer), expected, answer)

    def test_a_body_is_not_waited_for_without_end(self) -> None:
        answer = b"HTTP/1.1 401 No\r\nContent-Length: 999999999\r\n\r\n" + bytes(ANSWER_MAX_BYTES)
        self.assertEqual(read_refusal(answer), (401, bytes(ANSWER_MAX_BYTES), True))

    @given(st.binary())
    def test_any_bytes_have_an_answer(self, answer: bytes) -> None:
        status, _, complete = read_refusal(answer)
        self.assertTrue(status is not None or not complete)
