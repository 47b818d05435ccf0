from __future__ import annotations

import json
import ssl
import stat
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tests.support.case import SynchronousTestCase
from voiceingest.cli.keys import keygen


class KeygenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.out = self.mktemp_path() / "keys"

    def run_it(self, *arguments: str) -> Any:
        return CliRunner().invoke(keygen, ["--out", str(self.out), "--bits", "2048", *arguments])

    def modes(self) -> dict[str, int]:
        return {path.name: stat.S_IMODE(path.stat().st_mode) for path in self.out.iterdir()}

    def test_a_pair_with_its_modes(self) -> None:
        result = self.run_it()
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(self.modes(), {"private.pem": 0o600, "public.pem": 0o644})
        self.assertIn("mode 0600", result.stdout)
        self.assertIn("JWT_PUBLIC_KEY_FILE", result.stderr)
        self.assertNotIn("PRIVATE KEY-----", result.output)

    def test_tls_too(self) -> None:
        result = self.run_it("--tls", "localhost,127.0.0.1", "--tls", "voice.example.com")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(self.modes()["tls-key.pem"], 0o600)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.out / "tls-cert.pem", self.out / "tls-key.pem")

    def test_nothing_is_overwritten_and_nothing_half_written(self) -> None:
        self.run_it()
        before = {path: path.read_bytes() for path in self.out.iterdir()}
        result = self.run_it("--tls", "localhost")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("private.pem", result.stderr)
        self.assertIn("--force", result.stderr)
        self.assertEqual({path: path.read_bytes() for path in self.out.iterdir()}, before)

    def test_force_overwrites(self) -> None:
        self.run_it()
        before = (self.out / "private.pem").read_bytes()
        self.assertEqual(self.run_it("--force").exit_code, 0)
        self.assertNotEqual((self.out / "private.pem").read_bytes(), before)
        self.assertEqual(self.modes()["private.pem"], 0o600)

    def test_json(self) -> None:
        result = self.run_it("--json")
        document = json.loads(result.stdout)
        self.assertEqual(Path(document["files"]["public.pem"]), self.out / "public.pem")

    def test_hosts_that_are_none(self) -> None:
        for given in ("grüße", ","):
            result = self.run_it("--tls", given)
            self.assertEqual(result.exit_code, 2)
            self.assertFalse(self.out.exists())

    def test_too_few_bits(self) -> None:
        self.assertEqual(self.run_it("--bits", "1024").exit_code, 2)

    def test_a_place_that_cannot_be_written(self) -> None:
        self.out = Path("/proc/nobody")
        result = self.run_it()
        self.assertEqual(result.exit_code, 2)
        self.assertIn("cannot be made", result.stderr)
