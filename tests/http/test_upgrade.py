"""From a request to a WebSocket: every refusal in HTTP, and a head that reaches no second parser."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.http.test_channel import Transport
from tests.support.sockets import BINARY, frame, handshake, server_frames, split_head
from tests.websocket.test_protocol import KEY, Session
from voiceingest.auth.admission import BearerAdmission
from voiceingest.auth.tickets import Tickets
from voiceingest.config import Settings
from voiceingest.deadlines import Deadlines
from voiceingest.errors import KeysUnavailable, Unauthenticated
from voiceingest.gate import Gate
from voiceingest.http.channel import GuardedChannel
from voiceingest.http.resource import Routes
from voiceingest.http.site import GuardedSite
from voiceingest.http.upgrade import UpgradeResource
from voiceingest.interfaces import Claims, Handshake, IAuthenticator
from voiceingest.metrics import Metrics
from voiceingest.websocket import HardenedFactory, HardenedProtocol, SocketRules

CLAIMS = Claims("caller", "t1", None, 4_000_000_000.0)
GOOD = "Bearer good.token.x"


class Transports:
    """A dialect whose tokens are ``good.token.x`` (allowed) and ``later.token.x`` (asked for)."""

    name = "ingest"
    path = "/v1/ingest"

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.asked: list[Deferred[Claims]] = []
        self.closed = False
        self.cancelled = 0

    def verify(self, token: str) -> Deferred[Claims]:
        """As an authenticator would."""
        if token == "good.token.x":
            return succeed(CLAIMS)
        if token == "later.token.x":
            self.asked.append(Deferred(lambda _: setattr(self, "cancelled", self.cancelled + 1)))
            return self.asked[-1]
        if token == "broken.token.x":
            return fail(RuntimeError("secret dsn\r\nX-Injected: 1"))
        return fail(KeysUnavailable() if token == "nokeys.token.x" else Unauthenticated())

    def refuse_new(self) -> bool:
        """Whether it drains."""
        return self.closed

    def session(self, socket: HardenedProtocol, claims: Claims, handshake: Handshake) -> Session:
        """Keep it to look at."""
        self.sessions.append(Session(socket))
        self.sessions[-1].heard.append(claims)
        return self.sessions[-1]


class Upgrade(SynchronousTestCase):
    """A site with one dialect."""

    def setUp(self) -> None:
        """Build it."""
        self.build()

    def build(self, **settings: object) -> None:
        """A site with these settings."""
        self.clock, self.metrics, self.transports = Clock(), Metrics(), Transports()
        self.settings = Settings.model_validate({"allowed_origins": ["https://app.example.com"], **settings})
        self.gate = Gate(100, 3, self.settings.trusted_proxies)
        deadlines = Deadlines(self.clock)
        self.tickets = Tickets(30.0, self.clock, self.metrics)
        sockets = HardenedFactory(SocketRules(), self.clock, deadlines, self.metrics)
        authenticator = cast("IAuthenticator", self.transports)
        admission = BearerAdmission(authenticator, self.tickets, self.metrics)
        resource = UpgradeResource(self.transports, sockets, admission, self.settings, self.metrics)
        self.site = GuardedSite(
            Routes(self.metrics, {"/v1/ingest": resource}), self.clock, self.metrics, self.gate, 10.0
        )

    def connect(self, host: str = "192.0.2.1") -> tuple[GuardedChannel, Transport]:
        """A new connection."""
        address = IPv4Address("TCP", host, 40000)
        channel = self.site.buildProtocol(address)
        transport = Transport(peerAddress=address)
        channel.makeConnection(transport)
        return channel, transport

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and the rest of the answer to one request on a new connection."""
        channel, transport = self.connect()
        channel.dataReceived(request)
        head, rest = split_head(transport.value())
        lines = head.decode().split("\r\n")
        channel.connectionLost(Failure(ConnectionDone()))
        return (
            int(lines[0].split()[1]),
            {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])},
            rest,
        )


