"""URLs of status callbacks: nobody else's, and each thing told once."""

from __future__ import annotations

from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.errors import Unauthenticated
from voiceingest.exotel import callbacks as module
from voiceingest.exotel.callbacks import REMEMBERED_MAX_COUNT, REMEMBERED_S, STATUS_PATH, Callbacks
from voiceingest.metrics import Metrics

SECRET = "s" * 32


def signed(url: str) -> tuple[str, str]:
    """The run and the signature in a URL."""
    query = parse_qs(urlsplit(url).query, strict_parsing=True)
    return query["run"][0], query["sig"][0]


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.metrics = Clock(), Metrics()
        self.callbacks = self.made(SECRET)

    def made(self, secret: str | None) -> Callbacks:
        return Callbacks(secret, self.clock, self.metrics)


class UrlTests(Case):
    def test_it_is_where_callbacks_are_taken(self) -> None:
        url = self.callbacks.url("https://a.example/prefix", "acme")
        self.assertTrue(url.startswith(f"https://a.example/prefix{STATUS_PATH}?run="), url)
        self.assertRegex(url, r"\A[!-~]+\Z")

    def test_it_names_its_tenant(self) -> None:
        for tenant in ("acme", "a", "é", "a.b&c=d", "x" * 128, "\ud800", "\N{GRINNING FACE}" * 128):
            url = self.callbacks.url("https://a", tenant)
            self.assertEqual(self.callbacks.tenant_of(*signed(url)), tenant)

    def test_no_two_are_alike(self) -> None:
        urls = {self.callbacks.url("https://a", "acme") for _ in range(100)}
        self.assertEqual(len(urls), 100)

    def test_another_process_with_the_same_secret_knows_it(self) -> None:
        run, signature = signed(self.callbacks.url("https://a", "acme"))
        self.assertEqual(self.made(SECRET).tenant_of(run, signature), "acme")
        for other in ("t" * 32, None):
            self.assertRaises(Unauthenticated, self.made(other).tenant_of, run, signature)

    def test_without_a_secret_it_is_signed_all_the_same(self) -> None:
        callbacks = self.made(None)
        run, signature = signed(callbacks.url("https://a", "acme"))
        self.assertEqual(callbacks.tenant_of(run, signature), "acme")
        self.assertRaises(Unauthenticated, self.made(None).tenant_of, run, signature)

    def test_nothing_else_is_taken(self) -> None:
        run, signature = signed(self.callbacks.url("https://a", "acme"))
        other = signed(self.callbacks.url("https://a", "other"))
        nonce = run.partition(".")[0]
        for wrong in (
            (run, ""), (run, signature[:-1]), (run, signature.upper()), (run, signature + "0"), ("", ""),
            ("", signature), (nonce, signature), (run + "A", signature), (other[0], signature),
            (f"{nonce}.{other[0].partition('.')[2]}", signature), (run, other[1]), (run, "\ud800"),
            ("\ud800", signature), ("x" * 100_000, signature), (run, "é" * 64),
        ):
            with self.assertRaises(Unauthenticated, msg=repr(wrong)) as caught:
                self.callbacks.tenant_of(*wrong)
            self.assertEqual(caught.exception.reason, "signature")

    def test_a_run_that_is_too_long_is_not_even_taken_when_signed(self) -> None:
        run = "x" * 2000
        self.assertRaises(Unauthenticated, self.callbacks.tenant_of, run, self.callbacks._signature(run))
        self.assertRaises(Unauthenticated, self.callbacks.tenant_of, run, self.callbacks._signature(""))

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.text(max_size=40), st.text(max_size=70))
    def test_whatever_is_brought(self, run: str, signature: str) -> None:
        self.assertRaises(Unauthenticated, self.callbacks.tenant_of, run, signature)


class MemoryTests(Case):
    def test_each_thing_by_itself(self) -> None:
        self.callbacks.remember("r", "c", "terminal")
        self.assertTrue(self.callbacks.was_told("r", "c", "terminal"))
        for other in (
            ("q", "c", "terminal"), ("r", "d", "terminal"), ("r", "c", "answered"), ("rc", "", "terminal"),
        ):
            self.assertFalse(self.callbacks.was_told(*other))

    def test_for_an_hour(self) -> None:
        self.callbacks.remember("r", "c", "terminal")
        self.clock.advance(REMEMBERED_S - 1)
        self.assertTrue(self.callbacks.was_told("r", "c", "terminal"))
        self.callbacks.remember("r", "c", "terminal")
        self.clock.advance(1)
        self.assertFalse(self.callbacks.was_told("r", "c", "terminal"))
        self.assertEqual(len(self.callbacks), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_oldest_is_forgotten_and_counted(self) -> None:
        with patch.object(module, "REMEMBERED_MAX_COUNT", 2):
            for call in ("a", "b", "c"):
                self.callbacks.remember("r", call, "terminal")
        self.assertFalse(self.callbacks.was_told("r", "a", "terminal"))
        self.assertTrue(self.callbacks.was_told("r", "b", "terminal"))
        self.assertEqual((len(self.callbacks), self.metrics.status_callbacks["forgotten"]), (2, 1))

    def test_the_bound_holds(self) -> None:
        for number in range(REMEMBERED_MAX_COUNT + 5):
            self.callbacks.remember("r", str(number), "terminal")
        self.assertEqual(len(self.callbacks), REMEMBERED_MAX_COUNT)
