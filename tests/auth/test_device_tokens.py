from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.auth.test_device_keys import ISSUER, NEW, OLD, PRIVATE
from tests.support.case import SynchronousTestCase
from voiceingest.auth.device_keys import DeviceKey, PrivateKey, SecretKey
from voiceingest.auth.device_tokens import DeviceTokens
from voiceingest.config import Settings
from voiceingest.device_interfaces import Caller
from voiceingest.errors import BadKey, SettingsError, TokenExpired, Unauthenticated
from voiceingest.limits import TOKEN_MAX_BYTES

NOW = 1_800_000_000.0
HOUR = 3600
NAMES = ("usr_" + "u" * 22, "dev_" + "d" * 22, "fam_" + "f" * 22)
SECRET, PAIR = SecretKey(NEW.encode()), PrivateKey(PRIVATE)
CLAIMS: dict[str, Any] = {
    "iss": "voiceingest", "sub": NAMES[0], "did": NAMES[1], "fam": NAMES[2],
    "iat": int(NOW), "exp": int(NOW) + HOUR, "jti": "j",
}
ABSENT = object()


def config(**given: Any) -> Settings:
    secret = {name: SecretStr(value) for name, value in given.items() if name.startswith(("jwt_s", "jwt_p"))}
    return Settings(**{"jwt_expires_in": "1h", **given, **secret})


def pack(part: object) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(header: object, payload: object, key: DeviceKey = SECRET) -> str:
    """A token whose signature is right, whatever stands in it."""
    signed = f"{pack(header)}.{pack(payload)}"
    return f"{signed}.{pack(key.sign(signed.encode()))}"


def headed(key: DeviceKey = SECRET, payload: object = CLAIMS, **changes: Any) -> str:
    """A good token but for what its header holds besides or instead."""
    header = {"alg": key.algorithm, "typ": "at+jwt", "kid": key.kid, **changes}
    return forge({name: value for name, value in header.items() if value is not ABSENT}, payload, key)


def claiming(**changes: Any) -> str:
    """A good token but for its claims."""
    claims = {**CLAIMS, **changes}
    return headed(payload={name: value for name, value in claims.items() if value is not ABSENT})


BOTH = DeviceTokens(config(jwt_secret=NEW, jwt_private_key=PRIVATE))


class DeviceTokenCase(SynchronousTestCase):
    def refused(self, token: str, reason: str, tokens: DeviceTokens = BOTH, now: float = NOW) -> None:
        with self.assertRaises(Unauthenticated, msg=f"{reason}: taken") as caught:
            tokens.verify(token, now)
        error = caught.exception
        self.assertEqual(error.reason, reason)
        self.assertIs(type(error), TokenExpired if reason == "expired" else Unauthenticated)
        self.assertEqual(error.args, (type(error).default_message(),))


class GoodTests(DeviceTokenCase):
    def test_minted_and_verified_by_either_kind_of_key(self) -> None:
        for key, algorithm in (({"jwt_secret": NEW}, "HS256"), ({"jwt_private_key": PRIVATE}, "RS256")):
            tokens = DeviceTokens(config(**key))
            token = tokens.mint(*NAMES, NOW + 0.75)
            self.assertEqual(tokens.verify(token, NOW), Caller(*NAMES, NOW + HOUR))
            header, claims = (
                json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]
            )
            self.assertEqual((header["alg"], header["typ"]), (algorithm, "at+jwt"))
            self.assertEqual(set(claims), set(CLAIMS))

    def test_no_two_are_the_same(self) -> None:
        self.assertNotEqual(BOTH.mint(*NAMES, NOW), BOTH.mint(*NAMES, NOW))

    def test_what_the_forger_here_makes_is_good_but_for_what_is_changed(self) -> None:
        for token in (headed(), headed(PAIR), claiming()):
            self.assertEqual(BOTH.verify(token, NOW), Caller(*NAMES, NOW + HOUR))

    def test_a_life_of_a_year(self) -> None:
        tokens = DeviceTokens(config(jwt_secret=NEW, jwt_expires_in="366d"))
        self.assertEqual(tokens.verify(tokens.mint(*NAMES, NOW), NOW).expires_at, NOW + 366 * 86400)

    @given(st.tuples(*(st.text("abXY09-_", min_size=22, max_size=22) for _ in NAMES)), st.floats(0, 2e9))
    @settings(max_examples=50)
    def test_what_was_minted_verifies_to_the_same(self, ids: tuple[str, ...], now: float) -> None:
        names = [f"{word}_{text}" for word, text in zip(("usr", "dev", "fam"), ids, strict=True)]
        tokens = DeviceTokens(config(jwt_secret=NEW))
        self.assertEqual(tokens.verify(tokens.mint(*names, now), now), Caller(*names, int(now) + HOUR))


