from __future__ import annotations

from base64 import b64decode

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel.address import Address, basic, credentials_of, resolve
from voiceingest.cli.failures import UsageFailed


class ResolveTests(SynchronousTestCase):
    def at(self, url: str, **more: object) -> Address:
        return resolve(url, call_id="c 1", sample_rate=8000, **more)  # type: ignore[arg-type]

    def test_resources(self) -> None:
        for url, expected in (
            ("wss://h", "/voicebot/ws?call_id=c%201&sample-rate=8000"),
            ("wss://h/x?a=b", "/x?a=b&call_id=c%201&sample-rate=8000"),
            ("wss://h/x?callSid=other", "/x?callSid=other&sample-rate=8000"),
            ("wss://h/x?sample_rate=8000&call_id=q", "/x?sample_rate=8000&call_id=q"),
        ):
            self.assertEqual(self.at(url).target.resource, expected)

    def test_a_ticket_and_parameters_are_in_the_query(self) -> None:
        address = self.at("wss://h/x", ticket="t1", parameters={"tenant_id": "a&b"})
        self.assertEqual(
            address.target.resource, "/x?call_id=c%201&sample-rate=8000&ticket=t1&tenant_id=a%26b"
        )
        self.assertEqual(address.parameters, {"tenant_id": "a&b"})

    def test_three_pairs_come_back_in_start(self) -> None:
        address = self.at("wss://h/x?a=1&sample-rate=8000&b=2&c=3", parameters={"p": "q"})
        self.assertEqual(address.parameters, {"p": "q", "a": "1", "b": "2"})

    def test_another_rate(self) -> None:
        with self.assertRaises(UsageFailed) as caught:
            self.at("wss://h/x?sample-rate=16000")
        self.assertIn("16000", caught.exception.message)

    def test_user_and_password_of_the_url_go_before_others(self) -> None:
        address = self.at("wss://key:to%3Aken@h/x", authorization="Bearer t")
        self.assertEqual(address.authorization, basic("key", "to:ken"))
        self.assertNotIn("key", address.target.url)
        self.assertEqual(self.at("wss://h/x", authorization="Bearer t").authorization, "Bearer t")
        self.assertIsNone(self.at("wss://h/x").authorization)
        self.assertNotIn("to:ken", repr(address))

    def test_no_websocket(self) -> None:
        for url in ("https://h/x", "wss://", "wss://[::1"):
            with self.assertRaises(UsageFailed):
                self.at(url)


class BasicTests(SynchronousTestCase):
    def test_basic(self) -> None:
        scheme, _, value = basic("user", "pä:ss").partition(" ")
        self.assertEqual((scheme, b64decode(value).decode()), ("Basic", "user:pä:ss"))
        with self.assertRaises(UsageFailed):
            basic("a:b", "c")

    def test_credentials_of(self) -> None:
        self.assertEqual(credentials_of("https://u@h"), basic("u", ""))
        self.assertIsNone(credentials_of("https://h"))
        self.assertIsNone(credentials_of("https://[::1"))
