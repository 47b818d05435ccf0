from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf

from pydantic import SecretStr
from twisted.internet.defer import gatherResults

from tests.devices.case import DAY, HOUR, WALL, DevicesCase
from voiceingest.device_interfaces import IDevices, Tokens
from voiceingest.devices import Revocation
from voiceingest.devices.credentials import new_secret, secret_digest
from voiceingest.errors import (
    BadField,
    DeviceNotFound,
    DeviceRevoked,
    DeviceUnproven,
    RefreshReused,
    RegistrationRefused,
    StoreUnavailable,
    TokenExpired,
    TokenRevoked,
    Unauthenticated,
    VoiceIngestError,
)

SECRET = SecretStr("let me in, please")


class RegisterTests(DevicesCase):
    async def test_a_new_device(self) -> None:
        provider: IDevices = self.devices
        tokens = await self.ask(provider.register("one", None, None))
        self.assertEqual(tokens.expires_in, HOUR)
        caller = await self.ask(self.devices.authenticate(tokens.access_token))
        self.assertEqual((caller.user_id, caller.expires_at), (tokens.user_id, WALL + HOUR))
        (device,) = self.store.by_id.values()
        self.assertEqual((device.device_id, device.user_id), (caller.device_id, caller.user_id))
        self.assertEqual((device.created_at, device.last_seen_at), (WALL, WALL))
        (kept,) = self.store.tokens.values()
        self.assertEqual((kept.issued_at, kept.expires_at), (WALL, WALL + 30 * DAY))
        self.assertEqual(self.node.metrics.devices_registered, {"new": 1})

    async def test_nothing_that_opens_a_door_is_kept(self) -> None:
        tokens = await self.ask(self.devices.register("one", None, None))
        (device,), (kept,) = self.store.by_id.values(), self.store.tokens.values()
        self.assertEqual(device.token_digest, secret_digest(tokens.device_token, "vd_"))
        self.assertEqual(kept.digest, secret_digest(tokens.refresh_token, "vr_"))
        shown = repr((tokens, device, kept))
        for text in (tokens.device_token, tokens.access_token, tokens.refresh_token):
            self.assertNotIn(text, shown)

    async def test_a_known_device_brings_its_token(self) -> None:
        first = await self.ask(self.devices.register("one", None, None))
        self.clock.advance(60)
        again = await self.ask(self.devices.register("one", first.device_token, None))
        self.assertEqual((again.user_id, again.device_token), (first.user_id, first.device_token))
        callers = [await self.ask(self.devices.authenticate(of.access_token)) for of in (first, again)]
        self.assertEqual(callers[0].device_id, callers[1].device_id)
        self.assertNotEqual(callers[0].family_id, callers[1].family_id)
        self.assertEqual(self.store.by_id[callers[0].device_id].last_seen_at, WALL + 60)
        self.assertEqual(self.node.metrics.devices_registered, {"new": 1, "known": 1})

    async def test_a_known_device_that_does_not_prove_itself(self) -> None:
        first = await self.ask(self.devices.register("one", None, None))
        other = await self.ask(self.devices.register("two", None, None))
        for token in (None, "", "x", first.refresh_token, other.device_token, new_secret("vd_")[0]):
            with self.assertRaises(DeviceUnproven):
                await self.ask(self.devices.register("one", token, None))
        self.assertEqual(len(self.store.families), 2)
        self.assertEqual(self.node.metrics.devices_registered["device_unproven"], 6)

    async def test_two_first_registrations_at_once(self) -> None:
        here, there = self.devices, self.other().devices
        gate = self.store.gates["device_by_identifier"] = asyncio.Event()
        both = [self.ask(devices.register("one", None, None)) for devices in (here, there)]
        while self.store.calls.count("device_by_identifier") < 2:
            await self.ask(asyncio.sleep(0))
        gate.set()
        outcomes = await gatherResults([of.addErrback(lambda failure: failure.value) for of in both])
        won = [outcome for outcome in outcomes if isinstance(outcome, Tokens)]
        self.assertEqual([type(outcome) for outcome in outcomes if outcome not in won], [DeviceUnproven])
        (device,) = self.store.by_id.values()
        self.assertEqual(device.user_id, won[0].user_id)
        self.assertEqual((len(self.store.families), len(self.store.tokens)), (1, 1))

    async def test_a_revoked_device_has_to_be_that_one_to_hear_of_it(self) -> None:
        tokens = await self.ask(self.devices.register("one", None, None))
        (device_id,) = self.store.by_id
        await self.ask(self.devices.revoke_device(device_id))
        with self.assertRaises(DeviceRevoked):
            await self.ask(self.devices.register("one", tokens.device_token, None))
        with self.assertRaises(DeviceUnproven):
            await self.ask(self.devices.register("one", None, None))

    async def test_identifiers(self) -> None:
        for identifier in ("", "x" * 257, "a\nb"):
            with self.assertRaises(BadField):
                await self.ask(self.devices.register(identifier, None, None))
        self.assertEqual(self.store.calls, [])

    async def test_the_store_away(self) -> None:
        self.store.is_away = True
        with self.assertRaises(StoreUnavailable):
            await self.ask(self.devices.register("one", None, None))
        self.assertEqual(self.node.metrics.devices_registered, {"store_unavailable": 1})


