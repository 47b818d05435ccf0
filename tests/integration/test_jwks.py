"""The key set's endpoint over real sockets: a good one, and each way to be a bad one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import trustme
from twisted.internet import ssl
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS

from tests.support.case import TestCase
from tests.support.daemon import free_port
from tests.support.tokens import Issuer
from voiceingest.auth import JwtAuthenticator, make_authenticator
from voiceingest.auth.jwks_http import FetchFailed, JwksEndpoint
from voiceingest.config import Settings
from voiceingest.errors import KeysUnavailable, Unauthenticated
from voiceingest.limits import JWKS_MAX_BYTES
from voiceingest.metrics import Metrics

ONE, OTHER = Issuer("one"), Issuer("two")
AUTHORITY = trustme.CA()
STRANGE_AUTHORITY = trustme.CA()

Answer = Callable[["Served"], None]


def document(body: bytes, status: str = "200 OK", *headers: str) -> Answer:
    """A whole answer."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return lambda served: served.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)


def raw(*pieces: bytes, close: bool = False) -> Answer:
    """Bytes as they are, and then silence or the end."""

    def answer(served: Served) -> None:
        served.transport.write(b"".join(pieces))
        if close:
            served.transport.loseConnection()

    return answer


def endless(head: bytes, piece: bytes) -> Answer:
    """A body without end; it stops only when the connection is cut."""

    def answer(served: Served) -> None:
        served.transport.write(head)
        served.pour(piece)

    return answer


class Served(Protocol):
    """One connection of the endpoint. It never closes by itself unless the answer says so."""

    factory: Issuing
    transport: Any

    def connectionMade(self) -> None:
        self.seen = b""
        self.open = True

    def dataReceived(self, data: bytes) -> None:
        self.seen += data
        if self.seen.endswith(b"\r\n\r\n"):
            self.factory.requests.append(self.seen)
            self.factory.answer(self)

    def pour(self, piece: bytes) -> None:
        if self.open:
            self.transport.write(piece)
            self.factory.reactor.callLater(0.001, self.pour, piece)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.open = False
        self.factory.closed.callback(None)


class Issuing(Factory):
    """The endpoint; ``closed`` fires when its newest connection, or the one to come, is gone."""

    protocol = Served

    def __init__(self, reactor: Any, answer: Answer) -> None:
        self.reactor = reactor
        self.answer = answer
        self.requests: list[bytes] = []
        self.closed: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> Protocol | None:
        if self.closed.called:
            self.closed = Deferred()
        return super().buildProtocol(addr)


class EndpointCase(TestCase):
    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.metrics = Metrics()

    def serve(self, answer: Answer, authority: trustme.CA | None = None, name: str = "localhost") -> Issuing:
        """Listen on the loopback interface, with TLS where an authority signs for it."""
        issuing = Issuing(self.reactor, answer)
        if authority is None:
            port: IListeningPort = self.reactor.listenTCP(0, issuing, interface="127.0.0.1")
        else:
            leaf = authority.issue_cert(name)
            pem = leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes()
            options = ssl.PrivateCertificate.loadPEM(pem).options()
            port = self.reactor.listenSSL(0, issuing, options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port: int = port.getHost().port  # type: ignore[attr-defined]
        return issuing

    def endpoint(self, url: str = "http://127.0.0.1:{port}/jwks.json", timeout_s: float = 5) -> JwksEndpoint:
        authority = ssl.Certificate.loadPEM(AUTHORITY.cert_pem.bytes())
        policy = BrowserLikePolicyForHTTPS(ssl.trustRootFromCertificates([authority]))
        return JwksEndpoint(url.format(port=self.port), self.reactor, timeout_s, policy)

    async def failed(self, endpoint: JwksEndpoint) -> FetchFailed:
        with self.assertRaises(FetchFailed) as caught:
            await endpoint.fetch()
        return caught.exception


class GoodEndpointTests(EndpointCase):
    async def test_plain_on_the_loopback_interface(self) -> None:
        issuing = self.serve(document(ONE.jwks()))
        self.assertEqual(await self.endpoint().fetch(), ONE.jwks())
        await issuing.closed
        (request,) = issuing.requests
        self.assertTrue(request.startswith(b"GET /jwks.json HTTP/1.1\r\n"))
        self.assertNotIn(b"authorization", request.lower())

    async def test_tls_that_the_authority_vouches_for(self) -> None:
        for host in ("localhost", "127.0.0.1"):
            issuing = self.serve(document(ONE.jwks()), AUTHORITY, host)
            self.assertEqual(await self.endpoint(f"https://{host}:{{port}}/").fetch(), ONE.jwks())
            await issuing.closed

    async def test_a_body_that_ends_with_its_connection(self) -> None:
        issuing = self.serve(raw(b"HTTP/1.1 200 OK\r\n\r\n", ONE.jwks(), close=True))
        self.assertEqual(await self.endpoint().fetch(), ONE.jwks())
        await issuing.closed

    async def test_a_body_in_chunks(self) -> None:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ONE.jwks()), ONE.jwks())
        issuing = self.serve(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body))
        self.assertEqual(await self.endpoint().fetch(), ONE.jwks())
        await issuing.closed


