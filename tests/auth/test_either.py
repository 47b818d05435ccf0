from __future__ import annotations

from pydantic import SecretStr
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.devices.case import Node
from tests.support.case import TestCase
from tests.support.device_store import MemoryDeviceStore
from tests.support.tokens import Issuer as RsaIssuer
from voiceingest.aio import as_deferred
from voiceingest.auth.authenticator import JwtAuthenticator
from voiceingest.auth.either import EitherAuthenticator
from voiceingest.auth.pinned import PinnedKeys
from voiceingest.auth.tokens import Rules
from voiceingest.device_interfaces import Caller
from voiceingest.errors import BadKey, StoreUnavailable, TokenExpired, TokenRevoked, Unauthenticated
from voiceingest.interfaces import Claims, IAuthenticator

CALLER = Caller("usr_1", "dev_1", "fam_1", 99.0)
DEVICE = Claims("usr_1", "usr_1", None, 99.0)
THEIRS = Claims("s", "acme", None, 9.0)


class Issuer:
    """An authenticator that lets everybody in, and notes whom."""

    ready: str | None = None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def verify(self, token: str) -> Deferred[Claims]:
        """IAuthenticator."""
        self.asked.append(token)
        return succeed(THEIRS)

    def reload(self) -> None:
        """IAuthenticator."""
        raise BadKey


class Devices:
    """Devices as far as they are asked; tokens are words that say what is to become of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def recognise(self, access_token: str) -> Caller | None:
        """IDeviceAuthenticator."""
        self.asked.append(access_token)
        if access_token == "vd expired":
            raise TokenExpired(reason="expired")
        return CALLER if access_token == "vd known" else None

    async def authenticate(self, access_token: str) -> Caller:
        """IDeviceAuthenticator."""
        if access_token == "vd revoked":
            raise TokenRevoked(reason="revoked")
        if access_token == "vd away":
            raise StoreUnavailable
        return CALLER


class EitherTests(TestCase):
    def setUp(self) -> None:
        self.issuer, self.devices = Issuer(), Devices()
        self.either = EitherAuthenticator(self.issuer, lambda token: token.startswith("vd"), self.devices)
        provider: IAuthenticator = self.either
        self.assertIs(provider, self.either)

    async def test_only_one_of_them_is_asked(self) -> None:
        self.assertEqual(await self.either.verify("jwt"), THEIRS)
        self.assertEqual((self.issuer.asked, self.devices.asked), (["jwt"], []))
        with self.assertRaises(TokenRevoked):
            await self.either.verify("vd revoked")
        self.assertEqual((self.issuer.asked, self.devices.asked), (["jwt"], ["vd revoked"]))

    async def test_a_devices_user_is_a_tenant_of_its_own(self) -> None:
        self.assertEqual(await self.either.verify("vd asked"), DEVICE)

    def test_what_is_known_has_fired_already(self) -> None:
        self.assertEqual(self.successResultOf(self.either.verify("vd known")), DEVICE)
        self.failureResultOf(self.either.verify("vd expired"), TokenExpired)

    async def test_the_store_may_be_away(self) -> None:
        with self.assertRaises(StoreUnavailable):
            await self.either.verify("vd away")

    async def test_without_an_issuer_every_token_is_a_devices(self) -> None:
        self.issuer.ready = "no_key"
        await self.either.verify("jwt")
        self.assertEqual(self.issuer.asked, [])

    def test_ready_is_the_issuers_where_there_is_one(self) -> None:
        for ready, expected in ((None, None), ("jwks_not_loaded", "jwks_not_loaded"), ("no_key", None)):
            self.issuer.ready = ready
            self.assertEqual(self.either.ready, expected)

    def test_reload_is_the_issuers(self) -> None:
        self.assertRaises(BadKey, self.either.reload)

    def test_every_refusal_is_unauthenticated(self) -> None:
        for error in (TokenExpired, TokenRevoked):
            self.assertTrue(issubclass(error, Unauthenticated))


class RealTests(TestCase):
    """The two verifiers as they are, behind one door."""

    def setUp(self) -> None:
        self.node = Node(MemoryDeviceStore(), Clock())
        self.issuer = RsaIssuer(now=self.node.wall)
        self.with_issuer = self.either(self.issuer.public_pem)
        self.alone = self.either(None)

    def either(self, pem: str | None) -> EitherAuthenticator:
        source = PinnedKeys({"RS256"}, pem)
        jwt = JwtAuthenticator(source, Rules(), self.node.wall, self.node.metrics)
        return EitherAuthenticator(jwt, self.node.tokens.is_ours, self.node.devices)

    async def test_both_kinds_of_tokens(self) -> None:
        theirs = await self.with_issuer.verify(self.issuer.token("acme"))
        self.assertEqual(theirs.tenant_id, "acme")
        tokens = await as_deferred(self.node.devices.register("one", None, None))
        for either in (self.with_issuer, self.alone):
            ours = await either.verify(tokens.access_token)
            self.assertEqual((ours.subject, ours.tenant_id), (tokens.user_id, tokens.user_id))
            self.assertIsNone(ours.interaction_id)
        self.assertEqual(self.node.metrics.auth_attempts, {"success": 3})

    async def test_a_token_of_a_key_that_is_gone_is_refused_and_not_put_off(self) -> None:
        """Its device is to refresh; "try later" would keep it waiting for ever."""
        gone = Node(MemoryDeviceStore(), self.node.clock, jwt_secret=SecretStr("g" * 32)).tokens
        token = gone.mint("usr_" + "u" * 22, "dev_" + "d" * 22, "fam_" + "f" * 22, self.node.wall())
        for either in (self.with_issuer, self.alone):
            self.failureResultOf(either.verify(token), Unauthenticated)
        self.failureResultOf(self.alone.verify(self.issuer.token("acme")), Unauthenticated)

    async def test_what_claims_to_be_a_devices_is_never_tried_with_the_issuers_key(self) -> None:
        token = self.issuer.token("acme", iss="voiceingest", did="dev_1", fam="fam_1")
        self.failureResultOf(self.with_issuer.verify(token), Unauthenticated)
        self.assertEqual(self.node.metrics.auth_attempts, {"invalid": 1})
