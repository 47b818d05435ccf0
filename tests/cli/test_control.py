"""``voiceingest sessions`` and ``devices`` against an HTTP server that says what it is told to."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

from click.testing import Result

from tests.support.case import SynchronousTestCase
from tests.support.daemon import free_port

from .program import invoked

SESSION = {
    "sessionId": "ses_1",
    "status": "active",
    "transport": "ingest",
    "userId": "usr_1",
    "createdAt": "2026-11-28T20:15:00.123Z",
    "endedAt": None,
    "durationS": 12.5,
    "frames": 63,
    "metadata": {"order": "7 \x1b[2J"},
}
DEVICE = {
    "deviceId": "dev_1",
    "userId": "usr_1",
    "createdAt": "2026-11-28T20:15:00.123Z",
    "lastSeenAt": "2026-11-28T20:16:00.000Z",
    "revokedAt": None,
}


class Daemon:
    """Lists so many rows, answers anything else with one thing, and keeps what it is asked."""

    def __init__(self, case: Any) -> None:
        self.status = 200
        self.body: Any = {"success": True, "message": "done"}
        self.rows: dict[str, list[dict[str, Any]]] = {"sessions": [], "devices": []}
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        case.addCleanup(thread.join)
        case.addCleanup(self._server.server_close)
        case.addCleanup(self._server.shutdown)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, method: str, path: str) -> Any:
        name = urlsplit(path).path.rpartition("/")[2]
        if self.status != 200 or method != "GET" or name not in self.rows:
            return self.body
        query = {key: values[0] for key, values in parse_qs(urlsplit(path).query).items()}
        first = int(query.get("cursor", 0))
        last = first + int(query["limit"])
        rows = self.rows[name]
        return {name: rows[first:last], "nextCursor": str(last) if last < len(rows) else None}

    def _handler(daemon) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                daemon.asked.append((self.command, self.path))
                daemon.tokens.add(self.headers["Authorization"])
                answer = daemon._answer(self.command, self.path)
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(daemon.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = do_GET

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Nothing."""

        return Handler


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.daemon = Daemon(self)

    def run_it(self, *arguments: str) -> Result:
        result = invoked(*arguments, "--url", self.daemon.url)
        self.assertNotIn("Traceback", result.output)
        return result

    def done(self, *arguments: str) -> str:
        result = self.run_it(*arguments)
        self.assertEqual(result.exit_code, 0, result.output)
        return str(result.stdout)


