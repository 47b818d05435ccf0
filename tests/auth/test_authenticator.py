from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from tests.auth.test_jwks import Endpoint
from tests.support.case import SynchronousTestCase
from tests.support.tokens import Issuer
from voiceingest.auth import make_authenticator
from voiceingest.auth.authenticator import IKeySource, JwtAuthenticator
from voiceingest.auth.jwks import KEPT_MAX_S, WAITERS_MAX_COUNT, JwksSource
from voiceingest.auth.pinned import PinnedKeys
from voiceingest.auth.tokens import Rules
from voiceingest.config import Settings
from voiceingest.errors import BadKey, KeysUnavailable, SettingsError, Unauthenticated
from voiceingest.interfaces import Claims, IAuthenticator
from voiceingest.metrics import Metrics

NOW = 1_800_000_000.0
ONE, OTHER, STRANGER = (Issuer(kid, lambda: NOW) for kid in ("one", "two", "three"))
STATUSES = ("success", "missing", "invalid", "expired", "unavailable")


class AuthenticatorCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.metrics, self.endpoint = Clock(), Metrics(), Endpoint()

    def over(self, source: IKeySource) -> JwtAuthenticator:
        return JwtAuthenticator(source, Rules(), lambda: NOW + self.clock.seconds(), self.metrics)

    def pinned(self) -> JwtAuthenticator:
        return self.over(PinnedKeys({"RS256"}, ONE.public_pem))

    def fetching(self) -> JwtAuthenticator:
        source = JwksSource(
            self.endpoint.fetch, {"RS256"}, self.clock, self.metrics, max_age_s=600.0, cooldown_s=30.0
        )
        return self.over(source)

    def refused(self, verified: Deferred[Claims]) -> str:
        failure = self.failureResultOf(verified, Unauthenticated)
        self.assertEqual(failure.value.args, ("A valid bearer token is required",))
        return failure.value.reason

    def counted(self, **expected: int) -> None:
        counts = {status: self.metrics.auth_attempts[status] for status in STATUSES}
        self.assertEqual(counts, {status: expected.get(status, 0) for status in STATUSES})


class PinnedTests(AuthenticatorCase):
    def test_it_is_the_interface(self) -> None:
        authenticator: IAuthenticator = self.pinned()
        self.assertIsNone(authenticator.ready)

    def test_answered_at_once_and_counted(self) -> None:
        authenticator = self.pinned()
        claims = self.successResultOf(authenticator.verify(ONE.token("acme", "call-7")))
        self.assertEqual(claims, Claims("tester", "acme", "call-7", NOW + 3600))
        self.assertEqual(self.refused(authenticator.verify("")), "missing")
        self.assertEqual(self.refused(authenticator.verify("nonsense")), "malformed")
        self.assertEqual(self.refused(authenticator.verify(OTHER.token())), "bad_signature")
        self.assertEqual(self.refused(authenticator.verify(ONE.token(lifetime_s=-60))), "expired")
        self.counted(success=1, missing=1, invalid=2, expired=1)

    def test_no_key_refuses_everybody(self) -> None:
        authenticator = self.over(PinnedKeys({"RS256"}))
        authenticator.start()
        self.assertEqual(authenticator.ready, "no_key")
        self.failureResultOf(authenticator.verify(ONE.token()), KeysUnavailable)
        self.assertEqual(self.refused(authenticator.verify("")), "missing")
        self.assertEqual(self.refused(authenticator.verify("a.b.c")), "malformed")
        self.counted(unavailable=1, missing=1, invalid=1)
        self.successResultOf(authenticator.stop())

    def test_reload(self) -> None:
        path = self.mktemp_path()
        path.write_text(ONE.public_pem)
        authenticator = self.over(PinnedKeys({"RS256"}, None, path))
        path.write_text("broken")
        self.assertRaises(BadKey, authenticator.reload)
        self.successResultOf(authenticator.verify(ONE.token()))
        path.write_text(OTHER.public_pem)
        authenticator.reload()
        self.successResultOf(authenticator.verify(OTHER.token()))
        self.assertEqual(self.refused(authenticator.verify(ONE.token())), "bad_signature")


