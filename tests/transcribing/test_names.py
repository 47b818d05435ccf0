"""One look-up at a time, however many wait for it."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from zope.interface.verify import verifyObject

from tests.support.case import SynchronousTestCase
from voiceingest.transcribing.names import SharedNames


class Resolver:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, str, int]] = []

    def resolveHostName(self, receiver: Any, name: str, port: int = 0, *_: Any) -> Any:
        self.asked.append((receiver, name, port))
        return receiver

    def answer(self, *hosts: str) -> None:
        receiver, _, port = self.asked[-1]
        for host in hosts:
            receiver.addressResolved(IPv4Address("TCP", host, port))
        receiver.resolutionComplete()


class SharedNamesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.resolver = Resolver()
        self.reactor.nameResolver = self.resolver
        self.names = SharedNames(self.reactor)
        self.endpoint = HostnameEndpoint(self.names, "dg.example.com", 443, timeout=5)

    def connect(self) -> Any:
        return self.endpoint.connect(Factory.forProtocol(Protocol))

    def test_interface(self) -> None:
        verifyObject(IReactorPluggableNameResolver, self.names)
        verifyObject(IHostnameResolver, self.names)

    def test_all_wait_for_one_answer(self) -> None:
        for _ in range(100):
            self.connect()
        self.assertEqual([asked[1:] for asked in self.resolver.asked], [("dg.example.com", 443)])
        self.assertEqual(self.reactor.tcpClients, [])
        self.resolver.answer("192.0.2.1")
        self.assertEqual([client[0] for client in self.reactor.tcpClients], ["192.0.2.1"] * 100)

    def test_it_is_asked_again_afterwards(self) -> None:
        first = self.connect()
        self.resolver.answer()
        self.failureResultOf(first, DNSLookupError)
        self.connect()
        self.assertEqual(len(self.resolver.asked), 2)
        self.resolver.answer("192.0.2.1")
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_who_gives_up_leaves_the_others_waiting(self) -> None:
        first, _ = self.connect(), self.connect()
        first.cancel()
        self.failureResultOf(first)
        self.resolver.answer("192.0.2.1")
        self.assertEqual(len(self.reactor.tcpClients), 1)