class BadEndpointTests(EndpointCase):
    async def test_certificates_that_nobody_vouches_for(self) -> None:
        for authority, name in ((STRANGE_AUTHORITY, "localhost"), (AUTHORITY, "other.example")):
            issuing = self.serve(document(ONE.jwks()), authority, name)
            error = await self.failed(self.endpoint("https://localhost:{port}/"))
            self.assertEqual(error.result, "connect")
            await issuing.closed
            self.assertEqual(issuing.requests, [], "nothing is asked of a stranger")

    async def test_the_platform_does_not_trust_it_by_itself(self) -> None:
        issuing = self.serve(document(ONE.jwks()), AUTHORITY)
        endpoint = JwksEndpoint(f"https://localhost:{self.port}/", self.reactor, 5.0)
        self.assertEqual((await self.failed(endpoint)).result, "connect")
        await issuing.closed
        self.assertEqual(issuing.requests, [])

    async def test_statuses(self) -> None:
        for status in ("500 Oops", "404 Not Found", "204 No Content", "401 Unauthorized", "304 Not Modified"):
            issuing = self.serve(document(b"" if status[:3] in ("204", "304") else ONE.jwks(), status))
            error = await self.failed(self.endpoint())
            self.assertEqual((error.result, error.detail), ("http_status", status[:3]))
            await issuing.closed

    async def test_redirects_are_not_followed(self) -> None:
        for status in ("301 Moved", "302 Found", "307 Temporary", "308 Permanent"):
            good = self.serve(document(ONE.jwks()))
            target = f"Location: http://127.0.0.1:{self.port}/jwks.json"
            issuing = self.serve(document(b"", status, target))
            self.assertEqual((await self.failed(self.endpoint())).result, "http_status")
            await issuing.closed
            self.assertEqual(good.requests, [])

    async def test_silence(self) -> None:
        for answer in (
            raw(),
            raw(b"HTTP/1.1 200 OK\r\n"),
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
            endless(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
        ):
            issuing = self.serve(answer)
            self.assertEqual((await self.failed(self.endpoint(timeout_s=0.15))).result, "timeout")
            await issuing.closed

    async def test_a_port_that_takes_no_tls(self) -> None:
        issuing = self.serve(raw())
        endpoint = self.endpoint("https://localhost:{port}/", timeout_s=0.15)
        self.assertEqual((await self.failed(endpoint)).result, "timeout")
        await issuing.closed

    async def test_too_much(self) -> None:
        piece = b" " * 65536
        chunk = b"%x\r\n%s\r\n" % (len(piece), piece)
        declared = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (JWKS_MAX_BYTES + 1)
        for answer in (
            raw(declared),
            endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk),
            endless(b"HTTP/1.1 200 OK\r\n\r\n", piece),
        ):
            issuing = self.serve(answer)
            self.assertEqual((await self.failed(self.endpoint())).result, "too_big")
            await issuing.closed

    async def test_too_much_over_tls_and_deaf_to_a_polite_close(self) -> None:
        issuing = self.serve(endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536), AUTHORITY)
        self.assertEqual((await self.failed(self.endpoint("https://localhost:{port}/"))).result, "too_big")
        await issuing.closed

    async def test_closed_early(self) -> None:
        for answer in (
            raw(close=True),
            raw(b"HTTP/1.1 200 OK\r\nContent-Le", close=True),
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", close=True),
            raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", close=True),
        ):
            issuing = self.serve(answer)
            self.assertEqual((await self.failed(self.endpoint())).result, "connect")
            await issuing.closed

    async def test_nobody_listens(self) -> None:
        self.port = free_port()
        error = await self.failed(self.endpoint())
        self.assertEqual((error.result, error.detail), ("connect", "ConnectionRefusedError"))


