"""``voiceingest call`` against an HTTP server that says what it is told to."""

from __future__ import annotations

import json
import os
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch

from click.testing import Result

from tests.support.case import SynchronousTestCase
from tests.support.daemon import free_port
from tests.support.servers import TlsFiles

from .program import invoked

NUMBER = "+919876543210"


class Daemon:
    """Keeps what it is asked and answers one thing."""

    def __init__(self, case: Any, tls: TlsFiles | None = None) -> None:
        self.status, self.body = 202, b'{"call_id":"c0ffee","status":"queued"}'
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.cert_path, tls.key_path)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        case.addCleanup(thread.join)
        case.addCleanup(self._server.server_close)
        case.addCleanup(self._server.shutdown)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _handler(daemon) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                daemon.asked.append((self.path, dict(self.headers.items()), json.loads(body)))
                if daemon.status == 0:
                    return
                self.send_response(daemon.status)
                self.send_header("Content-Length", str(len(daemon.body)))
                self.send_header("Location", f"{daemon.url}/elsewhere")
                self.end_headers()
                self.wfile.write(daemon.body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Nothing."""

        return Handler


class CallTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.daemon = Daemon(self)

    def call(self, *arguments: str, url: str | None = None) -> Result:
        result = invoked("call", NUMBER, "--url", url or self.daemon.url, *arguments)
        self.assertNotIn("Traceback", result.output)
        self.assertNotIn("98765", result.output)
        return result

    def refused(self, status: int, body: bytes) -> str:
        self.daemon.status, self.daemon.body = status, body
        result = self.call("--json")
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        return str(result.stderr)

    def test_placed(self) -> None:
        result = self.call()
        self.assertEqual((result.exit_code, result.stdout), (0, "call id: c0ffee\nstatus:  queued\n"))
        ((path, headers, body),) = self.daemon.asked
        self.assertEqual((path, body), ("/call", {"to": NUMBER}))
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertNotIn("Authorization", headers)

    def test_json(self) -> None:
        result = self.call("--json")
        self.assertEqual(json.loads(result.stdout), {"call_id": "c0ffee", "status": "queued"})

    def test_everything_that_can_be_said(self) -> None:
        self.call("--tenant", "acme", "--custom", "order 7", "--admin-token", "canary")
        ((_, headers, body),) = self.daemon.asked
        self.assertEqual(body, {"to": NUMBER, "tenant_id": "acme", "custom": "order 7"})
        self.assertEqual(headers["Authorization"], "Bearer canary")

    def test_below_a_prefix(self) -> None:
        self.call(url=f"{self.daemon.url}/prefix/")
        self.assertEqual(self.daemon.asked[0][0], "/prefix/call")

    def test_refused(self) -> None:
        for status, code, hint in (
            (400, "bad_field", ""), (401, "unauthorized", "ADMIN_TOKEN"), (404, "not_found", ""),
            (502, "upstream_refused", ""), (502, "upstream_failed", "may have been placed"),
            (503, "upstream_busy", "later"),
        ):
            body = json.dumps({"code": code, "message": "A reason", "request_id": "r"}).encode()
            told = self.refused(status, body)
            self.assertTrue(told.startswith(f"error: no call was placed: A reason ({code})\n"), told)
            self.assertIn(hint, told)
            self.assertEqual("hint" in told, bool(hint))

    def test_answers_that_are_none_of_ours(self) -> None:
        for status, body in (
            (200, b"{}"), (302, b""), (404, b"<html>"), (500, b"[" * 60_000), (502, b"\xff"),
        ):
            self.assertIn(f"HTTP {status}", self.refused(status, body))
        self.assertEqual(len(self.daemon.asked), 5)
        self.assertIn("\\x1b[2J", self.refused(400, b'{"code":"x","message":"\\u001b[2J"}'))

    def test_no_answer(self) -> None:
        self.assertIn("may have been placed", self.refused(0, b""))

    def test_no_daemon(self) -> None:
        port = free_port()
        result = self.call(url=f"http://127.0.0.1:{port}")
        self.assertEqual(result.exit_code, 3)
        self.assertTrue(result.stderr.startswith(f"error: no daemon at 127.0.0.1:{port}: "), result.stderr)
        for host in ("a..example", "x" * 70 + ".invalid"):
            self.assertEqual(self.call(url=f"http://{host}").exit_code, 3)

    def test_a_certificate_nobody_knows(self) -> None:
        tls = TlsFiles(self.mktemp_path())
        daemon = Daemon(self, tls)
        url = daemon.url.replace("http", "https")
        result = self.call(url=url)
        self.assertEqual((result.exit_code, daemon.asked), (3, []))
        self.assertIn("error: TLS failed: ", result.stderr)
        with patch.dict(os.environ, {"SSL_CERT_FILE": str(tls.ca_path)}):
            self.assertEqual(self.call(url=url).exit_code, 0)

    def test_a_token_that_no_header_can_hold(self) -> None:
        for token in ("a\r\nX: y", "\N{SNOWMAN}"):
            result = self.call("--admin-token", token)
            self.assertEqual((result.exit_code, self.daemon.asked), (2, []))
            self.assertNotIn(token, result.output)
