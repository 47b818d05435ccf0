"""The OpenAPI document is complete, and what is made of it shows all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.errors import every_error
from voiceingest.http.api.app import operator_app, public_app
from voiceingest.http.api.manual import page
from voiceingest.http.api.outline import operations
from voiceingest.http.api.page import PAGE_HEADERS, html_page

IDS = {
    "registerDevice": ("POST", "/api/auth/register"),
    "refreshTokens": ("POST", "/api/auth/refresh"),
    "revokeTokens": ("POST", "/api/auth/revoke"),
    "createSession": ("POST", "/api/session/create"),
    "listSessions": ("GET", "/api/session"),
    "getSession": ("GET", "/api/session/{id}"),
    "editSession": ("PATCH", "/api/session/{id}"),
    "endSession": ("DELETE", "/api/session/{id}"),
    "listEverySession": ("GET", "/api/admin/sessions"),
    "getAnySession": ("GET", "/api/admin/sessions/{id}"),
    "endAnySession": ("DELETE", "/api/admin/sessions/{id}"),
    "listDevices": ("GET", "/api/admin/devices"),
    "revokeDevice": ("POST", "/api/admin/devices/{id}/revoke"),
}


def references(node: Any) -> Iterator[str]:
    """Every ``$ref``."""
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name == "$ref")
        node = list(node.values())
    if isinstance(node, list):
        for below in node:
            yield from references(below)


class DocumentTests(SynchronousTestCase):
    documents = (public_app().state.document, operator_app().state.document)

    def test_operations_have_stable_ids(self) -> None:
        found = {
            one.operation_id: (one.method, one.path) for each in self.documents for one in operations(each)
        }
        self.assertEqual(found, IDS)

    def test_every_reference_leads_somewhere(self) -> None:
        for document in self.documents:
            for reference in references(document):
                node = document
                for name in reference.removeprefix("#/").split("/"):
                    node = node[name]
            self.assertNotIn("x-codes", str(document))
            self.assertNotIn("HTTPValidationError", str(document))

    def test_every_answer_is_described_with_its_codes_and_headers(self) -> None:
        statuses = {error.code: str(error.http_status) for error in every_error()}
        for document in self.documents:
            for one in operations(document):
                codes = {code for outcome in one.outcomes for code in outcome.codes}
                self.assertLessEqual({"internal", "store_unavailable"}, codes)
                is_limited = not one.path.startswith("/api/admin/")
                self.assertEqual("too_many_requests" in codes, is_limited)
                self.assertEqual(
                    "token_expired" in codes, one.token == "bearer" or one.path.endswith("/refresh")
                )
                self.assertEqual("frame_too_big" in codes, bool(one.body))
                for outcome in one.outcomes:
                    self.assertTrue(outcome.text)
                    self.assertEqual({statuses[code] for code in outcome.codes} - {outcome.status}, set())
                    described = document["paths"][one.path][one.method.lower()]["responses"][outcome.status]
                    self.assertIn("X-Request-Id", described["headers"])
                    self.assertEqual("RateLimit-Remaining" in described["headers"], is_limited)
                    self.assertEqual("Retry-After" in described["headers"], outcome.status in ("429", "503"))

    def test_every_member_says_what_it_is(self) -> None:
        for document in self.documents:
            for one in operations(document):
                rows = [
                    *one.parameters,
                    *one.body,
                    *(row for outcome in one.outcomes for row in outcome.rows),
                ]
                self.assertEqual([row.name for row in rows if not row.text], [])
                self.assertTrue(one.text)
                self.assertEqual(bool(one.body), bool(one.body_example))
                self.assertNotIn("any", [row.type for row in rows])

    def test_the_page_shows_it_and_takes_nothing_from_elsewhere(self) -> None:
        shown = html_page(self.documents[0])
        for one in operations(self.documents[0]):
            self.assertIn(f'id="{one.operation_id}"', shown)
            for outcome in one.outcomes:
                for code in outcome.codes:
                    self.assertIn(f"<code>{code}</code>", shown)
        for word in ("<script", "src=", "http://", "https://", "@import", "url(", " style=", "onclick"):
            self.assertNotIn(word, shown)
        self.assertIn("width=device-width", shown)
        self.assertNotIn("unsafe", PAGE_HEADERS["Content-Security-Policy"])

    def test_the_page_escapes(self) -> None:
        document = public_app().state.document
        document["info"]["title"] = "<b>&"
        document["paths"]["/api/session"]["get"]["summary"] = '"><script>'
        shown = html_page(document)
        self.assertIn("&lt;b&gt;&amp;", shown)
        self.assertNotIn("<script", shown)

    def test_the_manual_has_every_operation(self) -> None:
        text = page()
        for method, path in IDS.values():
            self.assertIn(f"\n## {method} {path}\n", text)
        self.assertNotIn("Successful Response", text)
