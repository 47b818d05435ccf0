"""Where to listen, from endpoint descriptions."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import endpoints

from voiceingest.config import Settings
from voiceingest.errors import SettingsError
from voiceingest.limits import LISTEN_BACKLOG_COUNT
from voiceingest.places import Place, admin_places, public_places, take_apart
from voiceingest.tls import KeyPair

from .support.case import SynchronousTestCase

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
            ("8443:interface=127.0.0.1", f"tcp:8443:interface=127.0.0.1:{BACKLOG}", OWN),
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

    def test_shared_ports(self) -> None:
        table: list[tuple[str, str, KeyPair | None]] = [
            ("tcp:8443:reusePort=1", f"tcp:8443:{BACKLOG}", None),
            ("tcp:reusePort=1:8443:interface=\\:\\:1", f"tcp:8443:interface=\\:\\:1:{BACKLOG}", None),
            ("tcp6:8443:reusePort=1", f"tcp6:8443:{BACKLOG}", None),
            ("ssl:8443:reusePort=1", f"tcp:8443:{BACKLOG}", OWN),
            ("8443:reusePort=1", f"tcp:8443:{BACKLOG}", OWN),
            ("tls+tcp6:8443:reusePort=1:backlog=9", "tcp6:8443:backlog=9", OWN),
            ("haproxy:tcp:8443:reusePort=1", f"haproxy:tcp:8443:{BACKLOG}", None),
            ("tls+haproxy:tcp6:8443:reusePort=1", f"haproxy:tcp6:8443:{BACKLOG}", OWN),
        ]
        for description, plain, pair in table:
            self.assertEqual(take_apart(description, OWN), Place(description, plain, pair, True), description)
        self.assertFalse(take_apart("tcp:8443:reusePort=0", None).reuse_port)

    def test_inherited_sockets(self) -> None:
        for description, is_inherited in (
            ("systemd:domain=INET:index=0", True), ("tls+systemd:domain=INET:index=0", True),
            ("haproxy:systemd:domain=INET:index=0", True), ("tcp:1", False), ("unix:/run/systemd:x", False),
        ):
            self.assertEqual(take_apart(description, OWN).is_inherited, is_inherited, description)

    def test_a_number_is_plain_without_a_certificate(self) -> None:
        self.assertEqual(take_apart("8080", None), Place("8080", f"tcp:8080:{BACKLOG}", None))
        self.assertEqual(
            take_apart("8080:reusePort=1", None), Place("8080:reusePort=1", f"tcp:8080:{BACKLOG}", None, True)
        )

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
            ("unix:/run/v.sock:reusePort=1", "unix: takes no reusePort, only tcp:, tcp6: and ssl: do"),
            ("systemd:domain=INET:index=0:reusePort=1", "systemd: takes no reusePort"),
            ("haproxy:unix:/run/v.sock:reusePort=1", "unix: takes no reusePort"),
            ("tcp:8443:reusePort=yes", "reusePort is 0 or 1"),
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