class RegistrationSecretTests(DevicesCase):
    """Who may register at all."""

    async def test_the_secret(self) -> None:
        devices = self.other(registration_secret=SECRET).devices
        for secret in (None, "", "let me in, please ", "\ud800"):
            with self.assertRaises(RegistrationRefused):
                await self.ask(devices.register("one", None, secret))
        self.assertEqual(self.store.calls, [])
        await self.ask(devices.register("one", None, SECRET.get_secret_value()))

    async def test_a_known_device_needs_no_secret(self) -> None:
        tokens = await self.ask(self.devices.register("one", None, None))
        for node in (self.other(registration_secret=SECRET), self.other(registration="off")):
            await self.ask(node.devices.register("one", tokens.device_token, None))

    async def test_closed(self) -> None:
        devices = self.other(registration="off", registration_secret=SECRET).devices
        with self.assertRaises(RegistrationRefused):
            await self.ask(devices.register("one", None, SECRET.get_secret_value()))

    async def test_a_stranger_does_not_learn_which_devices_there_are(self) -> None:
        await self.ask(self.devices.register("known", None, None))
        devices = self.other(registration_secret=SECRET).devices
        for token in (None, "x", new_secret("vd_")[0]):
            said = []
            for identifier in ("known", "unknown"):
                with self.assertRaises(VoiceIngestError) as caught:
                    await self.ask(devices.register(identifier, token, "wrong"))
                said.append(caught.exception.code)
            self.assertEqual(said[0], said[1])


