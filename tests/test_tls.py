"""TLS: what is offered, what is refused, and certificates that change under a running daemon."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory

from voiceingest.errors import BadCertificate
from voiceingest.tls import Certificates, KeyPair, ReloadingContext, load_context

from .support.case import SynchronousTestCase

CA = trustme.CA()


class Echo(Protocol):
    """Sends back what it is sent."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class WithFiles(SynchronousTestCase):
    """Tests with a key and a certificate on disk."""

    def setUp(self) -> None:
        self.directory = self.mktemp_path()
        self.directory.mkdir()
        self.pair = KeyPair(self.directory / "key.pem", self.directory / "cert.pem")
        self.issue()

    def issue(self, ca: trustme.CA = CA) -> bytes:
        """Write a new key and certificate; returns the certificate in DER."""
        issued = ca.issue_cert("localhost")
        self.pair.key_path.write_bytes(issued.private_key_pem.bytes())
        self.pair.cert_path.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


class Client:
    """Python's own TLS, in memory, against a factory of Twisted's."""

    def __init__(self, creator: ReloadingContext, context: ssl.SSLContext) -> None:
        from twisted.internet.task import Clock

        self.clock = Clock()
        factory = TLSMemoryBIOFactory(creator, False, Factory.forProtocol(Echo), self.clock)
        protocol: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        self.server = protocol
        self.transport: Any = StringTransport()
        self.transport.abortConnection = self.transport.loseConnection  # type: ignore[method-assign]
        protocol.makeConnection(self.transport)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    def pump(self) -> None:
        """Carry bytes both ways."""
        data = self._out.read()
        if data:
            self.server.dataReceived(data)
        self.clock.advance(0)
        self._in.write(self.transport.value())
        self.transport.clear()

    def handshake(self) -> Client:
        """Complete the handshake. Raises: ``ssl.SSLError``."""
        for _ in range(10):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                if self.transport.disconnecting and not self.transport.value() and not self._in.pending:
                    raise ssl.SSLError("the server hung up") from None
                self.pump()
            else:
                self.pump()
                return self
        raise ssl.SSLError("the handshake does not end")

    def echo(self, data: bytes) -> bytes:
        """Send and read back."""
        self.tls.write(data)
        self.pump()
        return self.tls.read(len(data))


