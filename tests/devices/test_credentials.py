from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.devices.credentials import (
    Prefix,
    identifier_digest,
    new_id,
    new_secret,
    same_secret,
    secret_digest,
)
from voiceingest.errors import BadField


class CredentialTests(SynchronousTestCase):
    def test_names(self) -> None:
        for word in ("usr", "dev", "fam"):
            self.assertRegex(new_id(word), rf"^{word}_[A-Za-z0-9_-]{{22}}$")
        self.assertNotEqual(new_id("usr"), new_id("usr"))

    def test_secrets_and_what_is_kept_of_them(self) -> None:
        prefixes: tuple[Prefix, ...] = ("vd_", "vr_")
        for prefix, other in zip(prefixes, reversed(prefixes), strict=True):
            secret, digest = new_secret(prefix)
            self.assertRegex(secret, rf"^{prefix}[A-Za-z0-9_-]{{43}}$")
            self.assertEqual(digest, hashlib.sha256(secret.encode()).digest())
            self.assertEqual(secret_digest(secret, prefix), digest)
            self.assertIsNone(secret_digest(secret, other))
            self.assertNotEqual(new_secret(prefix)[0], secret)

    def test_what_can_be_no_secret(self) -> None:
        good, _ = new_secret("vr_")
        bent = (good[:-1], good + "A", good + "\n", " " + good, good[:-1] + "=", good[:-1] + "\u0660")
        for text in ("", "vr_", *bent):
            self.assertIsNone(secret_digest(text, "vr_"))

    @given(st.text(max_size=50))
    @settings(max_examples=50)
    def test_any_text_is_answered(self, text: str) -> None:
        self.assertIsNone(secret_digest(text, "vd_"))

    def test_identifiers(self) -> None:
        for identifier in ("x", "x" * 256, "Küche 3", "00:1b:44:11:3a:b7", "\N{SNOWMAN}", "\u200e\U000e0001"):
            self.assertEqual(len(identifier_digest(identifier)), 32)
            # Under a prefix of its own: nobody's table of digests has it.
            self.assertNotEqual(identifier_digest(identifier), hashlib.sha256(identifier.encode()).digest())
        self.assertNotEqual(identifier_digest("a"), identifier_digest("A"))

    def test_what_is_no_identifier(self) -> None:
        for identifier in ("", "x" * 257, "a\nb", "a\x00", "\ud800", "a\x7f"):
            with self.assertRaises(BadField) as caught:
                identifier_digest(identifier)
            self.assertNotIn("a\n", caught.exception.message)

    def test_comparison(self) -> None:
        self.assertTrue(same_secret("pässword", "pässword"))
        for other in ("", "pässwor", "pässword ", "\ud800"):
            self.assertFalse(same_secret(other, "pässword"))
