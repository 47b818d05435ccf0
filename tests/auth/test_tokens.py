from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from tests.support.tokens import Issuer
from voiceingest.auth.keys import KeySet, from_jwks, from_pem
from voiceingest.auth.tokens import Rules, verify
from voiceingest.config import Settings
from voiceingest.errors import Unauthenticated
from voiceingest.interfaces import Claims
from voiceingest.limits import TOKEN_MAX_BYTES

NOW = 1_800_000_000.0
LEEWAY = 30
ISSUER, OTHER = Issuer("one", lambda: NOW), Issuer("two", lambda: NOW)
PINNED = from_pem(ISSUER.public_pem, {"RS256"})
KEYS = from_jwks(ISSUER.jwks(), {"RS256"})
RULES = Rules()
STRICT = Rules(issuer="https://issuer.example", audience="voiceingest")
EXP = {"exp": int(NOW) + 60}
FULL = {**EXP, "iss": "https://issuer.example", "aud": "voiceingest"}


def pack(part: object) -> str:
    """One segment: bytes as they are, anything else as JSON."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(header: object, payload: object, signed_by: Issuer = ISSUER) -> str:
    """A token whose signature is right, whatever stands in it."""
    signed = f"{pack(header)}.{pack(payload)}"
    signature = signed_by.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{pack(signature)}"


def headed(**header: Any) -> str:
    """A good token but for what its header holds besides or instead."""
    return forge({"alg": "RS256", "kid": "one", **header}, EXP)


def hs256(secret: bytes, algorithm: str = "HS256") -> str:
    signed = f"{pack({'alg': algorithm, 'typ': 'JWT'})}.{pack(EXP)}"
    return f"{signed}.{pack(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def respelt(token: str) -> str:
    """The same signature bytes in another spelling: bits that decode to nothing are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 256 bytes leave four spare bits in the last character.
    return token[:-1] + alphabet[alphabet.index(token[-1]) | 1]


class TokenCase(SynchronousTestCase):
    def refused(
        self, token: str, reason: str, rules: Rules = RULES, keys: KeySet = KEYS, now: float = NOW
    ) -> None:
        """``token`` is refused for ``reason``, and says so to nobody but the log."""
        with self.assertRaises(Unauthenticated, msg=f"{reason}: taken") as caught:
            verify(token, keys, rules, now)
        error = caught.exception
        self.assertEqual(error.reason, reason)
        self.assertIs(type(error), Unauthenticated)
        self.assertEqual(error.args, ("A valid bearer token is required",))
        self.assertTrue(error.__suppress_context__ or error.__context__ is None)

    def taken(self, token: str, rules: Rules = RULES, keys: KeySet = KEYS, now: float = NOW) -> Claims:
        return verify(token, keys, rules, now)


class GoodTokenTests(TokenCase):
    def test_the_claims(self) -> None:
        claims = self.taken(ISSUER.token("acme", "call-7", lifetime_s=60, sub="user-1"))
        self.assertEqual(claims, Claims("user-1", "acme", "call-7", NOW + 60))

    def test_what_is_absent(self) -> None:
        self.assertEqual(self.taken(ISSUER.mint(**EXP)), Claims("", None, None, NOW + 60))

    def test_the_names_of_the_claims_are_settings(self) -> None:
        rules = Rules(tenant_claim="org", interaction_claim="https://example/call")
        token = ISSUER.mint(**EXP, org="acme", tenant_id="other", **{"https://example/call": "call-7"})
        claims = self.taken(token, rules)
        self.assertEqual((claims.tenant_id, claims.interaction_id), ("acme", "call-7"))

    def test_rules_come_from_the_settings(self) -> None:
        chosen = Settings(
            jwt_algorithms=("ES256", "RS256"), jwt_issuer="i", jwt_audience="a", jwt_leeway_s=5,
            jwt_tenant_claim="t", jwt_interaction_claim="c",
        )
        names = {"tenant_claim": "t", "interaction_claim": "c"}
        expected = Rules(frozenset({"ES256", "RS256"}), "i", "a", 5.0, **names)
        self.assertEqual(Rules.from_settings(chosen), expected)
        self.assertEqual(Rules.from_settings(Settings()), Rules())

    def test_the_defaults_are_rs256_and_thirty_seconds(self) -> None:
        self.assertEqual((RULES.algorithms, RULES.leeway_s), (frozenset({"RS256"}), 30.0))

    def test_every_other_algorithm_that_may_be_allowed(self) -> None:
        p256, p384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
        edwards = ed25519.Ed25519PrivateKey.generate()
        signers: tuple[tuple[str, Any], ...] = (
            ("RS384", ISSUER.key), ("RS512", ISSUER.key), ("PS256", ISSUER.key), ("PS384", ISSUER.key),
            ("PS512", ISSUER.key), ("ES256", p256), ("ES384", p384), ("EdDSA", edwards),
        )
        for algorithm, key in signers:
            public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
            rules, keys = Rules(frozenset({algorithm})), from_pem(public, {algorithm})
            token = jwt.encode(EXP, key, algorithm)
            self.assertEqual(self.taken(token, rules, keys).expires_at, NOW + 60)
            body, seal = token.rsplit(".", 1)
            turned = "AAAA" if seal[:4] != "AAAA" else "BBBB"
            self.refused(f"{body}.{turned}{seal[4:]}", "bad_signature", rules, keys)
            self.refused(f"{body}.AAAA", "bad_signature", rules, keys)
            # RS256 is not allowed here, and the token does not choose.
            self.refused(ISSUER.token(), "bad_algorithm", rules, keys)

    def test_a_token_as_large_as_may_be(self) -> None:
        token = ISSUER.token(filler="x" * 5000)
        self.assertTrue(5000 < len(token) <= TOKEN_MAX_BYTES)
        self.taken(token)


