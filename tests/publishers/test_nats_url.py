"""The address of NATS, and the files that go with it."""

from __future__ import annotations

import ssl

from tests.support.case import SynchronousTestCase
from tests.support.servers import TlsFiles
from voiceingest.errors import BadCertificate, SettingsError
from voiceingest.publishers.nats_url import NatsUrl, nats_tls, parse_nats_url, read_credentials

SECRET = "s3cr3t-canary"
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
CREDENTIALS = (
    "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.c2ln\n------END NATS USER JWT------\n\n"
    f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
)


class UrlTests(SynchronousTestCase):
    def test_what_is_read(self) -> None:
        for url, expected in {
            "nats://": NatsUrl((("localhost", 4222),)),
            "nats://h": NatsUrl((("h", 4222),)),
            "nats://h:5222/": NatsUrl((("h", 5222),)),
            "nats+tls://h1:1,h2,10.0.0.3:3": NatsUrl((("h1", 1), ("h2", 4222), ("10.0.0.3", 3)), tls=True),
            "nats://[::1]:5222,[fe80::1]": NatsUrl((("::1", 5222), ("fe80::1", 4222))),
            "nats://u:p%40%2Fw@h1,h2": NatsUrl((("h1", 4222), ("h2", 4222)), username="u", password="p@/w"),
            "nats://t%3Ak@h": NatsUrl((("h", 4222),), token="t:k"),
        }.items():
            self.assertEqual(parse_nats_url(url), expected, url)

    def test_what_is_refused_without_repeating_it(self) -> None:
        for url in (
            "redis://h",
            f"nats://{SECRET}:@h",
            f"nats://:{SECRET}@h",
            f"nats://@{SECRET}:99999",
            f"nats://u:{SECRET}#@h",
            f"nats://u:{SECRET}/x@h",
            f"nats://u:{SECRET}@h/path",
            f"nats://u:{SECRET}@h?x=1",
            f"nats://u:{SECRET}@@h",
            f"nats://u:{SECRET}@h,",
            f"nats://u:{SECRET}@h:0",
            f"nats://u:{SECRET}@h:x",
            f"nats://u:{SECRET}@h1,nats://h2",
            f"nats://u:{SECRET} @h",
        ):
            problem = self.assertRaises(SettingsError, parse_nats_url, url)
            self.assertIn("publish_url: ", str(problem))
            self.assertNotIn(SECRET, str(problem))

    def test_it_does_not_show_its_secrets(self) -> None:
        self.assertNotIn(SECRET, repr(parse_nats_url(f"nats://{SECRET}:{SECRET}@h")))
        self.assertNotIn(SECRET, repr(parse_nats_url(f"nats://{SECRET}@h")))


class TlsTests(SynchronousTestCase):
    def test_names_and_signatures_are_always_checked(self) -> None:
        for path in (None, TlsFiles(self.mktemp_path()).ca_path):
            context = nats_tls(path)
            self.assertTrue(context.check_hostname)
            self.assertEqual(context.verify_mode, ssl.CERT_REQUIRED)
            self.assertEqual(context.minimum_version, ssl.TLSVersion.TLSv1_2)

    def test_a_file_that_is_not_there_or_holds_none(self) -> None:
        path = self.mktemp_path()
        self.assertIn("No such file", str(self.assertRaises(BadCertificate, nats_tls, path)))
        path.write_text("no certificate")
        self.assertIn("holds no PEM certificate", str(self.assertRaises(BadCertificate, nats_tls, path)))


class CredentialsTests(SynchronousTestCase):
    def test_a_whole_file(self) -> None:
        path = self.mktemp_path()
        for text in (CREDENTIALS, CREDENTIALS.replace("\n", "\r\n")):
            path.write_bytes(text.encode())
            token, key = read_credentials(path)
            self.assertEqual((token, key.seed), ("eyJ0.eyJq.c2ln", SEED))

    def test_half_a_file(self) -> None:
        path = self.mktemp_path()
        jwt, seed = CREDENTIALS.split("\n\n")
        slip = CREDENTIALS.replace("SUACSSL", "SUACANARY").encode()
        for text in (b"", jwt.encode(), seed.encode(), b"-----BEGIN NATS USER JWT-----", b"\xff\xfe", slip):
            path.write_bytes(text)
            problem = self.assertRaises(SettingsError, read_credentials, path)
            self.assertIn("holds no NATS user JWT and seed", str(problem))
            self.assertNotIn("CANARY", str(problem))

    def test_no_file(self) -> None:
        problem = self.assertRaises(SettingsError, read_credentials, self.mktemp_path())
        self.assertIn("No such file", str(problem))
