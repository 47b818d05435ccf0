"""One request and its answer at a real port: bodies in pieces, answers that are legal and that are not."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.http.live import in_loop
from tests.http.test_asgi import Case, body, start
from voiceingest.errors import Forbidden
from voiceingest.http.asgi_exchange import read_head
from voiceingest.limits import BODY_MAX_BYTES

CANARY = "canary-7f3a"


class BodyTests(Case):
    @in_loop
    async def test_in_pieces_and_then_the_end(self) -> None:
        seen: list[tuple[int, bool]] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            more = True
            while more:
                message = await receive()
                more = message["more_body"]
                seen.append((len(message["body"]), more))
            await send(start())
            await send(body())
            seen.append(((await receive())["type"], False))

        self.app = app
        await self.ask("POST", "/app", body=b"x" * 40_000)
        await self.ask("POST", "/app", {"Transfer-Encoding": "chunked"}, b"3\r\nabc\r\n0\r\n\r\n")
        await self.ask("GET", "/app")
        end = ("http.disconnect", False)
        self.assertEqual(
            seen,
            [(16384, True), (16384, True), (7232, False), end, (3, False), end, (0, False), end],
        )

    @in_loop
    async def test_too_large(self) -> None:
        self.assertEqual((await self.ask("POST", "/app", body=b"x" * BODY_MAX_BYTES)).status, 200)
        answer = await self.ask("POST", "/app", {"Content-Length": str(BODY_MAX_BYTES + 1)}, b"")
        self.assertEqual((answer.status, answer.json()["code"]), (413, "frame_too_big"))


class AnswerTests(Case):
    @in_loop
    async def test_whole(self) -> None:
        answer = await self.says(start(201, (b"X-Own", b"1"), (b"x-own", b"2")), body(b"hello"))
        self.assertEqual((answer.status, answer.reason, answer.body), (201, "Created", b"hello"))
        self.assertEqual(answer.headers["content-length"], "5")
        self.assertNotIn("transfer-encoding", answer.headers)
        self.assertEqual([value for name, value in answer.fields if name == "x-own"], ["1", "2"])
        self.assert_safe(answer)
        self.assertEqual(len(answer.headers["x-request-id"]), 20)

    @in_loop
    async def test_the_application_s_own_headers_go_before_ours(self) -> None:
        answer = await self.says(
            start(200, (b"cache-control", b"max-age=9"), (b"date", b"then"), (b"x-request-id", b"forged")),
            body(),
        )
        found = [(name, value) for name, value in answer.fields if name in ("cache-control", "date")]
        self.assertEqual(sorted(found), [("cache-control", "max-age=9"), ("date", "then")])
        self.assertNotIn("forged", str(answer.fields))

    @in_loop
    async def test_streamed(self) -> None:
        pieces = (body(b"a", more=True), body(more=True), body(b"b", more=True))
        answer = await self.says(start(), *pieces, body())
        self.assertEqual((answer.headers["transfer-encoding"], answer.body), ("chunked", b"ab"))
        answer = await self.says(start(200, (b"Content-Length", b"2")), body(b"a", more=True), body(b"b"))
        self.assertEqual((answer.headers["content-length"], answer.body), ("2", b"ab"))
        self.assertNotIn("transfer-encoding", answer.headers)

    @in_loop
    async def test_a_caller_of_http_1_0(self) -> None:
        self.messages = [start(), body(b"a", more=True), body(b"b")]
        caller = await self.connect()
        caller.writer.write(b"GET /app HTTP/1.0\r\n\r\n")
        answer = await caller.answer()
        self.assertEqual(answer.body, b"ab")
        self.assertEqual(self.scope["http_version"], "1.0")
        self.assertNotIn("transfer-encoding", answer.headers)

    @in_loop
    async def test_head(self) -> None:
        for messages, length in (
            ((start(), body(b"hello")), "5"),
            ((start(200, (b"content-length", b"9")), body()), "9"),
            ((start(), body(b"a", more=True), body()), None),
        ):
            answer = await self.says(*messages, method="HEAD")
            self.assertEqual(answer.headers.get("content-length"), length)
            self.assertNotIn("transfer-encoding", answer.headers)

    @in_loop
    async def test_no_body_and_the_connection_goes_on(self) -> None:
        caller = await self.connect()
        for method, status in (("GET", 204), ("GET", 304), ("HEAD", 200), ("GET", 200)):
            self.messages = [start(status), body(b"never")]
            await caller.send(method, "/app")
            answer = await caller.answer(method)
            self.assertEqual(answer.status, status)
            self.assertEqual("content-length" in answer.headers, status == 200)
            self.assertNotIn("transfer-encoding", answer.headers)

    @in_loop
    async def test_what_is_between_hops_is_not_the_application_s(self) -> None:
        answer = await self.says(
            start(200, (b"Transfer-Encoding", b"chunked"), (b"Connection", b"close"), (b"Upgrade", b"x")),
            body(b"hello"),
        )
        self.assertEqual(answer.body, b"hello")
        for name in ("transfer-encoding", "connection", "upgrade"):
            self.assertNotIn(name, answer.headers)

    @in_loop
    async def test_answers_that_are_not_legal_are_500(self) -> None:
        for kind, messages in (
            (ValueError, (start(200, (b"x-a", b"b\r\nx-c: d")), body())),
            (ValueError, (start(200, (b"x a", b"b")), body())),
            (ValueError, (start(200, (b"", b"b")), body())),
            (ValueError, (start(200, (b"x\n", b"b")), body())),
            (ValueError, (start(200, (b"x-a", b"\0")), body())),
            (ValueError, (start(101), body())),
            (ValueError, (start(600), body())),
            (ValueError, (start(200, (b"content-length", b"-1")), body())),
            (ValueError, (start(200, (b"content-length", b"1"), (b"content-length", b"2")), body(b"a"))),
            (TypeError, (start(200, ("x-a", "b")), body())),  # type: ignore[arg-type]
            (TypeError, (start(), body("text"))),  # type: ignore[arg-type]
            (RuntimeError, (start(200, (b"content-length", b"3")), body(b"four"))),
            (RuntimeError, (start(200, (b"content-length", b"3")), body(b"2"))),
            (RuntimeError, (body(b"first"),)),
            (RuntimeError, (start(), start(), body())),
            (RuntimeError, ({"type": "http.response.trailers", "headers": []},)),
            (RuntimeError, (start(),)),
            (RuntimeError, ()),
        ):
            self.assert_refused(await self.says(*messages), 500, "internal")
            self.failed(kind)

    @in_loop
    async def test_half_an_answer_is_cut(self) -> None:
        for messages in (
            (start(), body(b"half", more=True)),
            (start(), body(b"half", more=True), start()),
            (start(200, (b"content-length", b"9")), body(b"half", more=True), body()),
            (start(200, (b"content-length", b"5")), body(b"half", more=True), body(b"more")),
        ):
            answer = await self.says(*messages)
            self.assertEqual((answer.status, answer.whole), (200, False))
            self.failed(RuntimeError)
        self.assertEqual(self.metrics.errors["internal", "http"], 4)

    @in_loop
    async def test_more_after_the_end_is_an_error_and_the_answer_stands(self) -> None:
        answer = await self.says(start(), body(b"all"), body(b"more"))
        self.assertEqual((answer.body, answer.whole), (b"all", True))
        await self.until(lambda: self.resource.running == 0)
        self.failed(RuntimeError)

    @in_loop
    async def test_half_an_answer_whose_end_is_that_of_the_connection_is_cut(self) -> None:
        self.messages = [start(), body(b"half", more=True)]
        caller = await self.connect()
        caller.writer.write(b"GET /app HTTP/1.0\r\n\r\n")
        with self.assertRaises(ConnectionError):
            await caller.reader.read()
            await caller.reader.read()
        await self.until(lambda: self.resource.running == 0)
        self.failed(RuntimeError)

    @in_loop
    async def test_what_it_raises(self) -> None:
        async def before(scope: Any, receive: Any, send: Any) -> None:
            await send(start())
            raise KeyError(CANARY)

        async def after(scope: Any, receive: Any, send: Any) -> None:
            await send(start())
            await send(body(b"half", more=True))
            raise KeyError(CANARY)

        async def ours(scope: Any, receive: Any, send: Any) -> None:
            raise Forbidden

        self.app = before
        answer = await self.ask("GET", "/app")
        self.assert_refused(answer, 500, "internal")
        self.assertNotIn(CANARY.encode(), answer.body)
        self.app = after
        self.assertFalse((await self.ask("GET", "/app")).whole)
        self.app = ours
        self.assert_refused(await self.ask("GET", "/app"), 403, "forbidden")
        self.failed(KeyError, KeyError)

    @in_loop
    async def test_one_that_never_answers(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(3600)

        self.app = app
        self.put(patience_s=0.01)
        self.assert_refused(await self.ask("GET", "/app"), 500, "internal")
        self.failed(TimeoutError)

    @in_loop
    async def test_patience_is_for_the_beginning(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(start())
            await send(body(b"a", more=True))
            await asyncio.sleep(0.1)
            await send(body(b"b"))

        self.app = app
        self.put(patience_s=0.05)
        self.assertEqual((await self.ask("GET", "/app")).body, b"ab")

    def test_heads(self) -> None:
        head = read_head(200, [(b"A", b""), (b"a", b"\xff\t "), (b"Content-Length", b"7")])
        self.assertEqual((head.headers, head.length), ({b"a": [b"", b"\xff\t "]}, 7))
        for status in (True, "200", 99, 100, 199, 600, None):
            self.assertRaises(ValueError, read_head, status, [])