class Accepted(Upgrade):
    """Every way in."""

    def test_a_bearer_header(self) -> None:
        """101, and frames flow at once, even those sent before the answer."""
        channel, transport = self.connect()
        channel.dataReceived(handshake(Authorization=GOOD) + frame(BINARY, b"ab"))
        head, _ = split_head(transport.value())
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
        self.assertIn(b"X-Request-Id: ", head)
        channel.dataReceived(frame(BINARY, b"cd"))
        self.assertEqual(
            self.transports.sessions[0].heard, [CLAIMS, "opened", ("binary", b"ab"), ("binary", b"cd")]
        )
        channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.transports.sessions[0].heard[-1], ("lost", 1006))
        self.assertEqual(self.gate.total, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_key_that_has_to_be_fetched_first(self) -> None:
        """Finding 2: what comes meanwhile waits; a second request is not a second handshake."""
        channel, transport = self.connect()
        channel.dataReceived(handshake(Authorization="Bearer later.token.x") + frame(BINARY, b"ab"))
        self.assertEqual(transport.value(), b"")
        channel.dataReceived(handshake(Authorization=GOOD))
        self.transports.asked[0].callback(CLAIMS)
        self.assertEqual(transport.value().count(b"HTTP/1.1 101"), 1)
        self.assertEqual(len(self.transports.sessions), 1)
        # The second request is, to a WebSocket, an unmasked frame of an odd kind.
        self.assertEqual(list(server_frames(split_head(transport.value())[1]))[-1].close_code, 1002)

    def test_a_caller_that_leaves_while_the_key_is_fetched(self) -> None:
        """The question is withdrawn and nothing is opened."""
        channel, _ = self.connect()
        channel.dataReceived(handshake(Authorization="Bearer later.token.x"))
        channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.transports.cancelled, 1)
        self.assertEqual((self.transports.sessions, self.gate.total), ([], 0))

    def test_a_subprotocol(self) -> None:
        """A browser's way; the answer is the one without the secret."""
        status, headers, _ = self.ask(handshake(Sec_WebSocket_Protocol="voice.v1, bearer.good.token.x"))
        self.assertEqual((status, headers["sec-websocket-protocol"]), (101, "voice.v1"))

    def test_a_ticket_once(self) -> None:
        """A browser's other way."""
        path = f"/v1/ingest?ticket={self.tickets.mint(CLAIMS)}"
        self.assertEqual(self.ask(handshake(path))[0], 101)
        self.assertEqual(self.ask(handshake(path))[0], 401)
        self.assertEqual(self.metrics.auth_attempts["success"], 1)

    def test_an_origin_of_ours(self) -> None:
        """Matched exactly."""
        self.assertEqual(self.ask(handshake(Authorization=GOOD, Origin="https://app.example.com"))[0], 101)


