"""The certificate of gRPC: read, refused, read again."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase
from tests.support.servers import TlsFiles
from voiceingest.errors import BadCertificate
from voiceingest.tls import KeyPair
from voiceingest.transports.grpc_api.credentials import ReloadingCredentials


class CredentialsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.files = TlsFiles(self.mktemp_path())
        self.pair = KeyPair(self.files.key_path, self.files.cert_path)

    def test_what_cannot_be_used_is_named(self) -> None:
        self.files.key_path.write_text("no key")
        with self.assertRaises(BadCertificate) as caught:
            ReloadingCredentials(self.pair)
        self.assertIn(str(self.files.key_path), caught.exception.message)

    def test_each_handshake_asks_and_is_given_a_new_one_once(self) -> None:
        current = ReloadingCredentials(self.pair)
        current.credentials()
        self.assertIsNone(current._newer())
        TlsFiles(self.files.cert_path.parent / "new")
        current.reload()
        self.assertIsNotNone(current._newer())
        self.assertIsNone(current._newer())

    def test_a_broken_file_keeps_the_old_one(self) -> None:
        current = ReloadingCredentials(self.pair)
        self.files.cert_path.write_text("no certificate")
        self.assertRaises(BadCertificate, current.reload)
        self.assertIsNone(current._newer())
