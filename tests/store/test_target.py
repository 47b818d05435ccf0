"""``database_url``, as text."""

from __future__ import annotations

import ssl
from pathlib import Path

from tests.support.case import SynchronousTestCase
from tests.support.servers import TlsFiles
from voiceingest.errors import StoreUnusable
from voiceingest.store.target import read_target

BASE = "postgresql://user:pass%2Fword@db.example.com:6543/voice"


class TargetTests(SynchronousTestCase):
    def refusal(self, url: str) -> str:
        with self.assertRaises(StoreUnusable) as caught:
            read_target(url)
        self.assertNotIn("canary", caught.exception.message)
        self.assertTrue(caught.exception.__suppress_context__ or caught.exception.__context__ is None)
        return caught.exception.message

    def test_files(self) -> None:
        for url, path in (("sqlite:///voice.db", "voice.db"), ("sqlite:////var/lib/v.db", "/var/lib/v.db")):
            target = read_target(url)
            self.assertEqual((target.kind, target.path), ("sqlite", Path(path)))
            self.assertEqual(target.url.render_as_string(), f"sqlite+aiosqlite:///{path}")

    def test_servers(self) -> None:
        for url in (BASE, BASE.replace("postgresql", "postgres")):
            target = read_target(url)
            self.assertEqual((target.kind, target.path), ("postgresql", None))
            shown = target.url.render_as_string(hide_password=False)
            self.assertEqual(shown, BASE.replace("postgresql", "postgresql+asyncpg"))
            self.assertEqual(target.url.password, "pass/word")
            self.assertEqual(target.arguments["ssl"], "prefer")
            self.assertEqual(target.arguments["server_settings"], {"application_name": "voiceingest"})

    def test_a_socket_and_a_name(self) -> None:
        target = read_target("postgresql:///voice?host=/run/postgresql&application_name=node-7")
        self.assertEqual(dict(target.url.query), {"host": "/run/postgresql"})
        self.assertEqual(target.arguments["server_settings"], {"application_name": "node-7"})

    def test_modes_that_verify_nothing(self) -> None:
        for mode in ("disable", "allow", "prefer", "require"):
            self.assertEqual(read_target(f"{BASE}?sslmode={mode}").arguments["ssl"], mode)

    def test_modes_that_verify(self) -> None:
        files = TlsFiles(self.mktemp_path())
        root = f"sslrootcert={files.ca_path}"
        for options, checks_name in (
            (f"sslmode=verify-full&{root}", True),
            (f"sslmode=verify-ca&{root}", False),
            (f"sslmode=require&{root}", False),
            (root, True),
            ("sslmode=verify-full", True),
            ("sslmode=verify-full&sslrootcert=system", True),
        ):
            context = read_target(f"{BASE}?{options}").arguments["ssl"]
            self.assertIsInstance(context, ssl.SSLContext)
            self.assertEqual((context.verify_mode, context.check_hostname), (ssl.CERT_REQUIRED, checks_name))
            self.assertEqual(context.minimum_version, ssl.TLSVersion.TLSv1_2)

    def test_a_certificate_of_ones_own(self) -> None:
        files = TlsFiles(self.mktemp_path())
        options = f"sslmode=require&sslcert={files.cert_path}&sslkey={files.key_path}"
        self.assertEqual(read_target(f"{BASE}?{options}").arguments["ssl"].verify_mode, ssl.CERT_NONE)

    def test_what_is_refused(self) -> None:
        for url, words in (
            ("sqlite://", "name a file"),
            ("sqlite:///:memory:", "name a file"),
            ("sqlite://canary/x", "three slashes"),
            ("sqlite:///x?canary=1", "no options"),
            ("postgresql://canary:canary@host", "name of the database"),
            ("postgresql://u:canary@host:canary/x", "not a URL"),
            (f"{BASE}?canary=1", "are known"),
            (f"{BASE}?sslmode=canary", "sslmode is one of"),
            (f"{BASE}?sslmode=disable&sslmode=require", "sslmode is there twice"),
            (f"{BASE}?sslrootcert=/canary", "cannot be read"),
            (f"{BASE}?sslmode=verify-full&sslrootcert={__file__}", "cannot be read"),
        ):
            self.assertIn(words, self.refusal(url), url)

    def test_it_does_not_show_itself(self) -> None:
        self.assertNotIn("pass", repr(read_target(BASE)))
