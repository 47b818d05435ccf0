"""URLs that are given out: always quoted, always secure, never of a host that is none."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.config import Settings
from voiceingest.errors import HttpRefusal
from voiceingest.exotel.urls import configured_base, is_loopback_address, requested_base, socket_url

PATH = "/voicebot/ws"


class BaseTests(SynchronousTestCase):
    def test_what_was_set_comes_first(self) -> None:
        both = Settings(webhook_base_url="https://a.example", render_external_url="https://b.example")
        self.assertEqual(configured_base(both), "https://a.example")
        self.assertEqual(configured_base(Settings(render_external_url="https://b.example/")), "https://b.example")
        self.assertIsNone(configured_base(Settings()))

    def test_the_host_of_the_request(self) -> None:
        for host in ("a.example", "a.example:8443", "10.0.0.1", "[2001:db8::1]:443", "x", "A-b.Example"):
            for is_plain in (True, False):
                base = requested_base([host], is_plain=is_plain, from_loopback=True)
                self.assertEqual(base, f"https://{host}")

    def test_in_the_clear_only_on_the_loopback_interface(self) -> None:
        for host in ("localhost:8080", "127.0.0.1:8080", "[::1]:8080", "127.1.2.3", "LOCALHOST"):
            self.assertEqual(requested_base([host], is_plain=True, from_loopback=True), f"http://{host}")
            for is_plain, from_loopback in ((False, True), (True, False), (False, False)):
                base = requested_base([host], is_plain=is_plain, from_loopback=from_loopback)
                self.assertEqual(base, f"https://{host}")

    def test_what_is_no_host(self) -> None:
        for hosts in (
            [], ["a", "b"], ["a", "a"], [""], ["a b"], ["a/b"], ["a?b"], ["a#b"], ["u@a"], ["a\r\nb"],
            ["a\n"], ["[:::]"], ["[1.2.3.4]"], ["[fe80::1%25lo]"], ["a:65536"], ["a:99999"],
            ["a:b"], ["a:"], ["a:123456"], [":80"], ["-a"], ["a-"], ["a.example."], ["[a"], ["[]"], ["a]"],
            ["a\\b"], ["a%2f"], ["\xe9"], ["a\x00"], ["a,b"], ["a;b"], ['a"b'], ["a" * 300], ["https://a"],
            ["localhost:80:80"], ["[::1]@evil.example"], ["*"], ["a_b"],
        ):
            with self.assertRaises(HttpRefusal, msg=repr(hosts)) as caught:
                requested_base(hosts, is_plain=True, from_loopback=True)
            self.assertEqual(str(caught.exception), "Host is missing or malformed")

    def test_addresses_of_this_machine(self) -> None:
        for address in ("127.0.0.1", "127.9.9.9", "::1", "unix"):
            self.assertTrue(is_loopback_address(address))
        for address in ("10.0.0.1", "::", "0.0.0.0", "", "localhost", "::ffff:8.8.8.8"):
            self.assertFalse(is_loopback_address(address))


class SocketTests(SynchronousTestCase):
    def test_a_whole_one(self) -> None:
        self.assertEqual(
            socket_url("https://a.example:8443/prefix", PATH, "c0ffee", 16000, "t-_"),
            "wss://a.example:8443/prefix/voicebot/ws?call_id=c0ffee&sample-rate=16000&ticket=t-_",
        )

    def test_what_is_not_known_is_left_out(self) -> None:
        self.assertEqual(
            socket_url("https://a.example/", PATH, None, 8000, None),
            "wss://a.example/voicebot/ws?sample-rate=8000",
        )

    def test_schemes(self) -> None:
        for base, scheme in (
            ("http://127.0.0.1:80", "ws"), ("http://localhost", "ws"), ("http://[::1]:80", "ws"),
            ("ws://localhost", "ws"), ("https://localhost", "wss"), ("wss://a.example", "wss"),
            ("http://a.example", "wss"), ("http://unix", "wss"), ("http://127.0.0.1.evil.example", "wss"),
        ):
            self.assertEqual(urlsplit(socket_url(base, PATH, None, 8000, None)).scheme, scheme, base)

    def test_what_a_call_brings_fits(self) -> None:
        url = socket_url("https://a.example", PATH, "c" * 40, 24000, "t" * 43)
        query = urlsplit(url).query
        self.assertLessEqual(len(query), 256)
        self.assertLessEqual(len(query.split("&")), 3)

    @settings(max_examples=200, deadline=None, database=None)
    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
    def test_nothing_breaks_out_of_its_place(self, text: str) -> None:
        url = socket_url("https://a.example", PATH, text, 8000, text)
        self.assertRegex(url, r"\A[!-~]+\Z")
        parts = urlsplit(url)
        self.assertEqual((parts.netloc, parts.path, parts.fragment), ("a.example", PATH, ""))
        self.assertEqual(
            parse_qs(parts.query, keep_blank_values=True),
            {"call_id": [text], "sample-rate": ["8000"], "ticket": [text]},
        )