class RefreshTests(DevicesCase):
    async def test_it_rotates(self) -> None:
        first = await self.ask(self.devices.register("one", None, None))
        self.clock.advance(60)
        second = await self.ask(self.devices.refresh(first.refresh_token))
        self.assertEqual((second.user_id, second.device_token), (first.user_id, ""))
        self.assertNotEqual(second.refresh_token, first.refresh_token)
        third = await self.ask(self.devices.refresh(second.refresh_token))
        families = {
            (await self.ask(self.devices.authenticate(of.access_token))).family_id
            for of in (first, second, third)
        }
        self.assertEqual(len(families), 1)
        kept = self.store.tokens[secret_digest(second.refresh_token, "vr_") or b""]
        self.assertEqual((kept.issued_at, kept.expires_at), (WALL + 60, WALL + 60 + 30 * DAY))
        self.assertEqual(self.node.metrics.token_refreshes, {"ok": 2})

    async def test_used_twice_ends_the_family_and_the_streams(self) -> None:
        first = await self.ask(self.devices.register("one", None, None))
        second = await self.ask(self.devices.refresh(first.refresh_token))
        caller = await self.ask(self.devices.authenticate(second.access_token))
        apart = await self.ask(self.devices.register("one", first.device_token, None))
        with self.assertRaises(RefreshReused):
            await self.ask(self.devices.refresh(first.refresh_token))
        for of in (first, second):
            with self.assertRaises(TokenRevoked):
                await self.ask(self.devices.authenticate(of.access_token))
            with self.assertRaises(TokenRevoked):
                await self.ask(self.devices.refresh(of.refresh_token))
        # What came of another registration holds: the device has proved itself there.
        await self.ask(self.devices.authenticate(apart.access_token))
        self.assertEqual(self.node.streams.ended, [(caller.user_id, "token_revoked")])
        expected = Revocation(caller.user_id, caller.device_id, caller.family_id)
        self.assertEqual(self.node.announced, [expected])
        self.assertEqual(self.node.metrics.tokens_revoked, {"reused": 1})
        self.assertEqual(self.store.families[caller.family_id].reason, "reused")

    async def test_of_two_at_once_one_is_a_reuse(self) -> None:
        first = await self.ask(self.devices.register("one", None, None))
        gate = self.store.gates["refresh_token"] = asyncio.Event()
        both = [self.ask(of.refresh(first.refresh_token)) for of in (self.devices, self.other().devices)]
        while self.store.calls.count("refresh_token") < 2:
            await self.ask(asyncio.sleep(0))
        gate.set()
        outcomes = await gatherResults([of.addErrback(lambda failure: failure.value) for of in both])
        (won,) = [outcome for outcome in outcomes if isinstance(outcome, Tokens)]
        self.assertEqual([type(outcome) for outcome in outcomes if outcome is not won], [RefreshReused])
        with self.assertRaises(TokenRevoked):
            await self.ask(self.devices.authenticate(won.access_token))

    async def test_what_is_no_refresh_token_never_reaches_the_store(self) -> None:
        tokens = await self.ask(self.devices.register("one", None, None))
        self.store.calls.clear()
        for text in ("", "x", tokens.device_token, tokens.access_token, tokens.refresh_token + "A", "\ud800"):
            with self.assertRaises(Unauthenticated) as caught:
                await self.ask(self.devices.refresh(text))
            self.assertIs(type(caught.exception), Unauthenticated)
        self.assertEqual(self.store.calls, [])

    async def test_one_nobody_knows(self) -> None:
        with self.assertRaises(Unauthenticated):
            await self.ask(self.devices.refresh(new_secret("vr_")[0]))
        self.assertEqual(self.node.metrics.token_refreshes, {"unauthorized": 1})

    async def test_expired(self) -> None:
        tokens = await self.ask(self.devices.register("one", None, None))
        self.clock.advance(30 * DAY)
        with self.assertRaises(TokenExpired):
            await self.ask(self.devices.refresh(tokens.refresh_token))
        self.assertEqual(self.node.streams.ended, [])

    async def test_used_goes_before_expired(self) -> None:
        first = await self.ask(self.devices.register("one", None, None))
        self.clock.advance(29 * DAY)
        await self.ask(self.devices.refresh(first.refresh_token))
        self.clock.advance(2 * DAY)
        with self.assertRaises(RefreshReused):
            await self.ask(self.devices.refresh(first.refresh_token))

    async def test_the_store_away(self) -> None:
        tokens = await self.ask(self.devices.register("one", None, None))
        self.store.is_away = True
        with self.assertRaises(StoreUnavailable):
            await self.ask(self.devices.refresh(tokens.refresh_token))
        self.store.is_away = False
        await self.ask(self.devices.refresh(tokens.refresh_token))


