"""Where the daemon is asked; the asking itself is in ``test_call`` and in ``control``."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.cli.failures import UsageFailed
from voiceingest.cli.operator import DaemonPlace, parse_place


class PlaceTests(SynchronousTestCase):
    def test_places(self) -> None:
        for url, place in (
            ("http://127.0.0.1:9464", DaemonPlace(False, "127.0.0.1", 9464, "")),
            ("https://voice.example.com/", DaemonPlace(True, "voice.example.com", 443, "")),
            ("http://[::1]/a/b", DaemonPlace(False, "::1", 80, "/a/b")),
        ):
            self.assertEqual(parse_place(url, True), place)

    def test_what_is_none(self) -> None:
        for url in (
            "", "voice.example.com", "ws://a", "http://", "http://u:p@a", "http://a?b", "http://a#b",
            "http://a:x", "http://a:99999", "http://[a", "http://a b", "http://a\r\n", "http://é", "unix:/a",
        ):
            self.assertRaises(UsageFailed, parse_place, url, False)

    def test_a_token_is_not_sent_in_the_clear(self) -> None:
        parse_place("http://voice.example.com", False)
        self.assertRaises(UsageFailed, parse_place, "http://voice.example.com", True)
