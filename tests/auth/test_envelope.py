from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.auth.envelope import check_header, members, parts, unpacked
from voiceingest.errors import Unauthenticated
from voiceingest.limits import TOKEN_MAX_BYTES


class EnvelopeTests(SynchronousTestCase):
    """What is refused whatever the key; tests/auth/test_tokens.py has the long tables."""

    def test_parts(self) -> None:
        self.assertEqual(parts("a.b-_.c"), ("a", "b-_", "c"))
        table = (
            ("", "missing"), (f"a.{'b' * TOKEN_MAX_BYTES}.c", "too_big"), ("a.b", "malformed"),
            ("a.b.c=", "malformed"),
        )
        for token, reason in table:
            with self.assertRaises(Unauthenticated) as caught:
                parts(token)
            self.assertEqual(caught.exception.reason, reason)

    def test_members(self) -> None:
        self.assertEqual(members("eyJhIjoxfQ", "bad_header"), {"a": 1})
        # [], {"a":1,"a":1}, {"a":NaN}
        for segment in ("W10", "eyJhIjoxLCJhIjoxfQ", "eyJhIjpOYU59"):
            with self.assertRaises(Unauthenticated) as caught:
                members(segment, "bad_header")
            self.assertEqual(caught.exception.reason, "bad_header")

    def test_header(self) -> None:
        check_header({"typ": "Application/AT+JWT"}, {"at+jwt"})
        for header, reason in (
            ({}, "typ"), ({"typ": "jwt"}, "typ"), ({"typ": 1}, "typ"),
            ({"typ": "at+jwt", "crit": []}, "crit"), ({"typ": "at+jwt", "b64": True}, "crit"),
        ):
            with self.assertRaises(Unauthenticated) as caught:
                check_header(header, {"at+jwt"})
            self.assertEqual(caught.exception.reason, reason)

    @given(st.text(alphabet="AB_-", max_size=9))
    @settings(max_examples=50)
    def test_bytes_have_one_spelling(self, segment: str) -> None:
        try:
            raw = unpacked(segment)
        except Unauthenticated:
            return
        self.assertEqual(len(raw), len(segment) * 3 // 4)