class FormTests(TokenCase):
    def test_nothing_is_missing_and_not_invalid(self) -> None:
        self.refused("", "missing")

    def test_size_goes_before_everything(self) -> None:
        self.refused(ISSUER.token(filler="x" * TOKEN_MAX_BYTES), "too_big")
        self.refused("\N{SNOWMAN}" * (TOKEN_MAX_BYTES + 1), "too_big")

    def test_garbage(self) -> None:
        good = ISSUER.token()
        head, body, seal = good.split(".")
        for token in (
            "x", "..", "a.b", "a..c", ".b.c", "a.b.c.d", "a.b.c.d.e", f"{good}.", f".{good}", f"{good}\n",
            f" {good}", f"{good}=", f"{head}=.{body}.{seal}", good.replace(".", ","), f"{head}.{body}.",
            f"{head}.{body}", f"{head}.{body}.+{seal}", f"{good}\x00",
            "\N{SNOWMAN}.b.c", f"Bearer {good}",
        ):
            with self.assertRaises(Unauthenticated, msg=token) as caught:
                verify(token, KEYS, RULES, NOW)
            self.assertIn(caught.exception.reason, {"malformed", "bad_header"}, token)
        self.refused(f"{head}.{body[:1]}.{seal}", "bad_signature")
        self.refused(f"{head}.{body}.{seal}A", "bad_signature")

    def test_one_token_has_one_spelling(self) -> None:
        token = ISSUER.token()
        self.assertNotEqual(respelt(token), token)
        self.refused(respelt(token), "malformed")

    def test_headers_that_are_no_json_object(self) -> None:
        for header in (
            b"", b"{", b"[]", b"1", b'"RS256"', b"null", b"\xff\xfe", b'\xef\xbb\xbf{"alg":"RS256"}',
            b"[" * 3000, b'{"alg":' * 800, json.dumps({"alg": "RS256"}).encode("utf-16"),
            b'{"alg":"RS256","x":NaN}', b'{"alg":"RS256","x":' + b"9" * 5000 + b"}",
        ):
            self.refused(forge(header, EXP), "malformed" if header == b"" else "bad_header")

    def test_repeated_members(self) -> None:
        self.refused(forge(b'{"alg":"none","alg":"RS256","kid":"one"}', EXP), "bad_header")
        payload = b'{"exp":1800000060,"tenant_id":"mine","tenant_id":"theirs"}'
        self.refused(forge({"alg": "RS256", "kid": "one"}, payload), "bad_payload")

    def test_payloads_that_are_no_json_object(self) -> None:
        for payload in (
            b"{", b"[]", b"1800000060", b"null", b"\xff", b"[" * 5000, b'{"exp":1800000060,"x":Infinity}',
            b'{"exp":' + b"9" * 4400 + b"}", json.dumps(EXP).encode("utf-16"),
        ):
            self.refused(forge({"alg": "RS256", "kid": "one"}, payload), "bad_payload")


