"""Subjects, and what an identifier may do to them: nothing."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import SettingsError
from voiceingest.publishers.nats_subjects import check_template, covers, pattern, subject, token

identifiers = st.text(st.characters(codec=None, exclude_categories=()), min_size=0, max_size=40)


class TokenTests(SynchronousTestCase):
    def test_what_is_encoded(self) -> None:
        for identifier, expected in {
            "acme-1_X~": "acme-1_X~",
            "a.b": "a%2Eb",
            "*": "%2A",
            ">": "%3E",
            "a:b": "a%3Ab",
            "a b\tc\r\n\0": "a%20b%09c%0D%0A%00",
            "100%": "100%25",
            "ü\u2028": "%C3%BC%E2%80%A8",
            "\ud800": "%ED%A0%80",
            "": "%",
        }.items():
            self.assertEqual(token(identifier), expected)

    @given(identifiers, identifiers)
    def test_two_identifiers_are_two_tokens(self, one: str, other: str) -> None:
        self.assertTrue(re.fullmatch(r"[A-Za-z0-9_~%-]+", token(one)))
        self.assertEqual(token(one) == token(other), one == other)


class TemplateTests(SynchronousTestCase):
    def test_a_subject_is_filled_once(self) -> None:
        filled = subject("audio.{tenant_id}.{interaction_id}", "{interaction_id}", "a.b")
        self.assertEqual(filled, "audio.%7Binteraction_id%7D.a%2Eb")
        self.assertEqual(subject("audio.frames", "acme", "b"), "audio.frames")

    def test_its_pattern(self) -> None:
        self.assertEqual(pattern("audio.{tenant_id}.x.{interaction_id}"), "audio.*.x.*")

    def test_templates_that_make_no_subjects(self) -> None:
        for template in ("a..b", ".a", "a.", "a.*", "a.>", "a b", "a.x{tenant_id}", "$JS.a", "ä"):
            problem = self.assertRaises(SettingsError, check_template, "nats_subject", template)
            self.assertTrue(str(problem).startswith("nats_subject: "))
        for template in ("a", "audio.frames", "A_1-x.{tenant_id}.{interaction_id}", "{tenant_id}"):
            check_template("nats_subject", template)


class CoversTests(SynchronousTestCase):
    def test_table(self) -> None:
        for wide, narrow, expected in (
            ("a.b", "a.b", True),
            ("a.b", "a.c", False),
            ("a.*", "a.b", True),
            ("a.*", "a.*", True),
            ("a.b", "a.*", False),
            ("a.*", "a.b.c", False),
            ("a.>", "a.b.c", True),
            ("a.>", "a", False),
            ("a.>", "a.>", True),
            ("a.*", "a.>", False),
            (">", "a.*.c", True),
            ("*.b", "a.b", True),
            ("a.b.c", "a.b", False),
        ):
            self.assertEqual(covers(wide, narrow), expected, (wide, narrow))