class SessionsTests(Case):
    def test_a_list(self) -> None:
        self.daemon.rows["sessions"] = [SESSION, {**SESSION, "sessionId": "ses_22", "userId": None}]
        lines = self.done("sessions", "ls").splitlines()
        self.assertEqual(
            lines,
            [
                "session  status  by      user   created (UTC)        seconds  frames",
                "ses_1    active  ingest  usr_1  2026-11-28 20:15:00  12.5     63",
                "ses_22   active  ingest  -      2026-11-28 20:15:00  12.5     63",
            ],
        )
        self.assertEqual(self.daemon.asked, [("GET", "/api/admin/sessions?limit=50")])
        self.assertEqual(self.daemon.tokens, {None})

    def test_page_after_page(self) -> None:
        self.daemon.rows["sessions"] = [{**SESSION, "sessionId": f"ses_{n}"} for n in range(250)]
        out = self.done("sessions", "ls", "--limit", "220", "--json", "--admin-token", "canary")
        self.assertEqual([json.loads(line)["sessionId"] for line in out.splitlines()][-1], "ses_219")
        queries = [path.partition("?")[2] for _, path in self.daemon.asked]
        self.assertEqual(queries, ["limit=100", "limit=100&cursor=100", "limit=20&cursor=200"])
        self.assertEqual(self.daemon.tokens, {"Bearer canary"})

    def test_some_of_them(self) -> None:
        result = self.run_it("sessions", "ls", "--status", "active", "--user", "a b&c")
        self.assertEqual((result.exit_code, result.stdout), (0, ""))
        self.assertIn("no sessions", result.stderr)
        self.assertEqual(self.daemon.asked[0][1], "/api/admin/sessions?status=active&userId=a+b%26c&limit=50")
        self.assertEqual(self.run_it("sessions", "ls", "--status", "gone").exit_code, 2)

    def test_one(self) -> None:
        self.daemon.body = SESSION
        out = self.done("sessions", "show", "ses_1")
        self.assertIn("session id: ses_1\n", out)
        self.assertIn("ended at:   -\nseconds:    12.5\n", out)
        self.assertNotIn("\x1b", out)
        self.assertEqual(self.daemon.asked, [("GET", "/api/admin/sessions/ses_1")])
        self.assertEqual(json.loads(self.done("sessions", "show", "ses_1", "--json")), SESSION)

    def test_ended(self) -> None:
        self.assertEqual(self.done("sessions", "end", "ses_1", "ses_2"), "ended ses_1\nended ses_2\n")
        self.assertEqual([method for method, _ in self.daemon.asked], ["DELETE", "DELETE"])
        out = self.done("sessions", "end", "ses_1", "--json")
        self.assertEqual(json.loads(out), {"sessionId": "ses_1", "ended": True})
        self.assertEqual(self.run_it("sessions", "end").exit_code, 2)

    def test_words_that_are_no_ids(self) -> None:
        for command in (("sessions", "show"), ("sessions", "end"), ("devices", "revoke")):
            for word in ("a/b", "..", "a?b", "x" * 129, "a\r\nb"):
                self.assertEqual(self.run_it(*command, word).exit_code, 2)
        self.assertEqual(self.daemon.asked, [])

    def test_refused(self) -> None:
        for status, code, hint in (
            (401, "unauthorized", "ADMIN_TOKEN"),
            (404, "session_not_found", ""),
            (404, "not_found", "JWT_SECRET"),
            (409, "illegal_move", ""),
            (503, "store_unavailable", "later"),
        ):
            self.daemon.status = status
            self.daemon.body = {"code": code, "message": "A reason \x1b[2J", "request_id": "r"}
            for command in (("ls",), ("show", "ses_1"), ("end", "ses_1")):
                result = self.run_it("sessions", *command, "--json")
                self.assertEqual((result.exit_code, result.stdout), (1, ""))
                self.assertTrue(result.stderr.startswith(f"error: A reason \\x1b[2J ({code})\n"))
                self.assertEqual("hint" in result.stderr, bool(hint))
                self.assertIn(hint, result.stderr)

    def test_answers_that_are_none_of_ours(self) -> None:
        for body in (b"<html>", b"[]", b'{"sessions":7}', b'{"sessions":[7]}', b"[" * 60_000):
            self.daemon.rows.clear()
            self.daemon.body = body
            result = self.run_it("sessions", "ls")
            self.assertEqual(result.exit_code, 1)
            self.assertIn("cannot be read", result.stderr)
        self.daemon.status, self.daemon.body = 502, b"<html>"
        self.assertIn("error: HTTP 502", self.run_it("sessions", "ls").stderr)

    def test_no_daemon(self) -> None:
        result = invoked("sessions", "ls", "--url", f"http://127.0.0.1:{free_port()}")
        self.assertEqual(result.exit_code, 3)
        self.assertTrue(result.stderr.startswith("error: no daemon at 127.0.0.1:"))


class DevicesTests(Case):
    def test_a_list(self) -> None:
        self.daemon.rows["devices"] = [DEVICE]
        lines = self.done("devices", "ls").splitlines()
        self.assertEqual(lines[0].split()[:2], ["device", "user"])
        self.assertEqual(lines[1], "dev_1   usr_1  2026-11-28 20:15:00  2026-11-28 20:16:00  -")
        self.assertEqual(json.loads(self.done("devices", "ls", "--json")), DEVICE)

    def test_revoked(self) -> None:
        self.assertEqual(self.done("devices", "revoke", "dev_1", "--yes"), "revoked dev_1\n")
        self.assertEqual(self.daemon.asked, [("POST", "/api/admin/devices/dev_1/revoke")])

    def test_not_by_mistake(self) -> None:
        result = self.run_it("devices", "revoke", "dev_1")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("--yes", result.stderr)
        with patch("voiceingest.cli.control.devices._is_asked", return_value=True):
            for answer, code in ((False, 1), (True, 0)):
                with patch("click.confirm", return_value=answer):
                    self.assertEqual(self.run_it("devices", "revoke", "dev_1").exit_code, code)
        self.assertEqual(len(self.daemon.asked), 1)
