"""Ports that several processes listen on."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol

from voiceingest.reuseport import SharedPorts

from .support.case import TestCase
from .test_accepting import queued

HOST = "127.0.0.1"


class SharedPortsTests(TestCase):
    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.factory = Factory.forProtocol(Protocol)

    def listen(self, port: int, interface: str = HOST, backlog: int = 50) -> Any:
        listening = SharedPorts(self.reactor).listenTCP(port, self.factory, backlog, interface)
        self.addCleanup(listening.stopListening)
        return listening

    def test_a_port_is_shared(self) -> None:
        first = self.listen(0)
        second = self.listen(first.getHost().port)
        self.assertEqual(first.getHost(), second.getHost())
        self.assertNotEqual(first.fileno(), second.fileno())

    def test_connections_are_dealt_out(self) -> None:
        ports = [self.listen(0)]
        number = ports[0].getHost().port
        ports.append(self.listen(number))
        for _ in range(64):
            self.addCleanup(socket.create_connection((HOST, number), 5).close)
        # The callers' side of a handshake is done before that of the port.
        while sum(queued(port.socket) for port in ports) < 64:
            time.sleep(0.001)
        for port in ports:
            port.doRead()
        taken = [port.sessionno for port in ports]
        self.assertGreater(min(taken), 8, taken)

    def test_who_does_not_share_gets_nothing(self) -> None:
        number = self.listen(0).getHost().port
        with self.assertRaises(CannotListenError):
            self.reactor.listenTCP(number, self.factory, interface=HOST)
        with socket.create_server((HOST, 0)) as taken, self.assertRaises(CannotListenError) as refused:
            self.listen(taken.getsockname()[1])
        self.assertIsInstance(refused.exception.socketError, OSError)

    def test_ipv6(self) -> None:
        first = self.listen(0, "::1")
        self.assertEqual(first.getHost().host, "::1")
        second = self.listen(first.getHost().port, "::1")
        self.assertEqual(second.getHost(), first.getHost())

    def test_every_address(self) -> None:
        number = self.listen(0, "").getHost().port
        socket.create_connection((HOST, number), 5).close()

    def test_the_descriptor_it_made_is_closed(self) -> None:
        made: list[int] = []

        class Reactor:
            """Notes what it is given."""

            def adoptStreamPort(self, fileno: int, family: int, factory: Factory) -> str:
                made.append(fileno)
                with socket.socket(fileno=socket.dup(fileno)) as given:
                    assert given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
                assert not os.get_blocking(fileno)
                return "port"

        self.assertEqual(SharedPorts(Reactor()).listenTCP(0, self.factory, 5, HOST), "port")
        with self.assertRaises(OSError):
            socket.socket(fileno=made[0])

    def test_an_address_that_is_none(self) -> None:
        with self.assertRaises(CannotListenError):
            self.listen(0, "192.0.2.1")
