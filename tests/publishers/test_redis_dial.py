"""Connections as they are made and unmade, over a reactor in memory."""

from __future__ import annotations

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock

from tests.publishers.test_redis_bus import FakeTransport
from tests.publishers.test_redis_link import NotingOwner
from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadCertificate
from voiceingest.publishers.redis_dial import Dialer
from voiceingest.publishers.redis_link import BusRefusal, Login, RedisLink
from voiceingest.publishers.redis_url import parse_redis_url


class DialTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.dialer = Dialer(self.reactor, parse_redis_url("unix:///redis.sock"), 3.0, None)

    def dial(self) -> Deferred[RedisLink]:
        return Deferred.fromCoroutine(self.dialer.dial(NotingOwner(), "", 0, Login()))

    def accept(self) -> FakeTransport:
        _, factory, _, _ = self.reactor.unixClients.pop()
        transport = FakeTransport()
        transport.protocol = factory.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        return transport

    def test_it_is_there_once_it_has_been_let_in(self) -> None:
        dialling = self.dial()
        transport = self.accept()
        self.assertNoResult(dialling)
        transport.protocol.dataReceived(b"+PONG\r\n")
        link = self.successResultOf(dialling)
        link.write(b"x")
        self.assertTrue(transport.value().endswith(b"x"))

    def test_one_that_is_not_let_in_is_cut(self) -> None:
        dialling = self.dial()
        transport = self.accept()
        transport.protocol.dataReceived(b"-NOAUTH Authentication required.\r\n")
        self.assertEqual(self.failureResultOf(dialling, BusRefusal).value.reason, "auth")
        self.assertTrue(transport.aborted)

    def test_a_cancelled_attempt_says_so_whatever_it_was_doing(self) -> None:
        dialling = self.dial()
        dialling.cancel()
        self.failureResultOf(dialling, CancelledError)
        dialling = self.dial()
        transport = self.accept()
        dialling.cancel()
        self.failureResultOf(dialling, CancelledError)
        self.assertTrue(transport.aborted)

    def test_close_waits_for_all_and_spares_one(self) -> None:
        transports, links = [], []
        for _ in range(2):
            dialling = self.dial()
            transports.append(self.accept())
            transports[-1].protocol.dataReceived(b"+PONG\r\n")
            links.append(self.successResultOf(dialling))
            links[-1].begin()
        closed = self.dialer.close(links[0])
        self.assertTrue(transports[0].disconnecting)
        self.assertFalse(transports[0].aborted)
        self.assertTrue(transports[1].aborted)
        transports[1].lose()
        self.assertNoResult(closed)
        transports[0].lose(error.ConnectionDone())
        self.successResultOf(closed)
        self.successResultOf(self.dialer.close())

    def test_an_authority_that_cannot_be_read_stops_the_start(self) -> None:
        with self.assertRaises(BadCertificate):
            Dialer(self.reactor, parse_redis_url("rediss://h"), 3.0, self.mktemp_path())
