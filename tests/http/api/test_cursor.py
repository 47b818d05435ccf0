"""Where a page ends, there and back."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadField
from voiceingest.http.api.cursor import CURSOR_PATTERN, read_cursor, write_cursor

IDS = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)


class CursorTests(SynchronousTestCase):
    @given(st.floats(0, 1e11), IDS)
    def test_there_and_back(self, created_at: float, session_id: str) -> None:
        word = write_cursor(created_at, session_id)
        self.assertRegex(word, CURSOR_PATTERN)
        self.assertEqual(read_cursor(word), (created_at, session_id))

    @given(st.from_regex(CURSOR_PATTERN, fullmatch=True))
    def test_whatever_looks_like_one_is_one(self, word: str) -> None:
        created_at, session_id = read_cursor(word)
        self.assertTrue(created_at >= 0 and math.isfinite(created_at))
        self.assertTrue(session_id)

    @given(st.text(max_size=40))
    def test_whatever_comes_is_read_or_refused(self, word: str) -> None:
        try:
            read_cursor(word)
        except BadField:
            return
