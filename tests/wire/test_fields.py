"""What all dialects share; ``test_ingest`` goes through the same doors with every wrong value."""

from __future__ import annotations

from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadField, BadJson
from voiceingest.limits import IDENTIFIER_MAX_CHARS
from voiceingest.wire.fields import identifier, is_identifier, json_object


class Objects(SynchronousTestCase):
    """A JSON object or ``BadJson``."""

    def test_an_object(self) -> None:
        self.assertEqual(json_object(b' {"a": 1, "a": "x"} '), {"a": "x"})

    def test_anything_else(self) -> None:
        for payload in (
            b"",
            b"[]",
            b"1",
            b'{"a":NaN}',
            b'{"a":' + b"9" * 5000 + b"}",
            b"\xff",
            b"[" * 100_000,
        ):
            error = self.assertRaises(BadJson, json_object, payload)
            self.assertIsNone(error.__cause__)


class Identifiers(SynchronousTestCase):
    """Short printable text without braces."""

    def test_both_agree(self) -> None:
        right = ["a", "通話", "a b:%", "x" * IDENTIFIER_MAX_CHARS]
        wrong: list[Any] = [
            None,
            1,
            True,
            [],
            {},
            "",
            "x" * (IDENTIFIER_MAX_CHARS + 1),
            "a{",
            "}",
            "\n",
            "\ud800",
        ]
        for value in right:
            self.assertTrue(is_identifier(value), value)
            self.assertEqual(identifier({"name": value}, "name"), value)
        for value in wrong:
            self.assertFalse(is_identifier(value), value)
            self.assertRaises(BadField, identifier, {"name": value}, "name")
        self.assertRaises(BadField, identifier, {}, "name")
