from __future__ import annotations

from pathlib import Path

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error

from tests.support.case import SynchronousTestCase
from voiceingest.cli.failures import Exit, UsageFailed
from voiceingest.cli.target import Target, Trust, client_tls, connection_failed, parse_target


class ParseTests(SynchronousTestCase):
    def test_table(self) -> None:
        for url, target in (
            ("wss://h:8443/v1/ingest", Target(True, "h", 8443, "/v1/ingest")),
            ("wss://h", Target(True, "h", 443, "/v1/ingest")),
            ("ws://h/", Target(False, "h", 80, "/v1/ingest")),
            ("ws://[::1]:80/x?ticket=t", Target(False, "::1", 80, "/x?ticket=t")),
        ):
            self.assertEqual(parse_target(url), target)

    def test_what_is_no_websocket_url(self) -> None:
        for url in ("", "h:8443", "http://h", "wss://", "ws://h:port", "ws://[::1"):
            with self.assertRaises(UsageFailed) as caught:
                parse_target(url)
            self.assertIn("wss://voice.example.com", caught.exception.hint or "")

    def test_a_ticket_is_sent_and_not_shown(self) -> None:
        target = parse_target("wss://[::1]:8443/x?ticket=canary")
        self.assertEqual(target.url, "wss://[::1]:8443/x?ticket=canary")
        self.assertEqual(target.label, "wss://[::1]:8443/x")

    def test_a_password_in_the_url_is_not_shown(self) -> None:
        with self.assertRaises(UsageFailed) as caught:
            parse_target("http://user:canary@h")
        self.assertNotIn("canary", caught.exception.message)
        self.assertNotIn("canary", parse_target("ws://user:canary@h").label)

    def test_loopback(self) -> None:
        for host, expected in (("localhost", True), ("127.0.0.9", True), ("::1", True), ("h", False)):
            self.assertEqual(Target(False, host, 1, "/").is_loopback, expected)


class TrustTests(SynchronousTestCase):
    def test_files_that_are_no_authority(self) -> None:
        empty, broken = self.mktemp_path(), self.mktemp_path()
        empty.write_bytes(b"nothing")
        broken.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        for path in (empty, broken, Path("/proc/nobody")):
            with self.assertRaises(UsageFailed) as caught:
                client_tls("h", Trust(path))
            self.assertIn("--ca", caught.exception.message)


class FailureTests(SynchronousTestCase):
    def test_every_failure_has_its_reason(self) -> None:
        for problem, reason in (
            (error.ConnectionRefusedError(), "refused"),
            (error.NoRouteError(), "refused"),
            (error.DNSLookupError(), "dns"),
            (error.TimeoutError(), "timeout"),
            (error.ConnectionLost(), "lost"),
            (error.ConnectionAborted(), "not_websocket"),
            (VerificationError(errors=[]), "tls_name"),
            (SSL.Error([("SSL routines", "", "certificate verify failed")]), "tls_verify"),
            (SSL.Error([("SSL routines", "", "wrong version number")]), "tls_none"),
            (SSL.Error([("SSL routines", "", "tlsv1 alert handshake failure")]), "tls"),
            (None, "lost"),
        ):
            failed = connection_failed(problem, "wss://h:1/x")
            self.assertEqual((failed.reason, failed.exit_code), (reason, Exit.NO_CONNECTION))
            self.assertIn("wss://h:1/x", failed.message)
            self.assertNotIn("\n", failed.message)