class BadTests(DeviceTokenCase):
    def test_none(self) -> None:
        for name in ("none", "None", "NONE"):
            self.refused(f"{pack({'alg': name, 'typ': 'at+jwt'})}.{pack(CLAIMS)}.", "malformed")
            self.refused(f"{pack({'alg': name, 'typ': 'at+jwt'})}.{pack(CLAIMS)}.AA", "bad_kid")
            for key in (SECRET, PAIR):
                self.refused(headed(key, alg=name), "bad_algorithm")

    def test_hmac_with_the_public_key_as_its_secret(self) -> None:
        public = ISSUER.key.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for secret in (ISSUER.public_pem.encode(), ISSUER.public_pem.strip().encode(), der, b""):
            for algorithm, reason in (("HS256", "bad_algorithm"), ("RS256", "bad_signature")):
                signed = f"{pack({'alg': algorithm, 'typ': 'at+jwt', 'kid': PAIR.kid})}.{pack(CLAIMS)}"
                seal = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
                self.refused(f"{signed}.{pack(seal)}", reason)

    def test_swapped_keys(self) -> None:
        self.refused(headed(PAIR, kid=SECRET.kid), "bad_algorithm")
        self.refused(headed(PAIR, kid=SECRET.kid, alg="HS256"), "bad_signature")
        self.refused(headed(SECRET, kid=PAIR.kid), "bad_algorithm")
        self.refused(headed(SECRET, kid=PAIR.kid, alg="RS256"), "bad_signature")

    def test_headers(self) -> None:
        for kid in (ABSENT, None, 1, True, [], {}):
            self.refused(headed(kid=kid), "bad_kid")
        for kid in ("", SECRET.kid.upper(), "../../dev/null", "x" * 3000):
            self.refused(headed(kid=kid), "unknown_key")
        for algorithm in (ABSENT, None, "hs256", "HS384", "HS512", "RS256", "ES256", 1, ["HS256"]):
            self.refused(headed(alg=algorithm), "bad_algorithm")
        for typ in (ABSENT, None, "JWT", "jwt", "id+jwt", "", 1, []):
            self.refused(headed(typ=typ), "typ")
        for extension in ({"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"b64": True}):
            self.refused(headed(**extension), "crit")
        BOTH.verify(headed(typ="application/AT+JWT", jku="http://127.0.0.1:1/", jwk={}), NOW)

    def test_forms(self) -> None:
        good = headed()
        head, body, seal = good.split(".")
        twice = b'{"alg":"none","alg":"HS256","typ":"at+jwt","kid":"%s"}' % SECRET.kid.encode()
        table = (
            ("", "missing"), ("x", "malformed"), (f"{good}\n", "malformed"), (f"{head}.{body}", "malformed"),
            (headed(payload={**CLAIMS, "x": "x" * TOKEN_MAX_BYTES}), "too_big"),
            ("\N{SNOWMAN}" * (TOKEN_MAX_BYTES + 1), "too_big"), (forge(twice, CLAIMS), "bad_header"),
            (forge(b"[]", CLAIMS), "bad_header"), (forge(b"[" * 3000, CLAIMS), "bad_header"),
            (headed(payload=b"[]"), "bad_payload"), (headed(payload=b'{"exp":1,"exp":2}'), "bad_payload"),
            (headed(payload=b'{"exp":NaN}'), "bad_payload"), (f"{head}.{body}.AAAA", "bad_signature"),
            (f"{head}.{pack({**CLAIMS, 'sub': 'usr_' + 'x' * 22})}.{seal}", "bad_signature"),
        )
        for token, reason in table:
            self.refused(token, reason)

    def test_the_signature_goes_before_every_claim(self) -> None:
        other = SecretKey(OLD.encode())
        for payload in ({"exp": 1}, {}, b"{", {**CLAIMS, "iss": "x"}):
            self.refused(headed(other, payload, kid=SECRET.kid), "bad_signature")

    def test_claims(self) -> None:
        for issuer in (ABSENT, None, "", "Voiceingest", ["voiceingest"]):
            self.refused(claiming(iss=issuer), "issuer")
        for name, right in zip(("sub", "did", "fam"), NAMES, strict=True):
            others = [other for other in NAMES if other != right]
            bent = (right + "x", right[:-1], right[:-1] + ".", right + "\n")
            for value in (ABSENT, None, 1, "", *bent, *others):
                self.refused(claiming(**{name: value}), f"bad_{name}")

    def test_times(self) -> None:
        edge = int(NOW)
        self.refused(claiming(exp=edge - 30), "expired")
        BOTH.verify(claiming(exp=edge - 29), NOW)
        self.refused(claiming(exp=ABSENT), "no_exp")
        self.refused(claiming(iat=ABSENT), "no_iat")
        self.refused(claiming(iat=edge + 31), "issued_later")
        self.refused(claiming(exp=edge + 367 * 86400), "long_lived")
        for value in ("1800000060", None, True, -1, 1e300, [1]):
            self.refused(claiming(exp=value), "bad_exp")
            self.refused(claiming(iat=value), "bad_iat")

    @given(st.one_of(st.text(max_size=60), st.binary(max_size=60).map(pack)), st.integers(0, 2))
    @settings(max_examples=100)
    def test_garbage_is_refused_and_nothing_else(self, junk: str, place: int) -> None:
        mixed = headed().split(".")
        mixed[place] = junk
        for token in (junk, ".".join(mixed)):
            with self.assertRaises(Unauthenticated):
                BOTH.verify(token, NOW)
            self.assertIn(BOTH.is_ours(token), (True, False))


class RotationTests(DeviceTokenCase):
    def test_two_secrets_live(self) -> None:
        before = DeviceTokens(config(jwt_secret=OLD))
        between = DeviceTokens(config(jwt_secret=NEW, jwt_secret_previous=OLD))
        after = DeviceTokens(config(jwt_secret=NEW))
        old, new = before.mint(*NAMES, NOW), between.mint(*NAMES, NOW)
        for token in (old, new):
            self.assertEqual(between.verify(token, NOW).user_id, NAMES[0])
        after.verify(new, NOW)
        self.refused(old, "unknown_key", after)
        self.refused(new, "unknown_key", before)

    def test_from_a_secret_to_a_private_key(self) -> None:
        old = DeviceTokens(config(jwt_secret=NEW)).mint(*NAMES, NOW)
        self.assertEqual(BOTH.verify(old, NOW), Caller(*NAMES, NOW + HOUR))

    def test_a_reload_takes_the_new_key(self) -> None:
        now = [config(jwt_secret=OLD)]
        tokens = DeviceTokens(now[0], lambda: now[0])
        old = tokens.mint(*NAMES, NOW)
        now[0] = config(jwt_secret=NEW)
        tokens.reload()
        self.refused(old, "unknown_key", tokens)
        tokens.verify(headed(), NOW)

    def test_a_reload_that_fails_keeps_the_key(self) -> None:
        def unreadable() -> Settings:
            raise SettingsError(["jwt_secret: at least 32 bytes"])

        for read, error in (
            (unreadable, SettingsError),
            (config, BadKey),
            (lambda: config(jwt_private_key="broken"), BadKey),
        ):
            tokens = DeviceTokens(config(jwt_secret=NEW), read)
            self.assertRaises(error, tokens.reload)
            tokens.verify(headed(), NOW)
            tokens.verify(tokens.mint(*NAMES, NOW), NOW)

    def test_without_a_reader_a_reload_changes_nothing(self) -> None:
        tokens = DeviceTokens(config(jwt_secret=NEW))
        tokens.reload()
        tokens.verify(headed(), NOW)


class WhoseTests(SynchronousTestCase):
    def test_by_the_key_or_else_by_the_issuer(self) -> None:
        old = SecretKey(OLD.encode())
        ours = (headed(), headed(PAIR), headed(payload={}), headed(old), headed(kid=ABSENT))
        self.assertEqual([BOTH.is_ours(token) for token in ours], [True] * len(ours))
        theirs = (
            "", "x", "a.b.c", ISSUER.token(), ISSUER.mint(iss="voiceingest"),
            headed(old, {**CLAIMS, "iss": "https://id.example"}), forge(b"[]", CLAIMS),
        )
        self.assertEqual([BOTH.is_ours(token) for token in theirs], [False] * len(theirs))
