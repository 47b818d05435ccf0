from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.support.case import SynchronousTestCase
from tests.support.tokens import Issuer
from voiceingest.auth.keys import KEYS_MAX_COUNT, KeySet, from_jwks, from_pem
from voiceingest.errors import BadKey, Unauthenticated

ONE, OTHER = Issuer("one"), Issuer("two")
SMALL = rsa.generate_private_key(65537, 1024)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
ED448 = ed448.Ed448PrivateKey.generate()
RS256 = frozenset({"RS256"})
EVERY = frozenset({"RS256", "PS256", "ES256", "ES384", "EdDSA"})


def pem(key: Any) -> str:
    public = key.public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def jwk(key: Any, **members: Any) -> dict[str, Any]:
    """The public JWK of any key, with members added, replaced or (``None``) left out."""
    kind: Any = OKPAlgorithm
    if isinstance(key, rsa.RSAPrivateKey):
        kind = RSAAlgorithm
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        kind = ECAlgorithm
    fields = {**kind.to_jwk(key.public_key(), as_dict=True), "kid": "k", "key_ops": None, **members}
    return {name: value for name, value in fields.items() if value is not None}


def key_set(*entries: Any) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


class PemTests(SynchronousTestCase):
    def test_a_key_with_line_breaks_in_every_spelling(self) -> None:
        text = ONE.public_pem
        flat = text.replace("\n", "\\n")
        for spelling in (text, flat, text.replace("\n", "\\r\\n"), f"\n  {text}\n", text.strip()):
            keys = from_pem(spelling, RS256)
            self.assertEqual(keys.choose(None, "RS256"), ONE.key.public_key())

    def test_pkcs1_is_read_too(self) -> None:
        text = ONE.key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()
        self.assertEqual(len(from_pem(text, RS256)), 1)

    def test_a_pinned_key_has_no_name_so_kid_is_left_aside(self) -> None:
        keys = from_pem(ONE.public_pem, RS256)
        self.assertEqual(keys.choose("whatever-the-issuer-calls-it", "RS256"), ONE.key.public_key())

    def test_a_pinned_key_verifies_only_what_it_is_for(self) -> None:
        keys = from_pem(pem(P256), EVERY)
        self.assertEqual(keys.choose(None, "ES256"), P256.public_key())
        for algorithm in ("RS256", "ES384", "EdDSA", "HS256", "none"):
            refused = self.assertRaises(Unauthenticated, keys.choose, None, algorithm)
            self.assertEqual(refused.reason, "wrong_key")

    def test_every_kind_that_the_algorithms_allow(self) -> None:
        for key, algorithm in ((P256, "ES256"), (P384, "ES384"), (ED25519, "EdDSA")):
            self.assertEqual(from_pem(pem(key), EVERY).choose(None, algorithm), key.public_key())

    def test_refused(self) -> None:
        private = ONE.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        table = {
            "small": pem(SMALL),
            "algorithm": pem(P256),
            "p521": pem(P521),
            "ed448": pem(ED448),
            "dsa": pem(dsa.generate_private_key(2048)),
            "private": private,
            "two": ONE.public_pem + OTHER.public_pem,
            "empty": "",
            "text": "not a key",
            "broken": ONE.public_pem.replace("A", "!"),
            "cut": ONE.public_pem[:100],
            "not ascii": ONE.public_pem.replace("MII", "\N{SNOWMAN}"),
        }
        for name, text in table.items():
            algorithms = RS256 if name == "algorithm" else EVERY
            with self.assertRaises(BadKey, msg=name) as caught:
                from_pem(text, algorithms)
            self.assertNotIn("MII", str(caught.exception), name)

    def test_the_bits_of_a_small_key_are_named(self) -> None:
        self.assertIn("1024", str(self.assertRaises(BadKey, from_pem, pem(SMALL), RS256)))