class JwksTests(AuthenticatorCase):
    def test_a_known_key_waits_for_nothing(self) -> None:
        authenticator = self.fetching()
        authenticator.start()
        self.endpoint.serve(ONE.jwks())
        self.assertIsNone(authenticator.ready)
        self.successResultOf(authenticator.verify(ONE.token()))
        self.clock.advance(600)
        self.assertEqual(len(self.endpoint.fetches), 2)
        self.successResultOf(authenticator.verify(ONE.token()))

    def test_tokens_that_come_before_the_first_set_wait_for_it(self) -> None:
        authenticator = self.fetching()
        authenticator.start()
        self.assertEqual(authenticator.ready, "jwks_not_loaded")
        known, unknown = authenticator.verify(ONE.token()), authenticator.verify(STRANGER.token())
        self.assertEqual(self.refused(authenticator.verify("garbage")), "malformed")
        self.assertNoResult(known)
        self.endpoint.serve(ONE.jwks())
        self.successResultOf(known)
        self.assertEqual(self.refused(unknown), "unknown_key")
        self.counted(success=1, invalid=2)

    def test_no_set_was_ever_loaded(self) -> None:
        authenticator = self.fetching()
        authenticator.start()
        waiting = authenticator.verify(ONE.token())
        self.endpoint.fail()
        self.failureResultOf(waiting, KeysUnavailable)
        asking = authenticator.verify(ONE.token())
        self.endpoint.fail()
        self.failureResultOf(asking, KeysUnavailable)
        self.failureResultOf(authenticator.verify(ONE.token()), KeysUnavailable)
        self.assertEqual(len(self.endpoint.fetches), 2, "one by itself, one asked for, then cool-down")
        self.counted(unavailable=3)

    def test_rotation_with_two_kids_at_once(self) -> None:
        authenticator = self.fetching()
        authenticator.start()
        self.endpoint.serve(ONE.jwks())
        waiting = [authenticator.verify(OTHER.token()) for _ in range(20)]
        self.assertEqual(len(self.endpoint.fetches), 2)
        # Whoever is known is not held up by the fetch.
        self.successResultOf(authenticator.verify(ONE.token()))
        self.endpoint.serve(ONE.jwks(OTHER))
        for verified in waiting:
            self.assertEqual(self.successResultOf(verified).tenant_id, "t1")
        for issuer in (ONE, OTHER):
            self.successResultOf(authenticator.verify(issuer.token()))
        authenticator.reload()
        self.endpoint.serve(OTHER.jwks())
        self.assertEqual(self.refused(authenticator.verify(STRANGER.token())), "unknown_key")
        self.assertEqual(self.refused(authenticator.verify(ONE.token())), "unknown_key")
        self.successResultOf(authenticator.verify(OTHER.token()))

    def test_strangers_cause_one_fetch_in_each_cooldown(self) -> None:
        authenticator = self.fetching()
        authenticator.start()
        self.endpoint.serve(ONE.jwks())
        first = authenticator.verify(STRANGER.token())
        self.endpoint.serve(ONE.jwks())
        self.assertEqual(self.refused(first), "unknown_key")
        for _ in range(100):
            self.assertEqual(self.refused(authenticator.verify(STRANGER.token())), "unknown_key")
        self.assertEqual(len(self.endpoint.fetches), 2)

    def test_nothing_else_causes_a_fetch(self) -> None:
        authenticator = self.fetching()
        authenticator.start()
        self.endpoint.serve(ONE.jwks())
        forged = Issuer("../../etc/passwd", lambda: NOW)
        mislabelled = Issuer("one", lambda: NOW)
        for token in ("", "x", "a.b.c", forged.token(), mislabelled.token(), ONE.token(lifetime_s=-60)):
            self.refused(authenticator.verify(token))
        self.assertEqual(len(self.endpoint.fetches), 1)

    def test_the_endpoint_fails_and_the_last_good_set_serves_for_a_day(self) -> None:
        authenticator = self.fetching()
        authenticator.start()
        self.endpoint.serve(ONE.jwks())
        lasting = ONE.token(lifetime_s=3 * 86400)
        asking = authenticator.verify(STRANGER.token())
        self.endpoint.fail()
        self.assertEqual(self.refused(asking), "unknown_key")
        self.clock.advance(KEPT_MAX_S)
        self.successResultOf(authenticator.verify(lasting))
        self.clock.advance(1)
        self.assertEqual(authenticator.ready, "jwks_too_old")
        waiting = authenticator.verify(lasting)
        self.endpoint.fail()
        self.failureResultOf(waiting, KeysUnavailable)

    def test_so_many_may_wait(self) -> None:
        authenticator = self.fetching()
        authenticator.start()
        token = ONE.token()
        waiting = [authenticator.verify(token) for _ in range(WAITERS_MAX_COUNT)]
        self.failureResultOf(authenticator.verify(token), KeysUnavailable)
        self.endpoint.fail()
        for verified in waiting:
            self.failureResultOf(verified, KeysUnavailable)
        self.counted(unavailable=WAITERS_MAX_COUNT + 1)

    def test_a_peer_that_leaves_is_not_counted(self) -> None:
        authenticator = self.fetching()
        authenticator.start()
        waiting = authenticator.verify(ONE.token())
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.endpoint.serve(ONE.jwks())
        self.counted()

    def test_the_clock_is_read_when_the_answer_comes(self) -> None:
        authenticator = self.fetching()
        authenticator.start()
        waiting = authenticator.verify(ONE.token(lifetime_s=1))
        self.clock.advance(40)
        self.endpoint.serve(ONE.jwks())
        self.assertEqual(self.refused(waiting), "expired")

    def test_no_token_and_no_address_is_ever_logged(self) -> None:
        with capturedLogs() as events:
            authenticator = self.fetching()
            authenticator.start()
            self.endpoint.serve(ONE.jwks())
            tokens = [ONE.token("canary"), STRANGER.token("canary"), ONE.token(lifetime_s=-60), "canary.b.c"]
            verified = [authenticator.verify(token) for token in tokens]
            self.endpoint.fail()
        for one in verified[1:]:
            self.refused(one)
        self.assertEqual(len(events), 2)
        for event in events:
            for secret in (*tokens, "canary", ONE.jwk()["n"]):
                self.assertNotIn(secret, repr(event))

    def test_stop_answers_whoever_waits(self) -> None:
        authenticator = self.fetching()
        authenticator.start()
        waiting = authenticator.verify(ONE.token())
        self.successResultOf(authenticator.stop())
        self.failureResultOf(waiting, KeysUnavailable)