class HeaderTests(TokenCase):
    def test_none_in_any_case(self) -> None:
        for name in ("none", "None", "NONE", "nOnE"):
            for keys in (KEYS, PINNED, KeySet()):
                unsigned = f"{pack({'alg': name})}.{pack(EXP)}."
                self.refused(unsigned, "malformed", keys=keys)
                self.refused(unsigned + "AA", "bad_algorithm", keys=keys)
                self.refused(headed(alg=name), "bad_algorithm", keys=keys)

    def test_hmac_with_the_public_key_as_its_secret(self) -> None:
        der = ISSUER.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        pem = ISSUER.public_pem
        for secret in (pem.encode(), pem.strip().encode(), pem.replace("\n", "\\n").encode(), der, b""):
            for keys in (KEYS, PINNED):
                self.refused(hs256(secret), "bad_algorithm", keys=keys)
                self.refused(hs256(secret, "RS256"), "bad_signature", keys=PINNED)

    def test_no_rule_can_let_hmac_or_none_in(self) -> None:
        rules = Rules(frozenset({"HS256", "none", "RS256"}))
        self.refused(hs256(ISSUER.public_pem.encode()), "bad_algorithm", rules)
        self.refused(f"{pack({'alg': 'none'})}.{pack(EXP)}.AA", "bad_algorithm", rules)

    def test_algorithms_of_every_wrong_sort(self) -> None:
        for name in ("RS384", "rs256", "ES256", "PS256", "HS512", "", None, 1, True, ["RS256"], {"RS256": 1}):
            self.refused(headed(alg=name), "bad_algorithm")
        self.refused(forge({"kid": "one"}, EXP), "bad_algorithm")

    def test_kid_selects_and_nothing_more(self) -> None:
        attacks = ("../../../../dev/null", "one' OR '1'='1", "x' UNION SELECT", "a\x00", "", 1, None, [])
        for kid in attacks:
            for keys in (KEYS, PINNED):
                self.refused(headed(kid=kid), "bad_kid", keys=keys)
        for kid in ("two", "ONE", "http://127.0.0.1:1/key", "/dev/null"):
            self.refused(headed(kid=kid), "unknown_key")

    def test_a_key_in_the_header_is_not_looked_at(self) -> None:
        evil = OTHER.jwk()
        for name, value in (
            ("jwk", evil), ("jku", "http://127.0.0.1:1/"), ("x5u", "http://127.0.0.1:1/"), ("x5c", ["MIIB"]),
        ):
            forged = forge({"alg": "RS256", "kid": "one", name: value}, EXP, OTHER)
            self.refused(forged, "bad_signature")
            self.refused(forged, "bad_signature", keys=PINNED)
            self.refused(forge({"alg": "RS256", "kid": "two", name: value}, EXP, OTHER), "unknown_key")
            # On a good token they are no harm either.
            self.taken(headed(**{name: value}))

    def test_crit_is_refused_whatever_it_names(self) -> None:
        for crit in (["exp"], ["b64"], [], "exp", None, ["x-unknown"]):
            self.refused(headed(crit=crit), "crit")
        self.refused(headed(b64=False), "crit")
        self.refused(headed(b64=True), "crit")

    def test_typ(self) -> None:
        for typ in ("JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"):
            self.taken(headed(typ=typ))
        for typ in ("id+jwt", "logout+jwt", "dpop+jwt", "JOSE", "", "text/jwt", "application/", None, 1, []):
            self.refused(headed(typ=typ), "typ")


class SignatureTests(TokenCase):
    def test_another_key(self) -> None:
        self.refused(forge({"alg": "RS256", "kid": "one"}, EXP, OTHER), "bad_signature")
        self.refused(OTHER.token(), "bad_signature", keys=PINNED)

    def test_tampered(self) -> None:
        head, body, seal = ISSUER.token("mine").split(".")
        theirs = ISSUER.token("theirs").split(".")[1]
        turned = ("B" if seal[0] == "A" else "A") + seal[1:]
        for token in (f"{head}.{theirs}.{seal}", f"{head}.{body}.{turned}", f"{head}.{body}.AAAA"):
            self.refused(token, "bad_signature")
        self.refused(f"{pack({'alg': 'RS256', 'kid': 'one', 'x': 1})}.{body}.{seal}", "bad_signature")

    def test_the_signature_goes_before_every_claim(self) -> None:
        for payload in ({"exp": 1}, {"exp": "x"}, {}, b"{", {**EXP, "tenant_id": 1}, {**EXP, "iss": "x"}):
            self.refused(forge({"alg": "RS256", "kid": "one"}, payload, OTHER), "bad_signature", STRICT)

    def test_two_kids_live_at_once(self) -> None:
        both, rotated = from_jwks(ISSUER.jwks(OTHER), {"RS256"}), from_jwks(OTHER.jwks(), {"RS256"})
        for issuer in (ISSUER, OTHER):
            self.taken(issuer.token(), keys=both)
        self.taken(OTHER.token(), keys=rotated)
        self.refused(ISSUER.token(), "unknown_key", keys=rotated)
        self.refused(forge({"alg": "RS256", "kid": "two"}, EXP, ISSUER), "bad_signature", keys=both)

    def test_no_key_at_all(self) -> None:
        self.refused(ISSUER.token(), "unknown_key", keys=KeySet())