class JwksTests(SynchronousTestCase):
    def test_the_key_is_chosen_by_kid(self) -> None:
        keys = from_jwks(ONE.jwks(OTHER), RS256)
        self.assertEqual(keys.choose("one", "RS256"), ONE.key.public_key())
        self.assertEqual(keys.choose("two", "RS256"), OTHER.key.public_key())

    def test_an_unknown_kid_is_refused_even_where_one_key_would_fit(self) -> None:
        refused = self.assertRaises(Unauthenticated, from_jwks(ONE.jwks(), RS256).choose, "three", "RS256")
        self.assertEqual(refused.reason, "unknown_key")

    def test_kid_is_only_ever_compared(self) -> None:
        keys = from_jwks(ONE.jwks(), RS256)
        attacks = (
            "../../../../dev/null", "one' OR '1'='1", 'one"; DROP TABLE keys', "one\x00", "one\n", "",
            "a" * 129, "..\\..\\keys", 1, 1.5, True, ["one"], {"one": 1},
        )
        for kid in attacks:
            refused = self.assertRaises(Unauthenticated, keys.choose, kid, "RS256")
            self.assertEqual(refused.reason, "bad_kid", repr(kid))
        for kid in ("http://127.0.0.1/keys", "file:///etc/passwd", "/dev/null"):
            refused = self.assertRaises(Unauthenticated, keys.choose, kid, "RS256")
            self.assertEqual(refused.reason, "unknown_key", repr(kid))

    def test_kids_as_issuers_write_them(self) -> None:
        for kid in ("0ea8", "NjVBRjY5/+==", "urn:uuid:1-2", "did:key:z6#z6", "key 1", "2026-11-20", "/x"):
            keys = from_jwks(key_set(jwk(ONE.key, kid=kid)), RS256)
            self.assertEqual(keys.choose(kid, "RS256"), ONE.key.public_key(), kid)

    def test_without_kid_only_where_exactly_one_key_fits(self) -> None:
        self.assertEqual(from_jwks(ONE.jwks(), RS256).choose(None, "RS256"), ONE.key.public_key())
        mixed = from_jwks(key_set(jwk(ONE.key, kid="a"), jwk(P256, kid="b")), EVERY)
        self.assertEqual(mixed.choose(None, "ES256"), P256.public_key())
        for keys, reason in ((from_jwks(ONE.jwks(OTHER), RS256), "which_key"), (KeySet(), "unknown_key")):
            refused = self.assertRaises(Unauthenticated, keys.choose, None, "RS256")
            self.assertEqual(refused.reason, reason)

    def test_the_type_of_the_key_must_match_the_algorithm(self) -> None:
        keys = from_jwks(key_set(jwk(P256, kid="ec"), jwk(ONE.key, kid="rsa", alg="RS256")), EVERY)
        for kid, algorithm in (("ec", "RS256"), ("rsa", "ES256"), ("rsa", "PS256"), ("ec", "HS256")):
            refused = self.assertRaises(Unauthenticated, keys.choose, kid, algorithm)
            self.assertEqual(refused.reason, "wrong_key")

    def test_of_two_keys_with_one_kid_the_first_is_taken(self) -> None:
        keys = from_jwks(key_set(jwk(ONE.key, kid="k"), jwk(OTHER.key, kid="k")), RS256)
        self.assertEqual(keys.choose("k", "RS256"), ONE.key.public_key())
        self.assertEqual(keys.choose(None, "RS256"), ONE.key.public_key())
        self.assertEqual((len(keys), keys.ignored), (1, 1))

    def test_entries_that_are_ignored(self) -> None:
        table: dict[str, Any] = {
            "encryption": jwk(OTHER.key, use="enc"),
            "use of a wrong type": jwk(OTHER.key, use=["sig"]),
            "signing only": jwk(OTHER.key, key_ops=["sign"]),
            "operations of a wrong type": jwk(OTHER.key, key_ops="verify"),
            "private": {**RSAAlgorithm.to_jwk(OTHER.key, as_dict=True), "key_ops": ["verify"], "kid": "k"},
            "private part alone": jwk(OTHER.key, d="AQAB"),
            "prime beside a public key": jwk(OTHER.key, p="AQAB"),
            "secret beside a public key": jwk(OTHER.key, k="AQAB"),
            "symmetric": {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"},
            "symmetric without its secret": {"kty": "oct", "kid": "k"},
            "unknown type": jwk(OTHER.key, kty="XYZ"),
            "no type": jwk(OTHER.key, kty=None),
            "type of a wrong type": jwk(OTHER.key, kty=["RSA"]),
            "small": jwk(SMALL),
            "huge": jwk(OTHER.key, n=base64.urlsafe_b64encode(b"\x01" * 1025).decode()),
            "curve": jwk(P521),
            "ed448": jwk(ED448),
            "other algorithm": jwk(OTHER.key, alg="RS512"),
            "hmac algorithm": jwk(OTHER.key, alg="HS256"),
            "algorithm of a wrong type": jwk(OTHER.key, alg=["RS256"]),
            "no modulus": jwk(OTHER.key, n=None),
            "modulus of a wrong type": jwk(OTHER.key, n=17),
            "modulus not base64": jwk(OTHER.key, n="é"),
            "even exponent": jwk(OTHER.key, e="Ag"),
            "endless modulus": jwk(OTHER.key, n="A" * 100_000),
            "kid of a wrong type": jwk(OTHER.key, kid=7),
            "kid that no token could name": jwk(OTHER.key, kid="../k"),
            "point not on the curve": jwk(P256, y=jwk(P256)["x"]),
            "text": "key",
            "null": None,
            "list": [],
        }
        for name, entry in table.items():
            keys = from_jwks(key_set(entry, ONE.jwk()), RS256 if name == "other algorithm" else EVERY)
            self.assertEqual((len(keys), keys.ignored), (1, 1), name)
            self.assertEqual(keys.choose("one", "RS256"), ONE.key.public_key(), name)

    def test_taken_without_use_alg_and_kid(self) -> None:
        bare = jwk(ONE.key, use=None, alg=None, kid=None)
        self.assertEqual(from_jwks(key_set(bare), RS256).choose(None, "RS256"), ONE.key.public_key())
        self.assertEqual(len(from_jwks(key_set(jwk(ONE.key, key_ops=["verify"])), RS256)), 1)

    def test_x5c_and_friends_change_nothing(self) -> None:
        entry = jwk(ONE.key, x5c=["!"], x5u="http://127.0.0.1:1/", jku="http://127.0.0.1:1/")
        self.assertEqual(from_jwks(key_set(entry), RS256).choose("k", "RS256"), ONE.key.public_key())

    def test_the_count_is_bounded(self) -> None:
        entries = [jwk(ONE.key, kid=f"k{number}") for number in range(KEYS_MAX_COUNT + 5)]
        keys = from_jwks(key_set(*entries), RS256)
        self.assertEqual((len(keys), keys.ignored), (KEYS_MAX_COUNT, 5))
        self.assertRaises(Unauthenticated, keys.choose, f"k{KEYS_MAX_COUNT}", "RS256")

    def test_documents_that_are_refused(self) -> None:
        for document in (
            b"", b"{", b"\xff\xfe", b"[]", b"null", b"1", b"{}", b'{"keys":{}}', b'{"keys":[]}',
            b'{"keys":[1]}', b"[" * 100_000, b"9" * 10_000, key_set(jwk(SMALL)),
        ):
            self.assertRaises(BadKey, from_jwks, document, RS256)

    @settings(max_examples=150, deadline=None, database=None)
    @given(st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(
            st.sampled_from(["keys", "kty", "kid", "use", "key_ops", "alg", "n", "e", "crv", "x", "y", "d"]),
            st.sampled_from(["RSA", "EC", "OKP", "AQAB", "P-256", "Ed25519", "sig", "ES256"]) | inner,
        ),
        max_leaves=20,
    ))
    def test_no_document_raises_anything_else(self, document: Any) -> None:
        for text in (json.dumps(document), json.dumps({"keys": [document]})):
            try:
                self.assertGreater(len(from_jwks(text.encode(), EVERY)), 0)
            except BadKey:
                continue
