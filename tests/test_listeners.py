"""Listening ports, from their start to their end."""

from __future__ import annotations

import socket
import stat
from pathlib import Path
from typing import Any

import trustme
from twisted.internet import endpoints
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactor

from voiceingest.accepting import LateClose
from voiceingest.errors import BadCertificate, PortUnavailable, SettingsError
from voiceingest.limits import LISTEN_BACKLOG_COUNT
from voiceingest.listeners import Listener, take_apart
from voiceingest.places import Place
from voiceingest.tls import Certificates, KeyPair

from .support.case import TestCase
from .support.daemon import free_port

OWN = KeyPair(Path("/own.key"), Path("/own.crt"))
BACKLOG = f"backlog={LISTEN_BACKLOG_COUNT}"


class Greeter(Protocol):
    """Says hello."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")


class Reader(Protocol):
    """Fires with the first bytes."""

    def __init__(self) -> None:
        self.read: Deferred[bytes] = Deferred()
        self.closed: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.read.callback(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(None)


def stat_of(path: str) -> int:
    """The mode of a file; 0 when there is none."""
    return Path(path).stat().st_mode if Path(path).exists() else 0


def own_port() -> str:
    """A port that nobody else is given when it is closed."""
    return f"tcp:{free_port()}:interface=127.0.0.1"


class ListenerTests(TestCase):
    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.certificates = Certificates()

    def listener(
        self, *descriptions: str, own: KeyPair | None = None, late: LateClose | None = None
    ) -> Listener:
        places = [take_apart(description, own) for description in descriptions]
        factory = Factory.forProtocol(Greeter)
        listener = Listener("listen", places, factory, self.certificates, self.reactor, late=late)
        self.addCleanup(listener.stop)
        return listener

    async def greeted_at(self, client: Any) -> bytes:
        reader = Reader()
        await connectProtocol(client, reader)
        data = await reader.read
        assert reader.transport is not None
        reader.transport.loseConnection()
        await reader.closed
        return data

    def client(self, description: str) -> Any:
        return endpoints.clientFromString(self.reactor, description)

    async def test_several_ports(self) -> None:
        path = self.mktemp_path().name
        listener = self.listener(own_port(), f"unix:{path}")
        await listener.start()
        port = listener.addresses[0].port
        self.assertEqual(await self.greeted_at(self.client(f"tcp:127.0.0.1:{port}")), b"hello")
        self.assertEqual(await self.greeted_at(self.client(f"unix:{path}")), b"hello")
        self.assertTrue(stat.S_ISSOCK(stat_of(path)))
        self.assertEqual(stat.S_IMODE(stat_of(path)), 0o660)
        await listener.stop()
        self.assertEqual(stat_of(path), 0)
        with self.assertRaises(Exception):  # noqa: B017 (any refusal of the system)
            await self.greeted_at(self.client(f"tcp:127.0.0.1:{port}"))

    async def test_the_accept_queue_is_long(self) -> None:
        reactor = MemoryReactor()
        place = take_apart("tcp:8443", None)
        Listener("listen", [place], Factory(), self.certificates, reactor).start()
        self.assertEqual(reactor.tcpServers[0][2], LISTEN_BACKLOG_COUNT)

    async def test_tls(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        directory = self.mktemp_path()
        directory.mkdir()
        pair = KeyPair(directory / "key.pem", directory / "cert.pem")
        issued.private_key_pem.write_to_path(pair.key_path)
        issued.cert_chain_pems[0].write_to_path(pair.cert_path)
        trusted = directory / "trusted"
        trusted.mkdir()
        authority.cert_pem.write_to_path(trusted / "ca.pem")
        listener = self.listener("ssl:0:interface=127.0.0.1", "tls+tcp:0:interface=127.0.0.1", own=pair)
        await listener.start()
        for address in listener.addresses:
            where = f"tls:localhost:{address.port}:bindAddress=127.0.0.1:trustRoots={trusted}"
            self.assertEqual(await self.greeted_at(self.client(where)), b"hello")

    async def test_a_busy_port_fails_with_one_line_and_closes_the_others(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            taken = busy.getsockname()[1]
            port = free_port()
            listener = self.listener(f"tcp:{port}:interface=127.0.0.1", f"tcp:{taken}:interface=127.0.0.1")
            with self.assertRaises(PortUnavailable) as refused:
                await listener.start()
        self.assertEqual(
            refused.exception.message,
            f"listen: tcp:{taken}:interface=127.0.0.1: cannot listen: Address already in use",
        )
        self.assertEqual(listener.addresses, [])
        socket.create_server(("127.0.0.1", port)).close()

    async def test_what_cannot_be_bound_is_named(self) -> None:
        for description, words in (
            ("tcp:0:interface=192.0.2.1", "Cannot assign requested address"),
            ("unix:/nowhere/at/all.sock:lockfile=0", "No such file or directory"),
        ):
            with self.assertRaises(PortUnavailable) as refused:
                await self.listener(description).start()
            self.assertIn(description, refused.exception.message)
            self.assertIn(words, refused.exception.message)

    def test_what_cannot_be_read_is_named(self) -> None:
        for description in (
            "tcp:abc", "tcp", "nonsense:1", "tcp:1:colour=red", "systemd:domain=INET:index=7",
            "systemd:domain=INET:name=none", "systemd:domain=NONE:index=0", "",
        ):
            with self.assertRaises(SettingsError) as refused:
                self.listener(description)
            self.assertEqual(len(refused.exception.problems), 1)
            self.assertTrue(refused.exception.problems[0].startswith(f"listen: {description}: "))

    def test_a_certificate_that_cannot_be_read_is_named(self) -> None:
        with self.assertRaises(BadCertificate):
            self.listener("ssl:0", own=OWN)

    async def test_a_shared_port_is_shared_by_those_who_say_so(self) -> None:
        first = self.listener("tcp:0:interface=127.0.0.1:reusePort=1")
        await first.start()
        where = f"tcp:{first.addresses[0].port}:interface=127.0.0.1"
        second = self.listener(f"{where}:reusePort=1")
        await second.start()
        self.assertEqual(second.addresses, first.addresses)
        with self.assertRaises(PortUnavailable) as refused:
            await self.listener(where).start()
        self.assertEqual(
            refused.exception.message, f"listen: {where}: cannot listen: Address already in use"
        )
        await first.stop()
        self.assertEqual(await self.greeted_at(self.client(f"tcp:127.0.0.1:{where.split(':')[1]}")), b"hello")

    async def test_a_port_that_is_not_shared_cannot_be_shared(self) -> None:
        alone = self.listener("tcp:0:interface=127.0.0.1")
        await alone.start()
        where = f"tcp:{alone.addresses[0].port}:interface=127.0.0.1:reusePort=1"
        with self.assertRaises(PortUnavailable) as refused:
            await self.listener(where).start()
        self.assertIn(f"{where}: cannot listen: Address already in use", refused.exception.message)

    async def test_ports_are_closed_late_where_that_is_asked_for(self) -> None:
        clock = Clock()
        listener = self.listener(own_port(), late=LateClose(clock, 1.0))
        await listener.start()
        where = f"tcp:127.0.0.1:{listener.addresses[0].port}"
        stopped = listener.stop()
        self.assertEqual(await self.greeted_at(self.client(where)), b"hello")
        self.assertNoResult(stopped)
        clock.pump([0.75, 0.25])
        await stopped
        with self.assertRaises(Refused):
            await self.greeted_at(self.client(where))

    async def test_a_stop_that_is_cut_short_closes_at_once(self) -> None:
        listener = self.listener(own_port(), late=LateClose(Clock(), 1.0))
        await listener.start()
        where = f"tcp:127.0.0.1:{listener.addresses[0].port}"
        stopped = listener.stop()
        stopped.cancel()
        self.failureResultOf(stopped, CancelledError)
        await deferLater(self.reactor, 0)
        with self.assertRaises(Refused):
            await self.greeted_at(self.client(where))

    async def test_a_start_that_fails_closes_at_once_even_so(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            taken = busy.getsockname()[1]
            listener = self.listener(
                "tcp:0:interface=127.0.0.1", f"tcp:{taken}:interface=127.0.0.1",
                late=LateClose(Clock(), 60.0),
            )
            with self.assertRaises(PortUnavailable):
                await listener.start()

    async def test_an_inherited_socket_is_left_to_the_next_process_at_once(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as inherited:
            listener = self.listener(late=LateClose(Clock(), 60.0))
            place = Place("systemd:name=v", "systemd:name=v", None)
            port = self.reactor.adoptStreamPort(inherited.fileno(), socket.AF_INET, Factory())
            listener._ports.append((place, port))
            await listener.stop()
            # Whoever comes now waits in the queue.
            socket.create_connection(inherited.getsockname()[:2], timeout=5).close()
            self.assertEqual(port.sessionno, 0)

    async def test_stopping_twice_and_unstarted(self) -> None:
        listener = self.listener("tcp:0:interface=127.0.0.1")
        await listener.stop()
        await listener.start()
        await listener.stop()
        await listener.stop()


