from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.support.case import SynchronousTestCase
from voiceingest.cli.minting import (
    BadPrivateKey,
    TokenRequest,
    claims_of,
    load_signer,
    mint,
    rsa_pair,
    tls_pair,
)

NOW_S = 1_800_000_000.0


def pem_of(key: object, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)  # type: ignore[attr-defined]
    return pem


class SignerTests(SynchronousTestCase):
    pair = rsa_pair(2048)

    def test_the_algorithm_follows_from_the_key(self) -> None:
        for pem, algorithm in (
            (self.pair.private_pem, "RS256"),
            (pem_of(ec.generate_private_key(ec.SECP256R1())), "ES256"),
            (pem_of(ec.generate_private_key(ec.SECP384R1())), "ES384"),
            (pem_of(ed25519.Ed25519PrivateKey.generate()), "EdDSA"),
        ):
            self.assertEqual(load_signer(pem).algorithm, algorithm)

    def test_keys_that_cannot_sign(self) -> None:
        for pem, words in (
            (self.pair.public_pem, "public key"),
            (pem_of(ed25519.Ed25519PrivateKey.generate(), b"secret"), "pass phrase"),
            (pem_of(rsa.generate_private_key(65537, 1024)), "1024 bits"),
            (pem_of(dsa.generate_private_key(2048)), "of a kind"),
            (pem_of(ec.generate_private_key(ec.SECP521R1())), "of a kind"),
            (b"", "not a PEM"),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a PEM"),
        ):
            with self.assertRaises(BadPrivateKey) as caught:
                load_signer(pem)
            self.assertIn(words, str(caught.exception))

    def test_keys_do_not_show_in_a_representation(self) -> None:
        self.assertNotIn("PRIVATE", repr(self.pair))
        self.assertNotIn("object at", repr(load_signer(self.pair.private_pem)))


class TokenTests(SynchronousTestCase):
    pair = rsa_pair(2048)

    def test_claims(self) -> None:
        request = TokenRequest("acme", lifetime_s=60, extra={"role": "agent"})
        self.assertEqual(
            claims_of(request, NOW_S),
            {"tenant_id": "acme", "role": "agent", "iat": int(NOW_S), "exp": int(NOW_S) + 60},
        )

    def test_a_minted_token_verifies(self) -> None:
        request = TokenRequest("acme", "call-7", "me", 60, "https://issuer", "voice", "key-1")
        minted = mint(load_signer(self.pair.private_pem), request, NOW_S)
        claims = jwt.decode(
            minted,
            self.pair.public_pem,
            ["RS256"],
            issuer="https://issuer",
            audience="voice",
            options={"verify_exp": False, "verify_iat": False},
        )
        self.assertEqual(
            (claims["tenant_id"], claims["interaction_id"], claims["sub"]), ("acme", "call-7", "me")
        )
        self.assertEqual(jwt.get_unverified_header(minted)["kid"], "key-1")

    def test_no_kid_no_member(self) -> None:
        minted = mint(load_signer(self.pair.private_pem), TokenRequest("acme"), NOW_S)
        self.assertNotIn("kid", jwt.get_unverified_header(minted))


class CertificateTests(SynchronousTestCase):
    def test_names_addresses_and_life(self) -> None:
        now = datetime(2027, 1, 1, tzinfo=UTC)
        pair = tls_pair(["localhost", "127.0.0.1", "::1"], now, days=10)
        certificate = x509.load_pem_x509_certificate(pair.public_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["localhost"])
        self.assertEqual(
            [str(found) for found in names.get_values_for_type(x509.IPAddress)], ["127.0.0.1", "::1"]
        )
        self.assertEqual(certificate.not_valid_after_utc, now + timedelta(days=10))
        self.assertFalse(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)

    def test_what_is_no_host(self) -> None:
        with self.assertRaises(ValueError):
            tls_pair(["grüße"], datetime(2027, 1, 1, tzinfo=UTC))
