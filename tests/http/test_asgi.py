"""Applications of ASGI at a real port: what they are told, what they may answer, who leaves when."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, StreamingResponse

from tests.http.live import Answer, Caller, LiveCase, in_loop
from voiceingest.aio import as_deferred, as_future
from voiceingest.http import asgi
from voiceingest.http.asgi import AsgiResource
from voiceingest.http.asgi_exchange import CallerGone


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """The first message of an answer."""
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(content: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    """One of the others."""
    return {"type": "http.response.body", "body": content, "more_body": more}


class Case(LiveCase):
    """A site with one application, which is what the test says."""

    def setUp(self) -> None:
        super().setUp()
        self.scope: dict[str, Any] = {}
        self.app: Any = None
        self.messages: list[dict[str, Any]] = [start(), body(b"hello")]
        self.put()

    def put(self, proxies: tuple[str, ...] = (), *, deadline_s: float = 60.0, **options: Any) -> None:
        """Serve the application."""
        self.resource = AsgiResource(self._call, self.metrics, **options)
        self.addCleanup(self.resource.close)
        self.serve({"/app": self.resource, "/app/{id}": self.resource}, proxies, deadline_s=deadline_s)

    async def _call(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        if self.app is not None:
            await self.app(scope, receive, send)
            return
        for message in self.messages:
            await send(message)

    async def says(self, *messages: dict[str, Any], method: str = "GET") -> Answer:
        """What a caller gets of these."""
        self.messages = list(messages)
        return await self.ask(method, "/app")

    def failed(self, *kinds: type[Exception]) -> None:
        """Exactly these were logged."""
        self.assertEqual([failure.type for failure in self.flushLoggedErrors()], list(kinds))


class ScopeTests(Case):
    @in_loop
    async def test_what_it_is_told(self) -> None:
        headers = {"X-A": "1", "X-B": "\xe9", "X-Request-Id": "abc"}
        await self.ask("POST", "/app/x-1?a=%20b&c", headers, b"x")
        told = {name: self.scope[name] for name in self.scope if name not in ("headers", "client", "server")}
        self.assertEqual(
            told,
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.5"},
                "http_version": "1.1",
                "method": "POST",
                "scheme": "http",
                "path": "/app/x-1",
                "raw_path": b"/app/x-1",
                "query_string": b"a=%20b&c",
                "root_path": "",
                "state": {"request_id": "abc", "route": "/app/{id}"},
                "extensions": {},
            },
        )
        self.assertEqual(self.scope["server"], ("127.0.0.1", self.port))
        self.assertEqual(self.scope["client"][0], "127.0.0.1")
        self.assertGreater(self.scope["client"][1], 0)
        self.assertIn((b"x-b", b"\xe9"), self.scope["headers"])
        self.assertEqual(self.routes_measured(), {"/app/{id}"})

    @in_loop
    async def test_duplicate_headers_are_all_told(self) -> None:
        caller = await self.connect()
        caller.writer.write(b"GET /app HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a: 2\r\n\r\n")
        await caller.answer()
        self.assertEqual([value for name, value in self.scope["headers"] if name == b"x-a"], [b"1", b"2"])

    @in_loop
    async def test_a_root_path_and_a_state(self) -> None:
        self.put(root_path="/below", state={"x": 1})
        await self.ask("GET", "/app")
        self.assertEqual((self.scope["root_path"], self.scope["state"]["x"]), ("/below", 1))
        self.scope["state"]["x"] = 2
        await self.ask("GET", "/app")
        self.assertEqual(self.scope["state"]["x"], 1)

    @in_loop
    async def test_nobody_s_word_is_taken_who_is_no_proxy(self) -> None:
        await self.ask("GET", "/app", {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"})
        self.assertEqual((self.scope["client"][0], self.scope["scheme"]), ("127.0.0.1", "http"))

    @in_loop
    async def test_behind_a_proxy_each_request_has_its_caller(self) -> None:
        self.put(("127.0.0.1",))
        caller = await self.connect()
        for address, said, scheme in (
            ("192.0.2.7", "https", "https"),
            ("192.0.2.8", "http", "http"),
            ("6.6.6.6, 192.0.2.9", "x", "http"),
        ):
            await caller.send("GET", "/app", {"X-Forwarded-For": address, "X-Forwarded-Proto": said})
            await caller.answer()
            self.assertEqual(self.scope["client"], (address.rpartition(" ")[2], 0))
            self.assertEqual(self.scope["scheme"], scheme)
        await caller.send("GET", "/app")
        await caller.answer()
        self.assertEqual(self.scope["client"][0], "127.0.0.1")

    @in_loop
    async def test_paths_that_lead_nowhere(self) -> None:
        for path in (
            "/app/",
            "/app//",
            "//app",
            "/app/a/b",
            "/app/%61",
            "/app/%2e%2e",
            "/app/..",
            "/app/.",
            "/app/a%00",
            "/app/{id}",
            "/app/" + "x" * 129,
            "/app/a;b",
            "/APP",
            "/app/x/",
        ):
            self.assert_refused(await self.ask("GET", path), 404, "not_found")
        self.assertEqual(self.scope, {})
        self.assertEqual(self.routes_measured(), {"unmatched"})
        self.assertEqual((await self.ask("GET", "/app/" + "x" * 128)).status, 200)


class LeavingTests(Case):
    """Callers that go away, read slowly or not at all; and the end of the daemon."""

    async def hanging(self, method: str = "GET") -> tuple[Caller, list[str]]:
        """A caller whose application waits for ever, and what that saw."""
        seen: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append("begun")
            try:
                await receive()
                seen.append((await receive())["type"])
                await asyncio.sleep(0.01)
                seen.append("done")
                await send(start())
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
            except CallerGone:
                seen.append("gone")
                raise

        self.app = app
        caller = await self.connect()
        await caller.send(method, "/app")
        await self.until(lambda: seen)
        return caller, seen

    @in_loop
    async def test_a_caller_that_leaves_ends_its_task(self) -> None:
        caller, seen = await self.hanging()
        self.assertEqual(self.resource.running, 1)
        await caller.close()
        await self.until(lambda: self.resource.running == 0)
        self.assertEqual(seen[-1], "cancelled")
        self.assertEqual(self.metrics.errors["internal", "http"], 0)

    @in_loop
    async def test_what_must_be_finished_is(self) -> None:
        self.put(finishes=("POST",))
        caller, seen = await self.hanging("POST")
        await caller.close()
        await self.until(lambda: self.resource.running == 0)
        self.assertEqual(seen, ["begun", "http.disconnect", "done", "gone"])
        self.failed()

    @in_loop
    async def test_closing_cancels_and_waits(self) -> None:
        caller, seen = await self.hanging()
        await as_future(self.resource.close())
        self.assertEqual((seen, self.resource.running), (["begun", "cancelled"], 0))
        self.assert_refused(await caller.answer(), 503, "draining")
        self.assert_refused(await self.ask("GET", "/app"), 503, "draining")

    @in_loop
    async def test_closing_cuts_what_has_begun(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(start())
            await send(body(b"a", more=True))
            await asyncio.sleep(3600)

        self.app = app
        caller = await self.connect()
        await caller.send("GET", "/app")
        await caller.head()
        await as_future(self.resource.close())
        self.assertEqual(self.resource.running, 0)

    @in_loop
    async def test_a_task_that_takes_its_time_to_end_is_waited_for(self) -> None:
        seen: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append("begun")
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.01)
                seen.append("ended")

        self.app = app
        caller = await self.connect()
        await caller.send("GET", "/app")
        await self.until(lambda: seen)
        await as_future(self.resource.close())
        self.assertEqual(seen, ["begun", "ended"])

    @in_loop
    async def test_a_caller_that_does_not_read_stops_the_application(self) -> None:
        """What is written is what fits into the buffers between, and no more; then all of it comes."""
        sent = 0
        total = 400

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            await send(start())
            for _ in range(total):
                await send(body(b"x" * 65536, more=True))
                sent += 1
            await send(body())

        self.app = app
        # asyncio's reader takes twice its limit and then reads no more.
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port, limit=4096))
        self.addCleanup(lambda: as_deferred(caller.close()))
        await caller.send("GET", "/app")
        before = -1
        while before != sent or sent == 0:
            before = sent
            await asyncio.sleep(0.1)
        self.assertLess(sent, total)
        self.assertEqual(len((await caller.answer()).body), total * 65536)

    @in_loop
    async def test_one_that_leaves_unread_answers_ends_the_task(self) -> None:
        ended: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await send(start())
                while True:
                    await send(body(b"x" * 65536, more=True))
            finally:
                ended.append("ended")

        self.app = app
        self.put(deadline_s=0.2)
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port, limit=4096))
        await caller.send("GET", "/app")
        await caller.head()
        caller.writer.transport.abort()
        # Where reading has stopped, it is the deadline for unread answers that notices.
        await self.until(lambda: ended)
        await self.until(lambda: self.resource.running == 0)

    @in_loop
    async def test_requests_in_a_row_are_answered_in_a_row(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0)
            await send(start())
            await send(body(scope["query_string"]))

        self.app = app
        caller = await self.connect()
        for number in range(5):
            await caller.send("GET", f"/app?{number}")
        found = [(await caller.answer()).body for _ in range(5)]
        self.assertEqual(found, [b"0", b"1", b"2", b"3", b"4"])

    @in_loop
    async def test_too_many_at_once(self) -> None:
        self.patch(asgi, "TASKS_MAX_COUNT", 1)
        await self.hanging()
        self.assert_refused(await self.ask("GET", "/app"), 503, "too_many_connections")


class StarletteTests(Case):
    """What Starlette expects of a server."""

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[Any] = []

    @in_loop
    async def test_a_streamed_answer(self) -> None:
        async def words() -> Any:
            for word in ("one ", "two ", "three"):
                yield word
                await asyncio.sleep(0)

        self.app = StreamingResponse(words())
        self.assertEqual((await self.ask("GET", "/app")).body, b"one two three")

    @in_loop
    async def test_a_streamed_answer_whose_caller_leaves(self) -> None:
        async def endless() -> Any:
            try:
                while True:
                    self.seen.append("word")
                    yield b"x"
                    await asyncio.sleep(0.001)
            finally:
                self.seen.append("closed")

        self.app = StreamingResponse(endless())
        self.put(finishes=("GET",), quiet=(ClientDisconnect,))
        caller = await self.connect()
        await caller.send("GET", "/app")
        await caller.head()
        await caller.close()
        await self.until(lambda: self.resource.running == 0)
        self.assertEqual(self.flushLoggedErrors(), [])

    @in_loop
    async def test_a_background_task_runs_after_the_answer(self) -> None:
        go = asyncio.Event()

        async def later() -> None:
            await go.wait()
            self.seen.append("done")

        self.app = JSONResponse({"a": 1}, background=BackgroundTask(later))
        answer = await self.ask("GET", "/app")
        self.assertEqual((answer.json(), self.seen, self.resource.running), ({"a": 1}, [], 1))
        go.set()
        await self.until(lambda: self.resource.running == 0)
        self.assertEqual(self.seen, ["done"])

    @in_loop
    async def test_a_body_that_is_streamed(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            async for piece in Request(scope, receive).stream():
                self.seen.append(len(piece))
            await JSONResponse({})(scope, receive, send)

        self.app = app
        await self.ask("POST", "/app", body=b"x" * 20_000)
        self.assertEqual(self.seen, [16384, 3616, 0])

    @in_loop
    async def test_whether_the_caller_is_there(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            request = Request(scope, receive)
            await request.body()
            self.seen.append(await request.is_disconnected())
            while not await request.is_disconnected():
                await asyncio.sleep(0.001)
            self.seen.append(True)

        self.app = app
        self.put(finishes=("POST",))
        caller = await self.connect()
        await caller.send("POST", "/app", body=b"x")
        await self.until(lambda: self.seen)
        await caller.close()
        await self.until(lambda: self.resource.running == 0)
        self.assertEqual(self.seen, [False, True])
