"""Redaction, rule by rule: what is taken, what is left, and how long it takes whatever the text.

Whole log lines with canaries are in ``test_logs``.
"""

from __future__ import annotations

import time
from typing import Final

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.redact import (
    CLEAN_MAX_CHARS,
    CLEAN_MAX_COUNT,
    MASK,
    TEXT_MAX_CHARS,
    _clean,
    is_secret_name,
    redact,
    redact_id,
)

JWT: Final = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"

# Pieces hostile texts are made of: the beginnings of every rule.
PIECES: Final = (
    "-----BEGIN A-----", "-----END A-----", "authorization", "cookie: ", "set-cookie=", "'", '"', ":", "=",
    "://", "@", "u:p@", "?", "a?b", "eyJ", ".", "bearer ", "basic.", "token", "password='", '"secret": "',
    "api_key = ", "+1", " (", ")-", "12345", "\n", "\r", " ", "\t", "x", "é", "\x00", "%", "&a=b",
)  # fmt: skip


class Rules(SynchronousTestCase):
    """Text in, text out."""

    def assert_table(self, *rows: tuple[str, str]) -> None:
        """Each text becomes exactly the other."""
        for text, expected in rows:
            self.assertEqual(redact(text), expected, text)

    def test_pem(self) -> None:
        begin, end = "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"
        self.assert_table(
            (f"a {begin}\nMII\n{end} b", "a [pem] b"),
            (f"{begin}\\nMII\\n{end}", "[pem]"),
            (f"{begin}\nMII", "[pem]"),
            (f"{begin}1{end} and {begin}2{end}", "[pem] and [pem]"),
            ("-----BEGIN-----", "-----BEGIN-----"),
        )

    def test_headers(self) -> None:
        self.assert_table(
            ("Authorization: Bearer x y z\r\nHost: h", f"Authorization: {MASK}\r\nHost: h"),
            ("cookie = a=b; c=d", f"cookie: {MASK}"),
            ("Set-Cookie: sid=1", f"Set-Cookie: {MASK}"),
            ("X-API-Key:k", f"X-API-Key: {MASK}"),
            ("Sec-WebSocket-Protocol: voice.v1, bearer.k", f"Sec-WebSocket-Protocol: {MASK}"),
            ("an authorization was refused", "an authorization was refused"),
        )

    def test_urls(self) -> None:
        self.assert_table(
            ("redis://u:p@h:6379/0", f"redis://{MASK}@h:6379/0"),
            ("redis://:p@q@h", f"redis://{MASK}@h"),
            ("https://h/p?a=1#f b", f"https://h/p?{MASK} b"),
            ("/v1/ingest?ticket=k", f"/v1/ingest?{MASK}"),
            ("what? nothing", "what? nothing"),
            ("? x", "? x"),
            ("http://h/p", "http://h/p"),
            ("mail a@b", "mail a@b"),
        )

    def test_tokens(self) -> None:
        self.assert_table(
            (JWT, MASK),
            (f"({JWT})", f"({MASK})"),
            ("eyJ", "eyJ"),
            ("eyJx", MASK),
            ("Bearer abc", f"Bearer {MASK}"),
            ("bearer.abc, voice.v1", f"bearer {MASK}, voice.v1"),
            ("BASIC  dTpw", f"BASIC {MASK}"),
            ("a bearer token is required", "a bearer token is required"),
            ("bearer tokens", "bearer tokens"),
            ("a bearer token, please", "a bearer token, please"),
            ("Bearer token-0815", f"Bearer {MASK}"),
            ("Bearer Bearer abc", f"Bearer Bearer {MASK}"),
            ("bearer bearer.abc", f"bearer bearer {MASK}"),
            ("basic basic-abc", f"basic {MASK}"),
        )

    def test_names_and_values(self) -> None:
        self.assert_table(
            ("token=abc&x=1", f"token={MASK}&x=1"),
            ("PASSWORD = 'abc'", f"PASSWORD = '{MASK}'"),
            ("db_passwd=abc;", f"db_passwd={MASK};"),
            ('{"api_key": "a\\"b"}', f'{{"api_key": "{MASK}"b"}}'),
            ("{'secret': b'abc', 'n': 1}", f"{{'secret': b\"{MASK}\", 'n': 1}}"),
            ("{'ticket': 'abc", f"{{'ticket': \"{MASK}\""),
            ("credential was bad", "credential was bad"),
        )

    def test_numbers(self) -> None:
        self.assert_table(
            ("+919876543210", "[number]"),
            ("+91 98765-43210", "[number]"),
            ("+1 (415) 555.2671 called", "[number] called"),
            ("9876543210", "[number]"),
            ("call919876543210x", "call[number]x"),
            ("123456789", "123456789"),
            ("+12345", "+12345"),
            ("12.345678 s", "12.345678 s"),
        )

    def test_length(self) -> None:
        words = "word " * TEXT_MAX_CHARS
        found = redact(words)
        self.assertLessEqual(len(found), TEXT_MAX_CHARS)
        self.assertTrue(words.startswith(found))
        self.assertEqual(redact("x" * (TEXT_MAX_CHARS + 1)), MASK)
        self.assertEqual(redact("x" * TEXT_MAX_CHARS), "x" * TEXT_MAX_CHARS)
        self.assertEqual(redact(""), "")

    def test_what_is_remembered_is_short_harmless_and_bounded(self) -> None:
        for number in range(2 * CLEAN_MAX_COUNT):
            redact(f"event {number}")
        redact("token=abc " * 2)
        redact("a word " * CLEAN_MAX_CHARS)
        self.assertIn(f"event {2 * CLEAN_MAX_COUNT - 1}", _clean)
        self.assertLessEqual(len(_clean), CLEAN_MAX_COUNT)
        self.assertFalse([text for text in _clean if "abc" in text or len(text) > CLEAN_MAX_CHARS])
        self.assertEqual(redact("event 1"), "event 1")

    def test_ids(self) -> None:
        for text, expected in (
            ("919876543210", "[number]"),
            ("call-9198765432", "call-[number]"),
            ("a919876543210", "a919876543210"),
            ("0f8fad5b-d9cb-469f-a165-70867728950e", "0f8fad5b-d9cb-469f-a165-70867728950e"),
            ("123456789", "123456789"),
            ("1234567890123456", "1234567890123456"),
        ):
            self.assertEqual(redact_id(text), expected)

    def test_names(self) -> None:
        for name in (
            "token",
            "admin_token",
            "passwords",
            "TICKET",
            "api_key",
            "apikey",
            "audio",
            "jwt",
            "pem",
        ):
            self.assertTrue(is_secret_name(name), name)
        for name in ("token_count", "audio_bytes", "payload_bytes", "tokenizer", "key", "jwt_issuer", ""):
            self.assertFalse(is_secret_name(name), name)