class Refused(Upgrade):
    """Every way out."""

    def test_one_constant_401(self) -> None:
        """No token, a bad one, two of them, a bad ticket: the same answer but for its id."""
        requests = {
            "none": handshake(),
            "bad": handshake(Authorization="Bearer bad.token.x"),
            "basic": handshake(Authorization="Basic dTpw"),
            "two headers": handshake(Authorization=GOOD).replace(
                b"\r\n\r\n", b"\r\nAuthorization: Bearer other.token.x\r\n\r\n"
            ),
            "two kinds": handshake("/v1/ingest?ticket=abc", Authorization=GOOD),
            "ticket": handshake("/v1/ingest?ticket=abc"),
            "huge": handshake(Authorization="Bearer " + "a" * 9000),
        }
        bodies = set()
        for name, request in requests.items():
            with self.subTest(name):
                status, headers, rest = self.ask(request)
                self.assertEqual(
                    (status, headers["www-authenticate"], headers["connection"]), (401, "Bearer", "close")
                )
                body = json.loads(rest)
                self.assertEqual(body.pop("request_id"), headers["x-request-id"])
                bodies.add(json.dumps(body))
        self.assertEqual(bodies, {'{"code": "unauthorized", "message": "A valid bearer token is required"}'})
        self.assertEqual(self.transports.sessions, [])

    def test_other_refusals(self) -> None:
        """Status and code of each."""
        good = {"Authorization": GOOD}
        cases: dict[str, tuple[bytes, int, str]] = {
            "not an upgrade": (handshake(Upgrade="", **good), 426, "upgrade_required"),
            "no Connection: upgrade": (handshake(Connection="keep-alive", **good), 426, "upgrade_required"),
            "version 8": (handshake(Sec_WebSocket_Version="8", **good), 426, "upgrade_required"),
            "no key": (handshake(Sec_WebSocket_Key="", **good), 400, "bad_request"),
            "short key": (
                handshake(Sec_WebSocket_Key=base64.b64encode(b"x").decode(), **good),
                400,
                "bad_request",
            ),
            "no host": (handshake(Host="", **good), 400, "bad_request"),
            "two hosts": (handshake(**good).replace(b"\r\n\r\n", b"\r\nHost: b\r\n\r\n"), 400, "bad_request"),
            "HTTP/1.0": (handshake(**good).replace(b"HTTP/1.1", b"HTTP/1.0"), 400, "bad_request"),
            "POST": (handshake(**good).replace(b"GET", b"POST"), 405, "method_not_allowed"),
            "DELETE": (handshake(**good).replace(b"GET", b"DELETE"), 405, "method_not_allowed"),
            "another path": (handshake("/v1/ingest/", **good), 404, "not_found"),
            "keys away": (handshake(Authorization="Bearer nokeys.token.x"), 503, "keys_unavailable"),
        }
        for name, (request, status, code) in cases.items():
            with self.subTest(name):
                answered, headers, rest = self.ask(request)
                self.assertEqual((answered, json.loads(rest)["code"]), (status, code))
                if status == 426:
                    self.assertEqual(
                        (headers["upgrade"], headers["sec-websocket-version"]), ("websocket", "13")
                    )
                if status == 405:
                    self.assertEqual(headers["allow"], "GET")
                if status == 503:
                    self.assertIn("retry-after", headers)
        self.assertEqual(self.transports.sessions, [])

    def test_origins(self) -> None:
        """Finding 13: stock Autobahn lets every page in. Exact match, no substring, no null."""
        for origin in (
            "https://app.example.com.evil",
            "https://app.example.co",
            "http://app.example.com",
            "https://app.example.com:444",
            "null",
            "https://evil/https://app.example.com",
        ):
            with self.subTest(origin):
                status, _, rest = self.ask(handshake(Authorization=GOOD, Origin=origin))
                self.assertEqual((status, json.loads(rest)["code"]), (403, "origin_refused"))

    def test_a_smuggled_header_is_not_seen(self) -> None:
        """Finding 4: stock Autobahn reads the token behind the vertical tab."""
        for byte in "\x0b\x0c\x1c\x85":
            status, _, _ = self.ask(handshake(X_A=f"b{byte}Authorization: {GOOD}"))
            self.assertEqual(status, 400)

    def test_our_failure_says_nothing(self) -> None:
        """Finding 3: stock Autobahn puts the exception into the status line."""
        status, headers, rest = self.ask(handshake(Authorization="Bearer broken.token.x"))
        self.assertEqual((status, json.loads(rest)["code"]), (500, "internal"))
        self.assertNotIn("x-injected", headers)
        self.assertNotIn(b"dsn", rest)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_draining(self) -> None:
        """No one new."""
        self.transports.closed = True
        status, headers, rest = self.ask(handshake(Authorization=GOOD))
        self.assertEqual(
            (status, json.loads(rest)["code"], "retry-after" in headers), (503, "draining", True)
        )

    def test_two_pipelined_upgrades_never_give_two_101(self) -> None:
        """Finding 2, all at once."""
        channel, transport = self.connect()
        channel.dataReceived(handshake(Authorization=GOOD) * 2)
        self.assertEqual(transport.value().count(b" 101 "), 1)
        channel.connectionLost(Failure(ConnectionDone()))


class BehindAProxy(Upgrade):
    """Connections are counted for the caller, not for the proxy."""

    def _status(self, forwarded: str, host: str = "10.0.0.1") -> tuple[int, Callable[[], None]]:
        channel, transport = self.connect(host)
        channel.dataReceived(handshake(Authorization=GOOD, X_Forwarded_For=forwarded))
        return int(transport.value().split()[1]), lambda: channel.connectionLost(Failure(ConnectionDone()))

    def test_each_caller_has_its_own_share(self) -> None:
        """Three of one caller, the fourth is refused, another caller is not."""
        self.build(trusted_proxies=["10.0.0.0/8"])
        results = [self._status("203.0.113.7") for _ in range(4)]
        results.append(self._status("203.0.113.8"))
        self.assertEqual([status for status, _ in results], [101, 101, 101, 429, 101])
        for _, close in results:
            close()
        self.assertEqual(self.gate.total, 0)

    def test_the_header_of_a_stranger_is_ignored(self) -> None:
        """Nobody chooses whose share he takes."""
        results = [self._status(f"203.0.113.{i}", "192.0.2.9") for i in range(4)]
        self.assertEqual([status for status, _ in results], [101, 101, 101, 429])


# Of a line in the log.
FIELDS = (
    "log_level", "log_format", "event", "code", "reason", "address", "transport", "request_id",
    "method", "route", "status", "duration_ms",
)  # fmt: skip


