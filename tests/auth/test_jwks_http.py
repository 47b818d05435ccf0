from __future__ import annotations

from twisted.internet import error as network
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss

from tests.support.case import SynchronousTestCase
from voiceingest.auth.jwks_http import FetchFailed, _Body, _named, checked_host
from voiceingest.errors import SettingsError
from voiceingest.limits import JWKS_MAX_BYTES


class AddressTests(SynchronousTestCase):
    def test_https_anywhere_and_http_on_the_loopback_interface(self) -> None:
        for url, host in (
            ("https://issuer.example/jwks.json", "issuer.example"),
            ("https://issuer.example:8443/a?b=c", "issuer.example"),
            ("http://127.0.0.1:8080/jwks", "127.0.0.1"),
            ("http://127.9.9.9/", "127.9.9.9"),
            ("http://[::1]:80/", "::1"),
            ("http://localhost/jwks", "localhost"),
            ("HTTPS://issuer.example/", "issuer.example"),
        ):
            self.assertEqual(checked_host(url), host)

    def test_refused_with_the_name_of_the_setting_and_not_its_value(self) -> None:
        for url in (
            "", "jwks.json", "http://issuer.example/", "http://10.0.0.1/", "http://0.0.0.0/", "http://localhost.evil/",
            "http://127.0.0.1.evil/", "ftp://127.0.0.1/", "file:///etc/passwd", "https://", "https:///jwks",
            "https://user:secret@issuer.example/", "http://127.0.0.1@evil/", "https://issuer.example/#secret",
            "https://issuer.example:port/", "https://issuer.example:99999/", "https://[::1/", "https://exämple/",
            "https://issuer.example/a b", "https://issuer.example/\r\nX: y", " https://issuer.example/",
        ):
            error = self.assertRaises(SettingsError, checked_host, url)
            self.assertIn("jwt_jwks_url", str(error), url)
            self.assertNotIn("secret", str(error))


class BodyTests(SynchronousTestCase):
    def test_whole(self) -> None:
        for reason in (ResponseDone(), PotentialDataLoss()):
            body = _Body()
            body.dataReceived(b'{"keys"')
            body.dataReceived(b":[]}")
            self.assertNoResult(body.whole)
            body.connectionLost(Failure(reason))
            self.assertEqual(self.successResultOf(body.whole), b'{"keys":[]}')

    def test_cut_short(self) -> None:
        body = _Body()
        body.dataReceived(b"{")
        body.connectionLost(Failure(ResponseFailed([])))
        self.failureResultOf(body.whole, ResponseFailed)

    def test_as_large_as_may_be_and_one_byte_more(self) -> None:
        body = _Body()
        body.dataReceived(b"x" * JWKS_MAX_BYTES)
        self.assertNoResult(body.whole)
        body.dataReceived(b"x")
        self.assertEqual(self.failureResultOf(body.whole, FetchFailed).value.result, "too_big")
        body.dataReceived(b"x")
        self.assertEqual(body._chunks, [])
        body.connectionLost(Failure(ResponseDone()))


class NameTests(SynchronousTestCase):
    def test_what_went_wrong(self) -> None:
        refused = Failure(network.ConnectionRefusedError())
        for error, result, detail in (
            (network.TimeoutError(), "timeout", ""),
            (network.ConnectionRefusedError(), "connect", "ConnectionRefusedError"),
            (ResponseFailed([refused]), "connect", "ConnectionRefusedError"),
            (ResponseFailed([]), "connect", "ResponseFailed"),
            (FetchFailed("too_big"), "too_big", ""),
        ):
            named = _named(Failure(error)).value
            self.assertEqual((named.result, named.detail), (result, detail))