class TimeTests(TokenCase):
    def test_both_sides_of_the_leeway(self) -> None:
        edge = int(NOW)
        table = (
            ("exp", edge - LEEWAY, "expired", edge - LEEWAY + 1),
            ("nbf", edge + LEEWAY + 1, "not_yet", edge + LEEWAY),
            ("iat", edge + LEEWAY + 1, "issued_later", edge + LEEWAY),
        )
        for name, outside, reason, inside in table:
            self.refused(ISSUER.mint(**{**EXP, name: outside}), reason)
            self.taken(ISSUER.mint(**{**EXP, name: inside}))

    def test_to_the_fraction_of_a_second(self) -> None:
        token = ISSUER.mint(exp=NOW)
        self.taken(token, now=NOW + LEEWAY - 0.001)
        self.refused(token, "expired", now=NOW + LEEWAY)

    def test_no_leeway(self) -> None:
        self.refused(ISSUER.mint(exp=NOW), "expired", Rules(leeway_s=0.0))
        self.taken(ISSUER.mint(exp=NOW + 0.5, nbf=NOW, iat=NOW), Rules(leeway_s=0.0))

    def test_the_clock_is_the_one_given(self) -> None:
        # PyJWT would ask the machine's clock, which is nowhere near.
        self.taken(ISSUER.mint(exp=1000), now=900.0)
        self.refused(ISSUER.mint(exp=1000), "expired", now=1030.0)

    def test_exp_is_required(self) -> None:
        self.refused(ISSUER.mint(sub="x"), "no_exp")

    def test_no_numbers(self) -> None:
        wrong: tuple[Any, ...] = (
            "1800000060", "", True, False, None, [], [1_800_000_060], {}, -1, -1e300, 1e300, 10**400,
            1_800_000_060_000, 253_402_300_800,
        )
        for name in ("exp", "nbf", "iat"):
            for value in wrong:
                self.refused(forge({"alg": "RS256", "kid": "one"}, {**EXP, name: value}), f"bad_{name}")
            for text in (b"1e999", b"-1e999"):
                others = b"" if name == "exp" else b',"exp":1800000060'
                payload = b'{"%s":%s%s}' % (name.encode(), text, others)
                self.refused(forge({"alg": "RS256", "kid": "one"}, payload), f"bad_{name}")
            for text in (b"NaN", b"Infinity", b"-Infinity"):
                payload = b'{"%s":%s}' % (name.encode(), text)
                self.refused(forge({"alg": "RS256", "kid": "one"}, payload), "bad_payload")

    def test_zero_is_a_time(self) -> None:
        self.refused(ISSUER.mint(exp=0), "expired")
        self.taken(ISSUER.mint(**EXP, nbf=0))

    def test_the_longest_life(self) -> None:
        rules = Rules(max_life_s=3600.0)
        self.taken(ISSUER.mint(exp=NOW + 3600), rules)
        self.taken(ISSUER.mint(exp=NOW + 1800, iat=NOW - 1800), rules)
        self.refused(ISSUER.mint(exp=NOW + 3601), "long_lived", rules)
        self.refused(ISSUER.mint(exp=NOW + 1800, iat=NOW - 1801), "long_lived", rules)
        year = 365 * 86400
        self.taken(ISSUER.mint(exp=NOW + year))
        self.refused(ISSUER.mint(exp=NOW + 2 * year), "long_lived")


