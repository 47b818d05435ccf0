"""Other people's services over real sockets: a good one, and each way to be a bad one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import trustme
from twisted.internet import ssl
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.web.client import BrowserLikePolicyForHTTPS

from tests.support.case import SynchronousTestCase, TestCase, require_reactor
from tests.support.daemon import free_port
from tests.support.far_service import Asked, FarService
from voiceingest import outward
from voiceingest.call_interfaces import IHttpAnswer
from voiceingest.errors import BadJson, UpstreamFailed
from voiceingest.outward import HttpClient, pool
from voiceingest.outward.client import _Exchange

AUTHORITY = trustme.CA()
LONG_S = 60.0
SHORT_S = 0.15


def nothing(asked: Asked) -> None:
    """Say nothing."""


def echo(asked: Asked) -> None:
    asked.document(asked.body, 200, X_Path=asked.path)


class OutwardCase(TestCase):
    timeout = 90

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        authority = ssl.Certificate.loadPEM(AUTHORITY.cert_pem.bytes())
        policy = BrowserLikePolicyForHTTPS(ssl.trustRootFromCertificates([authority]))
        self.client = HttpClient(reactor, policy)
        self.addCleanup(self.client.close)

    def ask(self, url: str, body: bytes = b"{}", timeout_s: float = LONG_S) -> Deferred[IHttpAnswer]:
        return self.client.request("POST", url, headers={"X-Key": "k"}, body=body, timeout_s=timeout_s)

    async def ask_and_read(self, url: str, body: bytes = b"{}", timeout_s: float = LONG_S) -> bytes:
        answer = await self.ask(url, body, timeout_s)
        return await answer.read(100_000)

    async def refused(self, url: str, timeout_s: float = LONG_S) -> str:
        with self.assertRaises(UpstreamFailed) as caught:
            await self.ask_and_read(url, timeout_s=timeout_s)
        return caught.exception.message

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await deferLater(self.reactor, 0.005, lambda: None)


    async def cut(self, service: FarService) -> None:
        """Its one connection is gone; who is given up so soon may not have been heard at all."""
        await self.until(lambda: bool(service.connections))
        await service.connections[0].gone


class GoodServiceTests(OutwardCase):
    async def test_what_is_sent_and_what_comes_back(self) -> None:
        service = FarService(self, echo)
        answer = await self.ask(service.url("/a?b=c"), b"text")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["x-path"], "/a")
        self.assertEqual(await answer.read(4), b"text")
        asked = service.asked[0]
        self.assertEqual((asked.method, asked.query, asked.body), ("POST", {"b": "c"}, b"text"))
        self.assertEqual(asked.headers["x-key"], "k")
        self.assertEqual(asked.headers["host"], f"127.0.0.1:{service.port}")
        self.assertTrue(asked.headers["user-agent"].startswith("voiceingest/"))

    async def test_every_status_is_an_answer_and_no_redirect_is_followed(self) -> None:
        other = FarService(self, echo)
        for status in (204, 302, 401, 404, 429, 500, 503):
            service = FarService(self, lambda asked, s=status: asked.document(b"", s, Location=other.url()))
            self.assertEqual((await self.ask(service.url())).status, status)
        self.assertEqual(other.asked, [])

    async def test_the_body_comes_as_it_is_written(self) -> None:
        service = FarService(self, lambda asked: asked.head())
        pieces: list[bytes] = []
        answer = await self.ask(service.url())
        over = answer.stream(pieces.append)
        asked = service.asked[0]
        for piece in (b"one", b"two"):
            asked.chunk(piece)
            await self.until(lambda piece=piece: piece in pieces)
            self.assertNoResult(over)
        asked.finish()
        await over
        self.assertEqual(pieces, [b"one", b"two"])

    async def test_a_body_that_ends_with_its_connection(self) -> None:
        def answer(asked: Asked) -> None:
            asked.raw(b"HTTP/1.1 200 OK\r\n\r\nall of it")
            asked.close()

        service = FarService(self, answer)
        self.assertEqual(await self.ask_and_read(service.url()), b"all of it")
        await service.asked[0].gone

    async def test_tls_that_the_authority_vouches_for(self) -> None:
        service = FarService(self, echo, AUTHORITY)
        for _ in range(2):
            self.assertEqual(await self.ask_and_read(service.url(), b"x"), b"x")
        self.assertEqual(len(service.connections), 1)


class PoolTests(OutwardCase):
    async def test_one_connection_for_one_request_after_the_other(self) -> None:
        service = FarService(self, echo)
        for word in (b"a", b"b", b"c"):
            self.assertEqual(await self.ask_and_read(service.url(), word), word)
        self.assertEqual(len(service.connections), 1)

    async def test_large_bodies_one_after_the_other(self) -> None:
        """The next request goes out while the last read of the answer before it is still being dealt with."""
        large = bytes(100) * 1000
        service = FarService(self, lambda asked: asked.document(large))
        for _ in range(6):
            self.assertEqual(await self.ask_and_read(service.url()), large)
        self.assertEqual(len(service.connections), 1)

    async def test_closed_while_it_was_idle(self) -> None:
        for close in (Asked.close, Asked.cut):
            service = FarService(self, echo)
            await self.ask_and_read(service.url())
            count = len(self.client._pool)
            close(service.asked[0])
            await service.asked[0].gone
            await self.until(lambda count=count: len(self.client._pool) < count)
            self.assertEqual(await self.ask_and_read(service.url(), b"again"), b"again")
            self.assertEqual(len(service.connections), 2)

    async def test_a_request_that_may_have_been_heard_is_not_sent_again(self) -> None:
        service = FarService(self, echo)
        await self.ask_and_read(service.url())
        service.answer = Asked.close
        self.assertIn("could not be reached", await self.refused(service.url()))
        self.assertEqual(len(service.asked), 2)

    async def test_an_idle_connection_that_speaks_is_cut(self) -> None:
        for authority in (None, AUTHORITY):
            service = FarService(self, echo, authority)
            await self.ask_and_read(service.url())
            service.asked[0].pour(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await service.asked[0].gone
            self.assertEqual(await self.ask_and_read(service.url(), b"again"), b"again")

    async def test_so_many_stay(self) -> None:
        self.patch(pool, "IDLE_MAX_COUNT", 2)
        service = FarService(self, nothing)
        answers, asked = [], []
        for _ in range(4):
            # One after the other: nothing says which of two new connections is heard first.
            answers.append(self.ask(service.url()))
            asked.append(await service.next())
        for one, answer in zip(asked, answers, strict=True):
            one.document(b"")
            await (await answer).read(10)
        # The oldest go: the newest are the least likely to be closed by the service just now.
        for one in asked[:2]:
            await one.gone
        self.assertEqual([one.is_open for one in asked[2:]], [True, True])

    async def test_and_only_for_so_long(self) -> None:
        self.patch(pool, "IDLE_MAX_S", 0.05)
        service = FarService(self, echo)
        await self.ask_and_read(service.url())
        await service.asked[0].gone
        self.assertEqual(len(self.client._pool), 0)

    async def test_a_service_that_is_deaf_to_a_polite_close(self) -> None:
        # Over TLS a close is agreed upon, and this one reads nothing any more.
        self.patch(pool, "CLOSE_ABORT_S", 0.05)
        self.patch(pool, "IDLE_MAX_S", 0.05)
        for fields in ({"Connection": "close"}, {}):

            def answer(asked: Asked, fields: dict[str, str] = fields) -> None:
                asked.connection.transport.pauseProducing()
                asked.document(b"all", 200, **fields)

            service = FarService(self, answer, AUTHORITY)
            self.assertEqual(await self.ask_and_read(service.url()), b"all")
            await self.until(lambda: not len(self.client._pool))


class BadServiceTests(OutwardCase):
    async def test_silence(self) -> None:
        for answer in (
            nothing,
            lambda asked: asked.raw(b"HTTP/1.1 200 OK\r\n"),
            lambda asked: asked.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
            lambda asked: (asked.head(), asked.chunk(b"{")),
            lambda asked: asked.pour(b"HTTP/1.1 102 Wait\r\nX: " + b"y" * 20 + b"\r\n\r\n"),
        ):
            service = FarService(self, answer)
            message = await self.refused(service.url(), SHORT_S)
            self.assertTrue("silent" in message or "HTTP" in message, message)
            await self.cut(service)

    async def test_an_answer_nobody_takes_is_cut(self) -> None:
        service = FarService(self, lambda asked: (asked.head(), asked.chunk(b"x")))
        answer: Any = await self.ask(service.url())
        # As if that time had passed: to wait for a short one would be to race with the answer.
        answer._exchange._heard_at -= LONG_S
        answer._exchange._timer.reset(0)
        await service.asked[0].gone
        with self.assertRaises(UpstreamFailed):
            await answer.read(10)

    async def test_too_much(self) -> None:
        piece = b" " * 65536
        for authority in (None, AUTHORITY):
            for head, more in (
                (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (len(piece), piece)),
                (b"X: y", piece),
                (b"Content-Length: 1000000000", piece),
            ):
                def answer(asked: Asked, head: bytes = head, more: bytes = more) -> None:
                    asked.raw(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
                    asked.pour(more)

                service = FarService(self, answer, authority)
                self.assertIn("too large", await self.refused(service.url()))
                await service.asked[0].gone

    async def test_too_much_of_a_service_that_is_deaf_to_a_polite_close(self) -> None:
        def answer(asked: Asked) -> None:
            asked.connection.transport.pauseProducing()
            asked.raw(b"HTTP/1.1 200 OK\r\n\r\n")
            asked.pour(b" " * 65536)

        service = FarService(self, answer, AUTHORITY)
        self.assertIn("too large", await self.refused(service.url()))
        await self.until(lambda: not len(self.client._pool))

    async def test_heads_without_end(self) -> None:
        for authority in (None, AUTHORITY):
            for piece in (b"X: y\r\n" * 100, b"x" * 1000, b"HTTP/1.1 100 Continue\r\n\r\n"):
                def answer(asked: Asked, piece: bytes = piece) -> None:
                    asked.raw(b"HTTP/1.1 200 OK\r\n" if piece[0] != ord("H") else b"")
                    asked.pour(piece)

                service = FarService(self, answer, authority)
                self.assertIn("HTTP", await self.refused(service.url()))
                await service.asked[0].gone

    async def test_cut_in_the_middle(self) -> None:
        length = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
        for written, end, word in (
            (length, Asked.close, "cut off"),
            (length, Asked.cut, "cut off"),
            (chunked, Asked.close, "cut off"),
            (b"HTTP/1.1 200 OK\r\nContent-Le", Asked.close, "HTTP"),
            (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", Asked.close, "HTTP"),
            (b"", Asked.cut, "HTTP"),
        ):
            def answer(asked: Asked, written: bytes = written, end: Callable[[Asked], None] = end) -> None:
                asked.raw(written)
                self.reactor.callLater(0.05, end, asked)

            service = FarService(self, answer)
            self.assertIn(word, await self.refused(service.url()), written)
            self.assertEqual(len(service.asked), 1)

    async def test_a_reset_is_no_end_of_a_body_without_length(self) -> None:
        def answer(asked: Asked) -> None:
            asked.raw(b"HTTP/1.1 200 OK\r\n\r\nhalf")
            self.reactor.callLater(0.05, asked.cut)

        self.assertIn("cut off", await self.refused(FarService(self, answer).url()))

    async def test_certificates_that_nobody_vouches_for(self) -> None:
        for authority in (trustme.CA(), AUTHORITY):
            service = FarService(self, echo, authority)
            url = service.url()
            if authority is AUTHORITY:
                url = url.replace("localhost", "127.0.0.1")
            self.assertIn("could not be reached", await self.refused(url))
            self.assertEqual(service.asked, [])

    async def test_a_port_that_takes_no_tls(self) -> None:
        service = FarService(self, nothing)
        url = service.url().replace("http://127.0.0.1", "https://localhost")
        self.assertIn("silent", await self.refused(url, SHORT_S))
        await self.cut(service)

    async def test_nobody_listens_and_nowhere(self) -> None:
        nobody = f"http://127.0.0.1:{free_port()}/"
        for url in (nobody, "http://nowhere.invalid/", "ftp://127.0.0.1/", "http://127.0.0.1/\n"):
            self.assertIn("could not be reached", await self.refused(url))

    async def test_no_error_says_what_the_service_wrote(self) -> None:
        service = FarService(self, lambda asked: asked.raw(b"secret words\r\n\r\n"))
        self.assertNotIn("secret", await self.refused(service.url()))


class CancelTests(OutwardCase):
    async def assert_cancels(self, waited: Deferred[Any]) -> None:
        waited.cancel()
        with self.assertRaises(CancelledError):
            await waited

    async def test_before_the_connection_stands(self) -> None:
        service = FarService(self, nothing)
        await self.assert_cancels(self.ask(service.url()))
        await self.until(lambda: not len(self.client._pool))

    async def test_before_the_head(self) -> None:
        for authority in (None, AUTHORITY):
            service = FarService(self, nothing, authority)
            asking = self.ask(service.url())
            asked = await service.next()
            await self.assert_cancels(asking)
            await asked.gone

    async def test_in_the_body_and_nothing_more_is_handed_on(self) -> None:
        for authority in (None, AUTHORITY):
            service = FarService(self, lambda asked: (asked.head(), asked.pour(b"1\r\nx\r\n")), authority)
            pieces: list[bytes] = []
            over = (await self.ask(service.url())).stream(pieces.append)
            await self.until(lambda pieces=pieces: bool(pieces))
            await self.assert_cancels(over)
            count = len(pieces)
            await service.asked[0].gone
            self.assertEqual(len(pieces), count)

    async def test_a_chain_is_cancelled_at_its_end(self) -> None:
        service = FarService(self, lambda asked: asked.head())
        chain = self.ask(service.url()).addCallback(lambda answer: answer.read(10))
        asked = await service.next()
        await deferLater(self.reactor, 0.02, lambda: None)
        await self.assert_cancels(chain)
        await asked.gone

    async def test_what_the_taker_raises_is_the_outcome(self) -> None:
        pieces: list[bytes] = []

        def take(piece: bytes) -> None:
            pieces.append(piece)
            raise BadJson

        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        service = FarService(self, lambda asked: asked.raw(head + b"1\r\nx\r\n1\r\ny\r\n"))
        answer = await self.ask(service.url())
        with self.assertRaises(BadJson):
            await answer.stream(take)
        await service.asked[0].gone
        self.assertEqual(pieces, [b"x"])

    async def test_what_was_cut_is_not_used_again_though_its_answer_was_whole(self) -> None:
        """The read in which it is cut brings the end of the answer as well."""
        def take(piece: bytes) -> None:
            raise BadJson

        service = FarService(self, echo)
        with self.assertRaises(BadJson):
            await (await self.ask(service.url(), b"one")).stream(take)
        # That read has been dealt with, and the connection is not known to be gone yet.
        turn: Deferred[None] = Deferred()
        require_reactor().call_soon(turn.callback, None)
        await turn
        self.assertEqual(await self.ask_and_read(service.url(), b"two"), b"two")
        self.assertEqual(len(service.connections), 2)

    async def test_close_cuts_what_is_idle_and_what_is_not(self) -> None:
        service = FarService(self, echo)
        await self.ask_and_read(service.url())
        service.answer = lambda asked: asked.head()
        over = (await self.ask(service.url())).read(10)
        service.answer = nothing
        asking = self.ask(service.url())
        await service.next(), await service.next(), await service.next()
        await self.client.close()
        for waited in (over, asking, self.ask(service.url())):
            with self.assertRaises(UpstreamFailed) as caught:
                await waited
            self.assertIn("shutting down", caught.exception.message)
        for connection in service.connections:
            await connection.gone


class SilenceTests(SynchronousTestCase):
    """What is bounded is each silence, by the clock of the reactor."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.over: list[Any] = []
        self.exchange = _Exchange(self.clock, pool.Pool(self.clock), 5.0, self.over.append)

    def test_each_silence_and_not_the_whole(self) -> None:
        head = self.exchange.begin(Deferred)
        for _ in range(20):
            self.clock.advance(4.9)
            self.exchange.heard()
        self.assertNoResult(head)
        self.clock.advance(4.9)
        self.assertEqual(self.over, [])
        self.clock.advance(0.1)
        self.assertIn("silent", str(self.failureResultOf(head, UpstreamFailed).value))
        self.assertEqual((self.over, self.clock.getDelayedCalls()), ([self.exchange], []))

    def test_a_request_that_cannot_be_made(self) -> None:
        def ask() -> Deferred[Any]:
            raise ValueError("secret")

        failure = self.failureResultOf(self.exchange.begin(ask), UpstreamFailed)
        self.assertNotIn("secret", str(failure.value))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TlsContextTests(OutwardCase):
    async def test_a_context_is_made_once_for_a_host(self) -> None:
        service = FarService(self, lambda asked: asked.document(b"", 200, Connection="close"), AUTHORITY)
        made: list[bytes] = []
        policy = self.client._policy._policyForHTTPS
        make = policy.creatorForNetloc

        def noted(host: bytes, port: int) -> Any:
            made.append(host)
            return make(host, port)

        with patch.object(policy, "creatorForNetloc", noted):
            for _ in range(3):
                await self.ask_and_read(service.url())
        self.assertEqual((made, len(service.connections)), ([b"localhost"], 3))

    def test_the_package_says_what_it_has(self) -> None:
        self.assertIs(outward.HttpClient, HttpClient)