class RevokeTests(DevicesCase):
    async def test_a_logout_takes_every_family_and_leaves_the_device(self) -> None:
        first = await self.ask(self.devices.register("one", None, None))
        second = await self.ask(self.devices.register("one", first.device_token, None))
        stranger = await self.ask(self.devices.register("two", None, None))
        caller = await self.ask(self.devices.authenticate(first.access_token))
        await self.ask(self.devices.revoke(caller))
        for tokens in (first, second):
            with self.assertRaises(TokenRevoked):
                await self.ask(self.devices.authenticate(tokens.access_token))
            with self.assertRaises(TokenRevoked):
                await self.ask(self.devices.refresh(tokens.refresh_token))
        await self.ask(self.devices.authenticate(stranger.access_token))
        self.assertEqual(self.node.streams.ended, [(caller.user_id, "token_revoked")])
        self.assertEqual(self.node.announced, [Revocation(caller.user_id, caller.device_id)])
        self.assertEqual(self.node.metrics.tokens_revoked, {"logout": 1})
        anew = await self.ask(self.devices.register("one", first.device_token, None))
        await self.ask(self.devices.authenticate(anew.access_token))

    async def test_an_operators_is_for_good(self) -> None:
        tokens = await self.ask(self.devices.register("one", None, None))
        caller = await self.ask(self.devices.authenticate(tokens.access_token))
        await self.ask(self.devices.revoke_device(caller.device_id))
        with self.assertRaises(TokenRevoked):
            await self.ask(self.devices.authenticate(tokens.access_token))
        with self.assertRaises(DeviceRevoked):
            await self.ask(self.devices.register("one", tokens.device_token, None))
        self.assertEqual(self.node.streams.ended, [(caller.user_id, "token_revoked")])
        self.assertEqual(self.node.metrics.tokens_revoked, {"operator": 1})

    async def test_a_device_that_is_revoked_holds_no_family_whatever_its_row_says(self) -> None:
        """A registration that was under way when the operator revoked the device."""
        tokens = await self.ask(self.devices.register("one", None, None))
        (device_id,) = self.store.by_id
        self.store.by_id[device_id] = replace(self.store.by_id[device_id], revoked_at=WALL)
        with self.assertRaises(TokenRevoked):
            await self.ask(self.devices.authenticate(tokens.access_token))
        with self.assertRaises(TokenRevoked):
            await self.ask(self.devices.refresh(tokens.refresh_token))

    async def test_no_such_device(self) -> None:
        with self.assertRaises(DeviceNotFound):
            await self.ask(self.devices.revoke_device("dev_nobody"))
        self.assertEqual(self.node.announced, [])

    async def test_the_store_away_ends_nothing(self) -> None:
        tokens = await self.ask(self.devices.register("one", None, None))
        caller = await self.ask(self.devices.authenticate(tokens.access_token))
        self.store.is_away = True
        with self.assertRaises(StoreUnavailable):
            await self.ask(self.devices.revoke(caller))
        self.assertEqual((self.node.streams.ended, self.node.announced), ([], []))

    async def test_what_another_process_has_revoked_is_not_announced_again(self) -> None:
        self.devices.revoked_elsewhere(Revocation("usr_1", "dev_1", "fam_1"))
        self.assertEqual(self.node.streams.ended, [("usr_1", "token_revoked")])
        self.assertEqual(self.node.announced, [])


class ListTests(DevicesCase):
    async def test_pages(self) -> None:
        for name in "abc":
            await self.ask(self.devices.register(name, None, None))
        ids = sorted(self.store.by_id)
        first = await self.ask(self.devices.devices(2, None))
        rest = await self.ask(self.devices.devices(10**6, first[-1].device_id))
        self.assertEqual([device.device_id for device in (*first, *rest)], ids)

    async def test_tokens_are_forgotten_when_they_are_of_no_use(self) -> None:
        tokens = await self.ask(self.devices.register("one", None, None))
        self.clock.advance(31 * DAY)
        self.assertEqual(await self.ask(self.devices.forget_tokens()), 0)
        self.clock.advance(1)
        self.assertEqual(await self.ask(self.devices.forget_tokens()), 2)
        with self.assertRaises(Unauthenticated):
            await self.ask(self.devices.refresh(tokens.refresh_token))
        await self.ask(self.devices.register("one", tokens.device_token, None))


class EndRevokedTests(DevicesCase):
    """Nobody has told of what was revoked at another process."""

    async def test_streams_from_before_are_ended(self) -> None:
        other = self.other()
        given = [await self.ask(self.devices.register(name, None, None)) for name in ("one", "two")]
        users = [tokens.user_id for tokens in given]
        other.streams.users = [*users, "an issuer's"]
        await self.ask(other.devices.end_revoked())
        self.assertEqual(other.streams.older, [])
        caller = await self.ask(self.devices.authenticate(given[0].access_token))
        await self.ask(self.devices.revoke(caller))
        self.clock.advance(10.0)
        await self.ask(other.devices.end_revoked())
        # Every one, however it was let in.
        self.assertEqual(other.streams.older, [(users[0], -inf)])
        await self.ask(self.devices.register("one", given[0].device_token, None))
        await self.ask(other.devices.end_revoked())
        self.assertEqual(other.streams.older[1:], [(users[0], 10.0)])

    async def test_the_store_is_not_asked_about_nobody(self) -> None:
        self.node.streams.users = ["an issuer's"]
        self.store.calls.clear()
        await self.ask(self.devices.end_revoked())
        self.assertEqual(self.store.calls, [])
