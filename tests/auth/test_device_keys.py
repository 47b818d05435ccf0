from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import SecretStr

from tests.support.case import SynchronousTestCase
from tests.support.tokens import Issuer
from voiceingest.auth.device_keys import DeviceKeys, PrivateKey, SecretKey
from voiceingest.config import Settings
from voiceingest.errors import BadKey

ISSUER = Issuer()
NEW, OLD = "n" * 32, "o" * 32


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    """A private key as a file would hold it."""
    locked = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked).decode()


PRIVATE = pem(ISSUER.key)


def keys(**given: str) -> DeviceKeys:
    return DeviceKeys.from_settings(Settings(**{name: SecretStr(text) for name, text in given.items()}))


class DeviceKeysTests(SynchronousTestCase):
    """Which key signs, and which verify."""

    def test_the_secret_signs_and_the_one_before_verifies(self) -> None:
        found = keys(jwt_secret=NEW, jwt_secret_previous=OLD)
        self.assertEqual(found.signing.algorithm, "HS256")
        self.assertEqual(found.signing.kid, hashlib.sha256(NEW.encode()).hexdigest()[:16])
        self.assertEqual(set(found.by_kid), {SecretKey(text.encode()).kid for text in (NEW, OLD)})

    def test_a_private_key_goes_before_a_secret(self) -> None:
        found = keys(jwt_secret=NEW, jwt_private_key=PRIVATE)
        public = ISSUER.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual(found.signing.algorithm, "RS256")
        self.assertEqual(found.signing.kid, hashlib.sha256(public).hexdigest()[:16])
        self.assertEqual({key.algorithm for key in found.by_kid.values()}, {"RS256", "HS256"})

    def test_a_private_key_of_before_never_signs(self) -> None:
        found = keys(jwt_secret=NEW, jwt_private_key_previous=PRIVATE)
        self.assertEqual(found.signing.algorithm, "HS256")
        self.assertEqual(len(found.by_kid), 2)

    def test_the_same_key_twice_is_one(self) -> None:
        self.assertEqual(len(keys(jwt_secret=NEW, jwt_secret_previous=NEW).by_kid), 1)

    def test_none_to_sign_with(self) -> None:
        for given in ({}, {"jwt_secret_previous": OLD}, {"jwt_private_key_previous": PRIVATE}):
            with self.assertRaises(BadKey):
                keys(**given)

    def test_line_breaks_may_be_spelt_out(self) -> None:
        spelt = PRIVATE.replace("\n", "\\n")
        self.assertEqual(PrivateKey(spelt).kid, PrivateKey(PRIVATE).kid)

    def test_private_keys_that_cannot_be_used(self) -> None:
        weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        for text, word in (
            ("", "read"), ("x", "read"), (ISSUER.public_pem, "read"), ("\ud800", "read"),
            (pem(ISSUER.key, b"password"), "read"), (pem(ec.generate_private_key(ec.SECP256R1())), "RSA"),
            (pem(weak), "1024"),
        ):
            with self.assertRaises(BadKey) as caught:
                PrivateKey(text)
            self.assertIn(word, caught.exception.message)
            self.assertNotIn("BEGIN", caught.exception.message)

    def test_a_key_that_others_may_know_is_no_secret(self) -> None:
        for text in (PRIVATE, ISSUER.public_pem):
            with self.assertRaises(BadKey):
                keys(jwt_secret=text)

    def test_signatures(self) -> None:
        for key in (SecretKey(NEW.encode()), PrivateKey(PRIVATE)):
            seal = key.sign(b"what")
            self.assertTrue(key.verifies(b"what", seal))
            self.assertFalse(key.verifies(b"else", seal))
            for signature in (seal[:-1], b"", seal + b"x"):
                self.assertFalse(key.verifies(b"what", signature))