class BothWays(Upgrade):
    """A head that comes whole is read at once, one in pieces by ``twisted.web``: nobody can tell which."""

    def told(self, request: bytes, host: str, *, whole: bool) -> tuple[object, bool]:
        """All that is seen of a connection, outside and inside; and whether ``twisted.web`` was asked."""
        self.build(trusted_proxies=["10.0.0.0/8"])
        events: list[tuple[object, ...]] = []

        def note(event: LogEvent) -> None:
            events.append(tuple(event.get(name) for name in FIELDS))

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        parsed: list[bytes] = []
        channel, transport = self.connect(host)
        read_line = channel.lineReceived

        def line_received(line: bytes) -> None:
            parsed.append(line)
            read_line(line)

        channel.lineReceived = line_received  # type: ignore[method-assign]
        for piece in [request] if whole else [request[:1], request[1:]]:
            channel.dataReceived(piece)
        waits = [len(self.transports.asked), self.site.unanswered]
        for asked in self.transports.asked:
            asked.callback(CLAIMS)
        open_at = (channel.address, self.gate.total, dict(self.gate._by_address), self.site.unanswered)
        channel.connectionLost(Failure(ConnectionDone()))
        globalLogPublisher.removeObserver(note)
        failures = [failure.type for failure in self.flushLoggedErrors()]
        metrics = self.metrics
        answered = [(labels, histogram.count) for labels, histogram in metrics.http_duration.series()]
        counted = [dict(metrics.auth_attempts), dict(metrics.connections_refused), dict(metrics.errors)]
        heard = [session.heard for session in self.transports.sessions]
        left = [self.gate.total, len(self.clock.getDelayedCalls()), self.site.unanswered]
        seen = (transport.value(), transport.disconnecting, waits, open_at, events, failures)
        return (*seen, answered, counted, heard, left, self.transports.cancelled), bool(parsed)

    def test_the_same_in_every_way(self) -> None:
        good = {"Authorization": GOOD, "X_Request_Id": "id-1", "Sec_WebSocket_Key": KEY}
        plain = handshake(**good)

        def token(word: str, path: str = "/v1/ingest", **more: str) -> bytes:
            return handshake(path, **{**good, "Authorization": word, **more})

        stranger, proxy = "192.0.2.1", "10.0.0.1"
        at_once = {
            "plain": (plain, stranger),
            "with a frame behind it": (plain + frame(BINARY, b"ab")[:2] + b"\0\0\0\0ab", stranger),
            "with a query": (handshake("/v1/ingest?call_id=a%20b&call_id=&x", **good), stranger),
            "in capitals": (plain.replace(b"Connection: U", b"CONNECTION:keep-alive ,\tu"), stranger),
            "a subprotocol": (handshake(Sec_WebSocket_Protocol="voice.v1 , x", **good), stranger),
            "a page of ours": (handshake(Origin="https://app.example.com", **good), stranger),
            "behind a proxy": (handshake(X_Forwarded_For="203.0.113.7", **good), proxy),
            "as if behind a proxy": (handshake(X_Forwarded_For="203.0.113.7", **good), stranger),
        }
        by_twisted = {
            "a bad token": (token("Bearer bad.token.x"), stranger),
            "no token": (token(""), stranger),
            "an unknown ticket": (token("", "/v1/ingest?ticket=abc"), stranger),
            "no keys": (token("Bearer nokeys.token.x"), stranger),
            "a key to be fetched": (token("Bearer later.token.x") + b"\x82\x81\0\0\0\0a", stranger),
            "a failure of ours": (token("Bearer broken.token.x"), stranger),
            "bad behind a proxy": (token("Basic x", X_Forwarded_For="203.0.113.7"), proxy),
            "another page": (handshake(Origin="https://evil.example.com", **good), stranger),
            "no upgrade": (handshake(**good, Upgrade="h2c"), stranger),
            "a short key": (handshake(**{**good, "Sec_WebSocket_Key": "abc"}), stranger),
            "another path": (handshake("/v1/other", **good), stranger),
            "two tokens": (plain.replace(b"Host:", b"Authorization: Bearer a.b.c\r\nHost:"), stranger),
            "a body": (plain.replace(b"Host:", b"Content-Length: 2\r\nHost:") + b"ab", stranger),
            "POST": (plain.replace(b"GET", b"POST"), stranger),
        }
        self.patch(time, "time", lambda: 1_700_000_000.0)  # the Date of refusals
        for name, (request, host) in {**at_once, **by_twisted}.items():
            whole, asked = self.told(request, host, whole=True)
            in_pieces, asked_too = self.told(request, host, whole=False)
            self.assertEqual(whole, in_pieces, name)
            self.assertEqual((asked, asked_too), (name in by_twisted, True), name)

    def test_a_ticket_is_redeemed_once(self) -> None:
        """Also where a second look is needed, because what it opens then fails."""
        path = f"/v1/ingest?ticket={self.tickets.mint(CLAIMS)}"
        self.patch(self.transports, "session", lambda *_: 1 // 0)
        self.assertEqual(self.ask(handshake(path))[0], 500)
        self.assertEqual(self.metrics.auth_attempts["success"], 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.ask(handshake(path))[0], 401)