class MakeAuthenticatorTests(AuthenticatorCase):
    def made(self, **settings: object) -> JwtAuthenticator:
        chosen = Settings.model_validate(settings)
        return make_authenticator(chosen, self.clock, lambda: NOW, self.metrics)

    def test_pem(self) -> None:
        authenticator = self.made(jwt_public_key=ONE.public_pem, jwt_issuer="here")
        self.successResultOf(authenticator.verify(ONE.token(iss="here")))
        self.assertEqual(self.refused(authenticator.verify(ONE.token())), "issuer")

    def test_file(self) -> None:
        path = self.mktemp_path()
        path.write_text(ONE.public_pem)
        self.successResultOf(self.made(jwt_public_key_file=path).verify(ONE.token()))

    def test_nothing_configured_fails_closed(self) -> None:
        authenticator = self.made()
        self.assertEqual(authenticator.ready, "no_key")
        self.failureResultOf(authenticator.verify(ONE.token()), KeysUnavailable)

    def test_what_cannot_be_used_fails_the_start(self) -> None:
        self.assertRaises(BadKey, self.made, jwt_public_key="nonsense")
        self.assertRaises(BadKey, self.made, jwt_public_key=ONE.public_pem, jwt_algorithms=["ES256"])
        error = self.assertRaises(SettingsError, self.made, jwt_jwks_url="http://issuer.example/jwks")
        self.assertIn("jwt_jwks_url", str(error))

    def test_a_key_set_is_not_asked_for_before_the_start(self) -> None:
        authenticator = self.made(jwt_jwks_url="https://issuer.example/jwks")
        self.assertEqual(authenticator.ready, "jwks_not_loaded")
        self.assertEqual(self.clock.getDelayedCalls(), [])
