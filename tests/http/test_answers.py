"""Answers by themselves: headers, bodies, ids. What whole sites answer is in ``test_resource``."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.web.server import NOT_DONE_YET, Request
from twisted.web.test.requesthelper import DummyChannel

from tests.support.case import SynchronousTestCase
from voiceingest.errors import (
    Draining,
    Forbidden,
    FrameTooBig,
    InternalError,
    Overloaded,
    RateLimited,
    Unauthenticated,
    UpgradeRequired,
    UpstreamBusy,
    VoiceIngestError,
    every_error,
)
from voiceingest.http.answers import (
    JSON_TYPE,
    SECURE_HEADERS,
    Answer,
    answer,
    answer_error,
    new_request_id,
    request_id,
)


class Case(SynchronousTestCase):
    """One request of its own for every answer."""

    def request(self, method: bytes = b"GET", *ids: bytes) -> Request:
        """A request that has been read."""
        self.channel: Any = DummyChannel()
        request = Request(self.channel, False)
        request.method, request.clientproto = method, b"HTTP/1.1"
        request.requestHeaders.setRawHeaders(b"X-Request-Id", list(ids))
        return request

    def written(self) -> tuple[int, dict[str, list[str]], bytes]:
        """Status, headers by name in lower case, body."""
        head, _, body = self.channel.transport.written.getvalue().partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers: dict[str, list[str]] = {}
        for name, value in (line.split(": ", 1) for line in lines):
            headers.setdefault(name.lower(), []).append(value)
        return int(first.split()[1]), headers, body


class Bodies(Case):
    """What is written for an ``Answer``."""

    def test_json_is_compact_and_typed(self) -> None:
        self.assertEqual(answer(self.request(), Answer(201, {"a": 1, "b": ["é", None]})), NOT_DONE_YET)
        status, headers, body = self.written()
        self.assertEqual((status, body), (201, b'{"a":1,"b":["\\u00e9",null]}'))
        self.assertEqual(headers["content-type"], [JSON_TYPE])
        self.assertEqual(headers["content-length"], [str(len(body))])

    def test_bytes_are_written_as_they_are(self) -> None:
        answer(self.request(), Answer(200, b"a\x00b", {"Content-Type": "text/plain"}))
        _, headers, body = self.written()
        self.assertEqual((body, headers["content-type"]), (b"a\x00b", ["text/plain"]))

    def test_json_may_name_another_type(self) -> None:
        answer(self.request(), Answer(200, {}, {"Content-Type": "application/problem+json"}))
        self.assertEqual(self.written()[1]["content-type"], ["application/problem+json"])

    def test_nothing(self) -> None:
        answer(self.request(), Answer())
        status, headers, body = self.written()
        self.assertEqual((status, body, headers["content-length"]), (200, b"", ["0"]))
        answer(self.request(), Answer(204))
        status, headers, body = self.written()
        self.assertEqual((status, body), (204, b""))
        self.assertNotIn("content-length", headers)

    def test_head_has_the_length_and_not_the_body(self) -> None:
        answer(self.request(b"HEAD"), Answer(200, {"a": 1}))
        _, headers, body = self.written()
        self.assertEqual((headers["content-length"], body), (["7"], b""))

    def test_secure_headers_once_and_may_be_replaced(self) -> None:
        request = self.request()
        request.setHeader(b"Cache-Control", b"public")
        answer(request, Answer(200, {}, {"Referrer-Policy": "origin"}))
        headers = self.written()[1]
        for name, value in {**SECURE_HEADERS, "Referrer-Policy": "origin"}.items():
            self.assertEqual(headers[name.lower()], [value])

    def test_close(self) -> None:
        answer(self.request(), Answer(), close=True)
        self.assertEqual(self.written()[1]["connection"], ["close"])
        self.assertIs(self.channel.persistent, False)
        answer(self.request(), Answer())
        self.assertNotIn("connection", self.written()[1])

    def test_a_body_json_cannot_hold_writes_nothing(self) -> None:
        for body in ({"a": b"x"}, {"a": object()}):
            with self.assertRaises(TypeError):
                answer(self.request(), Answer(200, body))
            self.assertEqual(self.channel.transport.written.getvalue(), b"")


class Errors(Case):
    """What is written for an error of ours."""

    def test_every_error_has_the_one_shape(self) -> None:
        for kind in every_error():
            error = kind(("a problem",)) if kind.code == "bad_settings" else kind()  # type: ignore[arg-type]
            self.assertEqual(answer_error(self.request(b"GET", b"id-1"), error), NOT_DONE_YET)
            status, headers, body = self.written()
            self.assertEqual(status, kind.http_status)
            self.assertEqual(headers["content-type"], [JSON_TYPE])
            expected = {"code": kind.code, "message": error.message, "request_id": "id-1"}
            self.assertEqual(json.loads(body), expected)
            self.assertEqual("www-authenticate" in headers, kind.http_status == 401, kind)
            self.assertEqual("retry-after" in headers, kind.http_status in (429, 503), kind)
            self.assertEqual("upgrade" in headers, kind.http_status == 426, kind)

    def test_a_busy_service_says_when_to_come_back(self) -> None:
        for wanted_s, expected in ((None, "5"), (30.0, "30"), (0.2, "1"), (7.5, "8")):
            answer_error(self.request(), UpstreamBusy(retry_after_s=wanted_s))
            self.assertEqual(self.written()[1]["retry-after"], [expected])

    def test_what_a_status_brings(self) -> None:
        table: list[tuple[VoiceIngestError, int, dict[str, str]]] = [
            (Unauthenticated(reason="expired"), 401, {"www-authenticate": "Bearer"}),
            (Forbidden(), 403, {}),
            (FrameTooBig("the body is larger than the limit"), 413, {}),
            (UpgradeRequired(), 426, {"upgrade": "websocket", "sec-websocket-version": "13"}),
            (RateLimited(), 429, {"retry-after": "5"}),
            (InternalError(), 500, {}),
            (Overloaded(), 503, {"retry-after": "5"}),
            (Draining(), 503, {"retry-after": "5"}),
        ]
        for error, status, expected in table:
            answer_error(self.request(), error)
            found, headers, body = self.written()
            self.assertEqual(found, status)
            for name, value in expected.items():
                self.assertEqual(headers[name], [value])
            self.assertNotIn(b"expired", body)

    def test_headers_of_the_caller_of_it(self) -> None:
        request = self.request()
        request.setHeader(b"Vary", b"Origin")
        answer_error(request, Forbidden(), headers={"Allow": "GET"}, close=True)
        headers = self.written()[1]
        self.assertEqual((headers["vary"], headers["allow"]), (["Origin"], ["GET"]))
        self.assertEqual(headers["connection"], ["close"])


class Ids(Case):
    """Correlation ids: a plain word of the caller's, else one of ours."""

    def test_the_same_for_the_whole_request(self) -> None:
        request = self.request()
        self.assertEqual(request_id(request), request_id(request))

    def test_two_are_none(self) -> None:
        self.assertRegex(request_id(self.request(b"GET", b"a", b"b")), r"\A[a-z]{20}\Z")

    @given(st.binary(max_size=70))
    def test_nothing_but_a_plain_word_is_repeated(self, given_id: bytes) -> None:
        found = request_id(self.request(b"GET", given_id.replace(b"\r", b"").replace(b"\n", b"")))
        self.assertRegex(found, r"\A[A-Za-z0-9._-]{1,64}\Z")

    def test_ours_differ(self) -> None:
        self.assertEqual(len({new_request_id() for _ in range(200)}), 200)