def client_context(**options: Any) -> ssl.SSLContext:
    """A client that trusts ``CA``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    for name, value in options.items():
        setattr(context, name, value)
    return context


class OfferTests(WithFiles):
    def setUp(self) -> None:
        super().setUp()
        self.creator = ReloadingContext(self.pair)

    def test_tls_1_3(self) -> None:
        client = Client(self.creator, client_context()).handshake()
        self.assertEqual(client.tls.version(), "TLSv1.3")
        self.assertEqual(client.echo(b"audio"), b"audio")

    def test_tls_1_2_with_each_suite_that_keeps_secrets(self) -> None:
        for suite in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"):
            context = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
            context.set_ciphers(f"ECDHE-ECDSA-{suite}")  # trustme's keys are elliptic
            client = Client(self.creator, context).handshake()
            self.assertEqual(client.tls.version(), "TLSv1.2")
            in_use = client.tls.cipher()
            assert in_use is not None
            self.assertEqual(in_use[0], f"ECDHE-ECDSA-{suite}")

    def test_older_versions_are_refused(self) -> None:
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            context = client_context()
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
            accepted = Client(self.lax(), context).handshake()
            self.assertEqual(accepted.tls.version(), version.name.replace("_", "."))
            with self.assertRaises(ssl.SSLError):
                Client(self.creator, context).handshake()

    def lax(self) -> ReloadingContext:
        """A server that takes anything: proves that the client of a test is able to."""
        creator = ReloadingContext(self.pair)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_VERSION)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.use_certificate_chain_file(str(self.pair.cert_path))
        context.use_privatekey_file(str(self.pair.key_path))
        creator._context = context
        return creator

    def test_suites_without_forward_secrecy_or_aead_are_refused(self) -> None:
        """Stock Twisted takes ``AES128-SHA`` and the CBC suites on TLS 1.2."""
        self.use_rsa()
        creator = ReloadingContext(self.pair)
        for cipher in ("AES128-SHA", "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA384"):
            context = client_context(maximum_version=ssl.TLSVersion.TLSv1_2, check_hostname=False)
            context.verify_mode = ssl.CERT_NONE
            context.set_ciphers(cipher + ":@SECLEVEL=0")
            Client(self.lax(), context).handshake()
            with self.assertRaises(ssl.SSLError, msg=cipher):
                Client(creator, context).handshake()
        context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        Client(creator, context).handshake()

    def use_rsa(self) -> None:
        """An RSA key: some suites need one to be offered at all."""
        key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self.pair.key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.pair.cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def test_http_1_1_is_the_only_application_protocol(self) -> None:
        for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)):
            context = client_context()
            if offered:
                context.set_alpn_protocols(offered)
            client = Client(self.creator, context).handshake()
            self.assertEqual(client.tls.selected_alpn_protocol(), chosen)

    def test_no_compression_and_no_resumption(self) -> None:
        context = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
        client = Client(self.creator, context).handshake()
        self.assertIsNone(client.tls.compression())
        session = client.tls.session
        assert session is not None
        self.assertFalse(session.has_ticket)
        again = Client(self.creator, context)
        again.tls.session = session
        self.assertFalse(again.handshake().tls.session_reused)

    def test_the_client_cannot_renegotiate(self) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        client = SSL.Connection(context, None)
        client.set_connect_state()
        wire = Client(self.creator, client_context())

        def carry() -> None:
            with contextlib.suppress(SSL.WantReadError):
                wire.server.dataReceived(client.bio_read(65536))
            wire.clock.advance(0)
            if wire.transport.value():
                client.bio_write(wire.transport.value())
                wire.transport.clear()

        for _ in range(10):
            try:
                client.do_handshake()
                break
            except SSL.WantReadError:
                carry()
        client.renegotiate()
        with self.assertRaises(SSL.Error) as refused:
            for _ in range(10):
                try:
                    client.do_handshake()
                    break
                except SSL.WantReadError:
                    carry()
        self.assertIn("no renegotiation", str(refused.exception))

    def test_the_chain_is_sent(self) -> None:
        middle = CA.create_child_ca()
        self.issue(middle)
        self.creator.reload()
        Client(self.creator, client_context()).handshake()

    def test_the_chain_may_have_its_own_file(self) -> None:
        middle = CA.create_child_ca()
        issued = middle.issue_cert("localhost")
        chain = self.directory / "chain.pem"
        self.pair.key_path.write_bytes(issued.private_key_pem.bytes())
        self.pair.cert_path.write_bytes(issued.cert_chain_pems[0].bytes())
        chain.write_bytes(issued.cert_chain_pems[1].bytes())
        creator = ReloadingContext(KeyPair(self.pair.key_path, self.pair.cert_path, chain))
        Client(creator, client_context()).handshake()

    def test_expiry(self) -> None:
        expires = x509.load_pem_x509_certificate(self.pair.cert_path.read_bytes()).not_valid_after_utc
        self.assertEqual(self.creator.expires_at, expires.timestamp())
        self.assertAlmostEqual(self.creator.days_to_expiry(expires.timestamp() - 86400 * 3), 3.0)


class BrokenFileTests(WithFiles):
    def assert_refused(self, path: Path, words: str) -> None:
        with self.assertRaises(BadCertificate) as refused:
            load_context(self.pair)
        self.assertIn(str(path), refused.exception.message)
        self.assertIn(words, refused.exception.message)
        self.assertNotIn("\n", refused.exception.message)

    def test_missing(self) -> None:
        for path in (self.pair.cert_path, self.pair.key_path):
            path.unlink()
            self.assert_refused(path, "No such file")

    def test_not_a_certificate(self) -> None:
        for text in (b"", b"nonsense", self.pair.cert_path.read_bytes()[:200]):
            self.pair.cert_path.write_bytes(text)
            self.assert_refused(self.pair.cert_path, "no PEM certificate")

    def test_not_a_key(self) -> None:
        for text in (b"", b"nonsense", self.pair.cert_path.read_bytes()):
            self.pair.key_path.write_bytes(text)
            self.assert_refused(self.pair.key_path, "no PEM private key")

    def test_key_of_another_certificate(self) -> None:
        self.pair.key_path.write_bytes(CA.issue_cert("localhost").private_key_pem.bytes())
        self.assert_refused(self.pair.key_path, "is not the key of")

    def test_encrypted_key(self) -> None:
        key = serialization.load_pem_private_key(self.pair.key_path.read_bytes(), None)
        self.pair.key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        self.assert_refused(self.pair.key_path, "encrypted")

    def test_a_key_too_small_for_openssl(self) -> None:
        key = rsa.generate_private_key(65537, 1024)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        weak = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self.pair.cert_path.write_bytes(weak.public_bytes(serialization.Encoding.PEM))
        self.assert_refused(self.pair.cert_path, "refuses the certificate")


class ReloadTests(WithFiles):
    def served(self, creator: ReloadingContext) -> bytes:
        """The certificate that a new connection gets, in DER."""
        found = Client(creator, client_context()).handshake().tls.getpeercert(binary_form=True)
        assert found is not None
        return found

    def test_new_connections_get_the_new_certificate_and_open_ones_go_on(self) -> None:
        creator = ReloadingContext(self.pair)
        before = Client(creator, client_context()).handshake()
        new = self.issue()
        self.assertNotEqual(self.served(creator), new)
        creator.reload()
        self.assertEqual(self.served(creator), new)
        self.assertEqual(before.echo(b"still here"), b"still here")

    def test_a_broken_file_keeps_the_old_certificate(self) -> None:
        creator = ReloadingContext(self.pair)
        before, expires_at = self.served(creator), creator.expires_at
        for path in (self.pair.cert_path, self.pair.key_path):
            path.write_bytes(b"half a fi")
            with self.assertRaises(BadCertificate):
                creator.reload()
            self.assertEqual(self.served(creator), before)
            self.assertEqual(creator.expires_at, expires_at)

    def test_certificates_share_a_context_and_reload_each_for_itself(self) -> None:
        other = KeyPair(self.directory / "other.key", self.directory / "other.pem")
        other.key_path.write_bytes(self.pair.key_path.read_bytes())
        other.cert_path.write_bytes(self.pair.cert_path.read_bytes())
        certificates = Certificates()
        broken, good = certificates.context_for(self.pair), certificates.context_for(other)
        self.assertIs(certificates.context_for(KeyPair(*[self.pair.key_path, self.pair.cert_path])), broken)
        self.issue()
        other.key_path.write_bytes(self.pair.key_path.read_bytes())
        other.cert_path.write_bytes(self.pair.cert_path.read_bytes())
        self.pair.cert_path.write_bytes(b"")
        before = self.served(good)
        with self.assertRaises(BadCertificate) as refused:
            certificates.reload()
        self.assertIn(str(self.pair.cert_path), refused.exception.message)
        self.assertNotEqual(self.served(good), before)

    def test_the_first_to_expire_counts(self) -> None:
        certificates = Certificates()
        self.assertEqual(certificates.expires_at, 0.0)
        first = certificates.context_for(self.pair)
        self.assertEqual(certificates.expires_at, first.expires_at)
