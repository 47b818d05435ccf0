"""A real site in memory: raw bytes in, raw bytes out, no socket and no clock but the test's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site


class Transport(StringTransport):
    """A StringTransport that can be aborted."""

    def abortConnection(self) -> None:
        """As a TCP transport has it."""
        self.loseConnection()


@dataclass
class Response:
    """One parsed answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body, which has to be JSON of the type it says."""
        assert self.headers["content-type"] == "application/json; charset=utf-8", self.headers
        return dict(json.loads(self.body))


class Wire:
    """One connection to a site."""

    def __init__(self, site: Site, address: str = "192.0.2.1") -> None:
        self.channel: Any = site.buildProtocol(IPv4Address("TCP", address, 50000))
        self.transport = Transport(peerAddress=IPv4Address("TCP", address, 50000))
        self.channel.makeConnection(self.transport)

    def send(self, head: str, body: bytes = b"") -> None:
        """Send a request head, given with line feeds, and a body."""
        self.channel.dataReceived(head.strip().replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)

    def answers(self) -> list[Response]:
        """Everything that was answered since the last call."""
        left, found = self.transport.value(), []
        self.transport.clear()
        while left:
            head, _, left = left.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            length = int(headers.get("content-length", "0"))
            found.append(Response(int(first.split(" ")[1]), headers, left[:length]))
            left = left[length:]
        return found


class SiteCase(SynchronousTestCase):
    """Asks a site; ``site`` is the subclass's."""

    site: Site

    def setUp(self) -> None:
        """Make a clock for the site."""
        self.clock = Clock()

    def ask(
        self,
        method: str,
        path: str,
        headers: str = "",
        body: bytes = b"",
        site: Site | None = None,
        host: str = "localhost",
    ) -> Response:
        """Make one request on a connection of its own."""
        wire = Wire(site or self.site)
        length = f"Content-Length: {len(body)}\n" if body else ""
        wire.send(f"{method} {path} HTTP/1.1\nHost: {host}\n{length}{headers}", body)
        if method == "HEAD":
            head = wire.transport.value()
            self.assertTrue(head.endswith(b"\r\n\r\n") and head.count(b"\r\n\r\n") == 1, head)
        (response,) = wire.answers()
        return response

    def assert_refused(self, response: Response, status: int, code: str) -> None:
        """It is an error in the one shape there is."""
        self.assertEqual((response.status, response.json()["code"]), (status, code))
        self.assertEqual(set(response.json()), {"code", "message", "request_id"})
        self.assertEqual(response.json()["request_id"], response.headers["x-request-id"])
        self.assert_safe(response)

    def assert_safe(self, response: Response) -> None:
        """It carries the headers every answer has, and not the ones none has."""
        self.assertEqual(response.headers["cache-control"], "no-store")
        self.assertEqual(response.headers["x-content-type-options"], "nosniff")
        self.assertNotIn("server", response.headers)
        self.assertNotIn("set-cookie", response.headers)