class AuthenticatorTests(EndpointCase):
    """From the settings to the claims, the network between them."""

    def started(self, **settings: Any) -> JwtAuthenticator:
        chosen = Settings(jwt_jwks_url=f"http://127.0.0.1:{self.port}/jwks", **settings)
        authenticator = make_authenticator(chosen, self.reactor, time.time, self.metrics)
        authenticator.start()
        self.addCleanup(authenticator.stop)
        return authenticator

    async def refused(self, verified: Deferred[Any]) -> str:
        with self.assertRaises(Unauthenticated) as caught:
            await verified
        return caught.exception.reason

    async def test_many_tokens_and_one_fetch(self) -> None:
        issuing = self.serve(document(ONE.jwks()))
        authenticator = self.started()
        token = ONE.token("acme")
        claims = await gatherResults([authenticator.verify(token) for _ in range(100)])
        self.assertEqual({one.tenant_id for one in claims}, {"acme"})
        await issuing.closed
        self.assertEqual(len(issuing.requests), 1)
        self.assertIsNone(authenticator.ready)

    async def test_rotation_under_load(self) -> None:
        issuing = self.serve(document(ONE.jwks()))
        cooldown_s = 3
        authenticator = self.started(jwt_jwks_cooldown_s=cooldown_s)
        await authenticator.verify(ONE.token())
        await issuing.closed
        issuing.answer = document(ONE.jwks(OTHER))
        tokens = [issuer.token() for issuer in (ONE, OTHER) for _ in range(50)]
        await gatherResults([authenticator.verify(token) for token in tokens])
        await issuing.closed
        # The old key is withdrawn: a stranger's token asks, and from then on it is no more.
        issuing.answer = document(OTHER.jwks())
        await deferLater(self.reactor, cooldown_s)
        self.assertEqual(await self.refused(authenticator.verify(Issuer("three").token())), "unknown_key")
        await issuing.closed
        self.assertEqual(await self.refused(authenticator.verify(ONE.token())), "unknown_key")
        await authenticator.verify(OTHER.token())
        self.assertEqual(len(issuing.requests), 3)
        self.assertEqual(self.metrics.auth_attempts["success"], 102)

    async def test_an_endpoint_that_turns_bad_keeps_the_last_good_set(self) -> None:
        issuing = self.serve(document(ONE.jwks()))
        authenticator = self.started(jwt_jwks_timeout_s=2.0)
        await authenticator.verify(ONE.token())
        await issuing.closed
        for answer, result in (
            (document(ONE.jwks(), "503 Away"), "http_status"),
            (document(b"<html>welcome to the hotel</html>"), "bad_document"),
            (document(json.dumps({"keys": []}).encode()), "bad_document"),
            (raw(), "timeout"),
            (raw(close=True), "connect"),
        ):
            before = self.metrics.jwks_fetches[result]
            issuing.answer = answer
            authenticator.reload()
            while self.metrics.jwks_fetches[result] == before:
                await deferLater(self.reactor, 0.01)
            await authenticator.verify(ONE.token())
            self.assertIsNone(authenticator.ready)
            await issuing.closed

    async def test_bad_from_the_start_lets_nobody_in_and_recovers(self) -> None:
        issuing = self.serve(document(b"", "500 Oops"))
        authenticator = self.started(jwt_jwks_cooldown_s=1)
        with self.assertRaises(KeysUnavailable):
            await authenticator.verify(ONE.token())
        self.assertEqual(authenticator.ready, "jwks_not_loaded")
        await issuing.closed
        issuing.answer = document(ONE.jwks())
        while authenticator.ready is not None:
            await deferLater(self.reactor, 0.05)
        await authenticator.verify(ONE.token())
        await issuing.closed

    async def test_stop_in_the_middle_of_a_fetch(self) -> None:
        issuing = self.serve(raw())
        authenticator = self.started()
        waiting = authenticator.verify(ONE.token())
        while not issuing.requests:
            await deferLater(self.reactor, 0.01)
        await authenticator.stop()
        await self.assertFailure(waiting, KeysUnavailable)
        await issuing.closed
        self.assertEqual(sum(self.metrics.jwks_fetches.values()), 0)

    async def test_keys_named_in_a_token_are_never_fetched(self) -> None:
        trap = self.serve(document(OTHER.jwks()))
        address = f"http://127.0.0.1:{self.port}/jwks"
        issuing = self.serve(document(ONE.jwks()))
        authenticator = self.started()
        await authenticator.verify(ONE.token())
        await issuing.closed
        claims = {"exp": time.time() + 60}
        for header in ("jku", "x5u"):
            forged = jwt.encode(claims, OTHER.key, "RS256", {"kid": "one", header: address})
            self.assertEqual(await self.refused(authenticator.verify(forged)), "bad_signature")
        forged = jwt.encode(claims, OTHER.key, "RS256", {"kid": "../" + address})
        self.assertEqual(await self.refused(authenticator.verify(forged)), "bad_kid")
        self.assertEqual((len(trap.requests), len(issuing.requests)), (0, 1))