class Properties(SynchronousTestCase):
    """Whatever the text is."""

    @given(
        st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.sampled_from([" ", "\n", "(", ", "])
    )
    def test_a_secret_is_taken_whatever_stands_around_it(self, around: str, gap: str) -> None:
        for secret, canary in (
            (f"Bearer {'k' * 8}canary", "canary"),
            ("redis://user:canary@host", "canary"),
            (JWT, JWT),
            ("+919876543210", "9876543210"),
            ("password=canary", "canary"),
        ):
            self.assertNotIn(canary, redact(f"{around}{gap}{secret}{gap}{around}"))

    @given(st.text(max_size=200))
    def test_plain_words_are_left(self, text: str) -> None:
        words = " ".join("".join(c for c in text if c.isalpha() and c.isascii()).lower().split("ey"))
        if not any(word in words for word in ("bearer", "basic")):
            self.assertEqual(redact(words), words)

    @given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join))
    @settings(max_examples=60, deadline=None)
    @example("token" * 3)
    @example("+1 (")
    @example("://u:")
    @example("secret'")
    def test_four_times_the_text_takes_about_four_times_as_long(self, piece: str) -> None:
        sizes = (TEXT_MAX_CHARS // 4, TEXT_MAX_CHARS - 99)
        quarter, whole = (self.seconds(piece * (size // len(piece) + 1)) for size in sizes)
        # Four times the text: 4 when linear, 16 when quadratic; what is over at once is not measured.
        self.assertTrue(whole < 0.05 or whole < quarter * 10, (piece, quarter, whole))

    def seconds(self, text: str) -> float:
        """CPU time, the best of three."""
        best = 1e9
        for _ in range(3):
            began = time.process_time()
            redact(text)
            best = min(best, time.process_time() - began)
        return best