class ClaimTests(TokenCase):
    def test_issuer_exactly(self) -> None:
        self.taken(ISSUER.mint(**FULL), STRICT)
        wrong: tuple[Any, ...] = (
            "https://issuer.example/", "HTTPS://issuer.example", "https://issuer.exampl", "", None, 1,
            ["https://issuer.example"],
        )
        for issuer in wrong:
            self.refused(forge({"alg": "RS256", "kid": "one"}, {**FULL, "iss": issuer}), "issuer", STRICT)
        self.refused(ISSUER.mint(**EXP, aud="voiceingest"), "issuer", STRICT)

    def test_audience_alone_or_in_a_list(self) -> None:
        for audience in ("voiceingest", ["voiceingest"], ["other", "voiceingest"]):
            self.taken(ISSUER.mint(**{**FULL, "aud": audience}), STRICT)
        wrong: tuple[Any, ...] = (
            "other", "voiceingest2", "voice", "", [], ["other"], [["voiceingest"]], {"voiceingest": 1}, None,
            1, "voiceingest other",
        )
        for audience in wrong:
            token = forge({"alg": "RS256", "kid": "one"}, {**FULL, "aud": audience})
            self.refused(token, "audience", STRICT)
        self.refused(ISSUER.mint(**EXP, iss="https://issuer.example"), "audience", STRICT)

    def test_neither_is_looked_at_unless_set(self) -> None:
        self.taken(ISSUER.mint(**EXP, aud="for-somebody", iss="by-somebody"))

    def test_identifiers_are_short_printable_text(self) -> None:
        wrong: tuple[Any, ...] = (
            1, True, None, [], ["t1"], {}, "", "x" * 129, "a\nb", "a\x00", "\x1b[2J", "\u2028", "a\ud800",
        )
        for name, reason in (("tenant_id", "tenant"), ("interaction_id", "interaction")):
            for value in wrong:
                self.refused(forge({"alg": "RS256", "kid": "one"}, {**EXP, name: value}), reason)
            for value in ("x", "x" * 128, "Zürich 1", "a/b:c"):
                self.taken(ISSUER.mint(**EXP, **{name: value}))

    def test_subject_is_text(self) -> None:
        wrong: tuple[Any, ...] = (1, None, [], {}, True, "x" * 256, "a\r\nb", "\ud800")
        for value in wrong:
            self.refused(forge({"alg": "RS256", "kid": "one"}, {**EXP, "sub": value}), "subject")
        self.assertEqual(self.taken(ISSUER.mint(**EXP, sub="")).subject, "")
        self.assertEqual(self.taken(ISSUER.mint(**EXP, sub="x" * 255)).subject, "x" * 255)


few = settings(max_examples=150, deadline=None, database=None)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
headers = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x"]),
    st.sampled_from(["RS256", "one", "JWT", "none", "HS256"]) | json_values,
)
payloads = st.dictionaries(
    st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "tenant_id", "interaction_id"]),
    st.sampled_from([NOW + 60, "https://issuer.example", "voiceingest"]) | json_values,
)


class PropertyTests(SynchronousTestCase):
    def only_refused(self, check: Callable[[], object]) -> bool:
        """Whether it was taken; any other error than a refusal is the test's."""
        try:
            check()
        except Unauthenticated:
            return False
        return True

    @few
    @given(st.binary(max_size=300) | st.text(max_size=100))
    def test_random_bytes_are_refused_and_nothing_else(self, noise: bytes | str) -> None:
        text = noise.decode("latin-1") if isinstance(noise, bytes) else noise
        self.assertFalse(self.only_refused(lambda: verify(text, PINNED, RULES, NOW)))

    @few
    @given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=300))
    def test_random_parts_are_refused_and_nothing_else(self, head: bytes, body: bytes, seal: bytes) -> None:
        token = f"{pack(head)}.{pack(body)}.{pack(seal)}"
        self.assertFalse(self.only_refused(lambda: verify(token, PINNED, RULES, NOW)))

    @few
    @given(headers, payloads)
    def test_whatever_is_signed_is_taken_or_refused(self, header: Any, payload: Any) -> None:
        token = forge(header, payload)
        for keys in (KEYS, PINNED):
            self.only_refused(lambda keys=keys: verify(token, keys, STRICT, NOW))  # type: ignore[misc]

    @few
    @given(st.integers(0, 10_000), st.sampled_from("ABab01-_.=+ \x00\n"))
    def test_what_is_taken_pyjwt_takes_too(self, place: int, character: str) -> None:
        token = ISSUER.token()
        place %= len(token)
        changed = token[:place] + character + token[place + 1 :]
        if self.only_refused(lambda: verify(changed, PINNED, RULES, NOW)):
            options: Any = {"verify_exp": False, "verify_iat": False}
            jwt.decode(changed, ISSUER.key.public_key(), algorithms=["RS256"], options=options)
            self.assertEqual(changed, token)
