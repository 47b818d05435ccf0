"""From endpoint descriptions to listening ports."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import trustme
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import endpoints
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor

from voiceingest.config import Settings
from voiceingest.errors import BadCertificate, PortUnavailable, SettingsError
from voiceingest.limits import LISTEN_BACKLOG_COUNT
from voiceingest.listeners import Listener, Place, admin_places, public_places, take_apart
from voiceingest.tls import Certificates, KeyPair

from .support.case import SynchronousTestCase, TestCase

ROOT = Path(__file__).resolve().parents[1]
OWN = KeyPair(Path("/own.key"), Path("/own.crt"))
BACKLOG = f"backlog={LISTEN_BACKLOG_COUNT}"


class TakeApartTests(SynchronousTestCase):
    def test_descriptions(self) -> None:
        other = KeyPair(Path("k.pem"), Path("c.pem"))
        one_file = KeyPair(Path("both.pem"), Path("both.pem"))
        chain = KeyPair(Path("k.pem"), Path("c.pem"), Path("x.pem"))
        table: list[tuple[str, str, KeyPair | None]] = [
            ("tcp:8443", f"tcp:8443:{BACKLOG}", None),
            ("tcp:8443:interface=127.0.0.1", f"tcp:8443:interface=127.0.0.1:{BACKLOG}", None),
            ("tcp:8443:backlog=9", "tcp:8443:backlog=9", None),
            ("tcp:8443:127.0.0.1:9", "tcp:8443:127.0.0.1:9", None),
            ("tcp:8443:127.0.0.1", f"tcp:8443:127.0.0.1:{BACKLOG}", None),
            ("tcp:8443:interface=\\:\\:1", f"tcp:8443:interface=\\:\\:1:{BACKLOG}", None),
            ("tcp6:8443", f"tcp6:8443:{BACKLOG}", None),
            ("tcp6:8443:9", "tcp6:8443:9", None),
            ("unix:/run/v.sock", f"unix:/run/v.sock:{BACKLOG}:mode=660", None),
            ("unix:/run/v.sock:mode=600", f"unix:/run/v.sock:mode=600:{BACKLOG}", None),
            ("unix:/run/v.sock:666", f"unix:/run/v.sock:666:{BACKLOG}", None),
            ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0", None),
            ("haproxy:tcp:8443", f"haproxy:tcp:8443:{BACKLOG}", None),
            ("8443", f"tcp:8443:{BACKLOG}", OWN),
            ("ssl:8443", f"tcp:8443:{BACKLOG}", OWN),
            ("ssl:8443:interface=\\:\\:1", f"tcp:8443:interface=\\:\\:1:{BACKLOG}", OWN),
            ("ssl:8443:privateKey=k.pem:certKey=c.pem", f"tcp:8443:{BACKLOG}", other),
            ("ssl:8443:privateKey=both.pem", f"tcp:8443:{BACKLOG}", one_file),
            ("ssl:8443:k.pem:c.pem", f"tcp:8443:{BACKLOG}", other),
            ("ssl:8443:privateKey=k.pem:certKey=c.pem:extraCertChain=x.pem:backlog=9",
             "tcp:8443:backlog=9", chain),
            ("tls+systemd:domain=INET:index=0", "systemd:domain=INET:index=0", OWN),
            ("tls+systemd:domain=INET:name=v:privateKey=k.pem:certKey=c.pem",
             "systemd:domain=INET:name=v", other),
            ("tls+tcp6:8443", f"tcp6:8443:{BACKLOG}", OWN),
            ("tls+haproxy:tcp:8443", f"haproxy:tcp:8443:{BACKLOG}", OWN),
            ("tls+unix:/run/v.sock", f"unix:/run/v.sock:{BACKLOG}:mode=660", OWN),
        ]
        for description, plain, pair in table:
            self.assertEqual(take_apart(description, OWN), Place(description, plain, pair), description)

    def test_a_number_is_plain_without_a_certificate(self) -> None:
        self.assertEqual(take_apart("8080", None), Place("8080", f"tcp:8080:{BACKLOG}", None))

    def test_escapes_in_paths(self) -> None:
        place = take_apart("ssl:8443:privateKey=a\\:b.pem:certKey=c\\=d.pem", None)
        self.assertEqual(place.pair, KeyPair(Path("a:b.pem"), Path("c=d.pem")))

    def test_refusals(self) -> None:
        for description, words in (
            ("ssl:8443", "ssl_key_path"),
            ("ssl:8443:certKey=c.pem", "privateKey"),
            ("ssl:8443:sslmethod=TLSv1_METHOD", "sslmethod"),
            ("ssl:8443:dhParameters=dh.pem", "dhParameters"),
            ("ssl:8443:a:b:c:d:e:f:g", "too many"),
            ("tls:/etc/certs:8443", "ssl: is"),
            ("tcp:8443\\", "backslash"),
        ):
            with self.assertRaises(ValueError) as refused:
                take_apart(description, None)
            self.assertIn(words, str(refused.exception))

    @given(st.text(max_size=40))
    def test_any_text_is_a_place_or_a_value_error(self, description: str) -> None:
        try:
            place = take_apart(description, OWN)
        except ValueError:
            return
        self.assertEqual(place.description, description)

    @given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=4))
    def test_fields_come_out_as_twisted_reads_them(self, fields: list[str]) -> None:
        """Our splitting and Twisted's agree, whatever is escaped."""
        quoted = [field.replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=") for field in fields]
        plain = take_apart(":".join(["other", *quoted]), None).plain
        args, named = endpoints._parse(plain)
        self.assertEqual((args, named), (["other", *fields], {}))


class SettingsTests(SynchronousTestCase):
    def test_without_listen_the_port_is_used(self) -> None:
        self.assertEqual(public_places(Settings(port=9000))[0].plain, f"tcp:9000:{BACKLOG}")
        with_tls = Settings(port=9000, ssl_key_path=OWN.key_path, ssl_cert_path=OWN.cert_path)
        self.assertEqual(public_places(with_tls), (Place("9000", f"tcp:9000:{BACKLOG}", OWN),))

    def test_listen_may_be_several(self) -> None:
        places = public_places(Settings(listen=("tcp:1", "unix:/x")))
        self.assertEqual([place.description for place in places], ["tcp:1", "unix:/x"])

    def test_every_problem_is_named(self) -> None:
        with self.assertRaises(SettingsError) as refused:
            public_places(Settings(listen=("ssl:1", "tcp:2", "tls:/x:3")))
        self.assertEqual([line.split(": ")[:2] for line in refused.exception.problems],
                         [["listen", "ssl:1"], ["listen", "tls:/x:3"]])

    def test_admin(self) -> None:
        self.assertEqual(admin_places(Settings(admin="")), ())
        [place] = admin_places(Settings())
        self.assertEqual(place.description, "tcp:9464:interface=127.0.0.1")
        with self.assertRaises(SettingsError):
            admin_places(Settings(admin="ssl:1"))


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


class ListenerTests(TestCase):
    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.certificates = Certificates()

    def listener(self, *descriptions: str, own: KeyPair | None = None) -> Listener:
        places = [take_apart(description, own) for description in descriptions]
        listener = Listener("listen", places, Factory.forProtocol(Greeter), self.certificates, self.reactor)
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
        listener = self.listener("tcp:0:interface=127.0.0.1", f"unix:{path}")
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
            free = self.listener("tcp:0:interface=127.0.0.1")
            await free.start()
            port = free.addresses[0].port
            await free.stop()
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

    async def test_stopping_twice_and_unstarted(self) -> None:
        listener = self.listener("tcp:0:interface=127.0.0.1")
        await listener.stop()
        await listener.start()
        await listener.stop()
        await listener.stop()


# 40 file descriptors; more clients than that connect and stay.
EXHAUSTED = """
    import json, resource, socket, sys, time
    from voiceingest.reactor import install
    install()
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol
    from voiceingest.listeners import Listener, take_apart
    from voiceingest.tls import Certificates
    places = [take_apart("tcp:0:interface=127.0.0.1", None)]
    listener = Listener("listen", places, Factory.forProtocol(Protocol), Certificates(), reactor)
    listener.start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    def say():
        print(json.dumps({"cpu": time.process_time()}), flush=True)
    print(listener.addresses[0].port, flush=True)
    reactor.callLater(1.0, say)
    reactor.callLater(3.0, say)
    reactor.callLater(3.1, reactor.stop)
    reactor.run()
"""


class ExhaustionTests(SynchronousTestCase):
    def test_no_file_descriptor_left_is_no_busy_loop(self) -> None:
        """Twisted keeps one in reserve, with which it takes and drops those who wait."""
        daemon = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(EXHAUSTED)],
            stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        )
        self.addCleanup(daemon.wait)
        self.addCleanup(daemon.kill)
        assert daemon.stdout is not None
        port = int(daemon.stdout.readline())
        clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(80)]
        try:
            dropped = 0
            before = float(daemon.stdout.readline().split(":")[1].rstrip("}\n"))
            after = float(daemon.stdout.readline().split(":")[1].rstrip("}\n"))
            for client in clients:
                client.setblocking(False)
                try:
                    dropped += client.recv(1) == b""
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    dropped += 1
        finally:
            for client in clients:
                client.close()
        self.assertGreater(dropped, 40, "the limit was not reached: the test proves nothing")
        self.assertLess(dropped, 80, "those who were connected were dropped too")
        self.assertLess(after - before, 0.5, "CPU seconds in two idle seconds")
        daemon.stdout.close()
