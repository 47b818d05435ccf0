"""A site at a real port, and a caller by hand: raw bytes over a socket, answers read as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource

from tests.support.case import TestCase
from voiceingest.aio import as_deferred
from voiceingest.gate import Gate
from voiceingest.http.resource import Routes
from voiceingest.http.site import GuardedSite
from voiceingest.metrics import Metrics

Test = Callable[[Any], Coroutine[Any, Any, None]]

# For what hangs: no deadline of anything a test is about.
_DEADLINE_S = 60.0


def in_loop(test: Test) -> Callable[[Any], Deferred[None]]:
    """A test written as a coroutine of asyncio."""

    @wraps(test)
    def run(self: Any) -> Deferred[None]:
        return as_deferred(asyncio.wait_for(test(self), _DEADLINE_S))

    return run


@dataclass
class Answer:
    """One answer, as it came; ``whole`` is whether it ended as it should."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes
    whole: bool = True

    @property
    def headers(self) -> dict[str, str]:
        """The last of each name."""
        return dict(self.fields)

    def json(self) -> Any:
        """The body, which has to be JSON."""
        assert self.headers["content-type"].startswith("application/json"), self.headers
        return json.loads(self.body)


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> None:
        """Send one request; a body gets its length unless the headers say something else."""
        given = {"Host": "localhost", **(headers or {})}
        if body is not None and "Transfer-Encoding" not in given:
            given.setdefault("Content-Length", str(len(body)))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        self.writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))
        await self.writer.drain()

    async def head(self) -> Answer:
        """The head of the next answer."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1")[:-4].split("\r\n")
        _, status, reason = first.split(" ", 2)
        fields = [(name.lower(), value) for name, value in (line.split(": ", 1) for line in lines)]
        return Answer(int(status), reason, fields, b"")

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer, to its end or to that of the connection."""
        found = await self.head()
        if method == "HEAD" or found.status in (204, 304):
            return found
        try:
            if found.headers.get("transfer-encoding") == "chunked":
                while piece := await self.piece():
                    found.body += piece
            elif "content-length" in found.headers:
                found.body = await self.reader.readexactly(int(found.headers["content-length"]))
            else:
                found.body = await self.reader.read()
        except (asyncio.IncompleteReadError, ConnectionError) as cut:
            found.body += getattr(cut, "partial", b"")
            found.whole = False
        return found

    async def piece(self) -> bytes:
        """One chunk; nothing is the last."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def close(self) -> None:
        """Leave."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


class LiveCase(TestCase):
    """Tests of resources at a real port."""

    def setUp(self) -> None:
        """Make what a site needs."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.metrics = Metrics()
        self.port = 0
        self.site: Any = None

    def serve(
        self, resources: Mapping[str, IResource], proxies: tuple[str, ...] = (), *, deadline_s: float = 60.0
    ) -> None:
        """Listen with these; ``deadline_s`` is for requests, and for answers that nobody reads."""
        root = Routes(self.metrics, resources)
        self.site = GuardedSite(root, self.reactor, self.metrics, Gate(0, 0, proxies), deadline_s)
        listening = self.reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.port = listening.getHost().port
        self.addCleanup(listening.stopListening)

    async def connect(self) -> Caller:
        """A connection, closed when the test is over."""
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port))
        self.addCleanup(lambda: as_deferred(caller.close()))
        return caller

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        caller = await self.connect()
        await caller.send(method, path, headers, body)
        found = await caller.answer(method)
        await caller.close()
        return found

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something; ``in_loop`` ends it when it does not happen."""
        while not condition():
            await asyncio.sleep(0.001)

    def routes_measured(self) -> set[str]:
        """The labels ``route`` there are."""
        return {labels[1] for labels, _ in self.metrics.http_duration.series()}

    def assert_refused(self, answer: Answer, status: int, code: str) -> None:
        """It is an error in the one shape there is."""
        said = answer.json()
        self.assertEqual((answer.status, said["code"]), (status, code))
        self.assertEqual(set(said) - {"fields"}, {"code", "message", "request_id"})
        self.assertEqual(said["request_id"], answer.headers["x-request-id"])
        self.assert_safe(answer)

    def assert_safe(self, answer: Answer) -> None:
        """It carries the headers every answer has, and not the ones none has."""
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        self.assertEqual(answer.headers["referrer-policy"], "no-referrer")
        self.assertIn("default-src 'none'", answer.headers["content-security-policy"])
        self.assertNotIn("server", answer.headers)
