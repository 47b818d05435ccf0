from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel.options import parse_keys, parse_parameters


class KeysTests(SynchronousTestCase):
    def test_keys(self) -> None:
        for text, expected in (
            ("5", ((1.0, "5"),)),
            ("12#@2s", ((2.0, "1"), (2.3, "2"), (2.6, "#"))),
            ("*@500ms", ((0.5, "*"),)),
        ):
            self.assertEqual(parse_keys(text), expected)

    def test_no_keys(self) -> None:
        for text in ("", "@2s", "12a", "1@", "1@soon", "1@2s@3s"):
            with self.assertRaises(ValueError):
                parse_keys(text)


class ParameterTests(SynchronousTestCase):
    def test_parameters(self) -> None:
        self.assertEqual(parse_parameters(("a=1", "b=c=d", "e=")), {"a": "1", "b": "c=d", "e": ""})

    def test_what_exotel_does_not_let_through(self) -> None:
        for pairs in (("a",), ("=b",), ("a=1", "b=2", "c=3", "d=4"), (f"a={'x' * 254}",)):
            with self.assertRaises(ValueError):
                parse_parameters(pairs)
