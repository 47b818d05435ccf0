"""Devices and tokens, the same tests on both databases."""

from __future__ import annotations

import dataclasses
import hashlib
import math

from tests.store.cases import PostgresCase, SqliteCase, on_loop
from voiceingest.device_interfaces import Device, Family, IDeviceStore, RefreshToken
from voiceingest.store.devices import FORGET_AFTER_S, DeviceStore

NOW_S = 1790000000.123456


def digest(word: str) -> bytes:
    return hashlib.sha256(word.encode()).digest()


def a_device(number: int = 1) -> Device:
    return Device(f"dev_{number}", f"usr_{number}", NOW_S, NOW_S, digest(f"id{number}"), digest("device"))


def a_family(name: str = "fam_1", device: int = 1) -> Family:
    return Family(name, f"dev_{device}", f"usr_{device}", NOW_S)


def a_token(
    name: str, family: str = "fam_1", device: int = 1, expires_at: float = NOW_S + 60
) -> RefreshToken:
    return RefreshToken(family, f"dev_{device}", NOW_S, expires_at, digest(name))


class DeviceStoreContract:
    async def begin(self, **settings: str) -> IDeviceStore:
        found: IDeviceStore = DeviceStore(await self.started(**settings))
        self.assertTrue(await found.add_device(a_device(), a_family(), a_token("first")))
        return found

    @on_loop
    async def test_what_is_kept_comes_back(self) -> None:
        kept = await self.begin()
        self.assertEqual(await kept.device("dev_1"), a_device())
        self.assertEqual(await kept.device_by_identifier(digest("id1")), a_device())
        self.assertEqual(await kept.family("fam_1"), (a_family(), a_device()))
        found = await kept.refresh_token(digest("first"))
        self.assertEqual(found, (a_token("first"), a_family(), a_device()))

    @on_loop
    async def test_what_is_not_there(self) -> None:
        kept = await self.begin()
        self.assertIsNone(await kept.device("dev_2"))
        self.assertIsNone(await kept.device_by_identifier(digest("id2")))
        self.assertIsNone(await kept.family("fam_2"))
        self.assertIsNone(await kept.refresh_token(digest("second")))

    @on_loop
    async def test_of_two_registrations_of_one_device_one_is_kept_whole(self) -> None:
        kept = await self.begin()
        twice = [
            (
                dataclasses.replace(a_device(number), identifier_digest=digest("the same")),
                a_family(f"fam_{number}", number),
                a_token(f"token {number}", f"fam_{number}", number),
            )
            for number in (2, 3, 4)
        ]
        outcomes = await self.together(*(kept.add_device(*one) for one in twice))
        self.assertEqual(sorted(outcomes), [False, False, True])
        winner = outcomes.index(True)
        for number, (device, family, token) in enumerate(twice):
            there = await kept.device(device.device_id), await kept.family(family.family_id)
            self.assertEqual([one is not None for one in there], [number == winner] * 2)
            self.assertEqual(await kept.refresh_token(token.digest) is not None, number == winner)

    @on_loop
    async def test_pages_of_devices(self) -> None:
        kept = await self.begin()
        for number in (3, 2):
            token = a_token(f"token {number}", f"fam_{number}", number)
            await kept.add_device(a_device(number), a_family(f"fam_{number}", number), token)
        self.assertEqual(await kept.devices(2, None), [a_device(1), a_device(2)])
        self.assertEqual(await kept.devices(2, "dev_2"), [a_device(3)])
        self.assertEqual(await kept.devices(2, "dev_3"), [])

    @on_loop
    async def test_a_family_more(self) -> None:
        kept = await self.begin()
        await kept.add_family(a_family("fam_2"), a_token("second", "fam_2"), NOW_S + 5)
        seen = dataclasses.replace(a_device(), last_seen_at=NOW_S + 5)
        self.assertEqual(
            await kept.refresh_token(digest("second")), (a_token("second", "fam_2"), a_family("fam_2"), seen)
        )

    @on_loop
    async def test_of_many_rotations_at_once_one_wins(self) -> None:
        kept = await self.begin()
        names = [f"next {number}" for number in range(8)]
        outcomes = await self.together(
            *(kept.rotate(digest("first"), a_token(name), NOW_S + 7) for name in names)
        )
        self.assertEqual(sorted(outcomes), [False] * 7 + [True])
        for name, won in zip(names, outcomes, strict=True):
            self.assertEqual(await kept.refresh_token(digest(name)) is not None, won)
        used = await kept.refresh_token(digest("first"))
        assert used is not None
        self.assertEqual((used[0].used_at, used[2].last_seen_at), (NOW_S + 7, NOW_S + 7))

    @on_loop
    async def test_a_rotation_that_cannot_be_kept_leaves_the_token_unused(self) -> None:
        """The successor's digest is taken: nothing of it may stay."""
        kept = await self.begin()
        outcome = await self.together(kept.rotate(digest("first"), a_token("first"), NOW_S))
        self.assertEqual([type(one).__name__ for one in outcome], ["StoreUnavailable"])
        found = await kept.refresh_token(digest("first"))
        assert found is not None
        self.assertIsNone(found[0].used_at)

    @on_loop
    async def test_rotating_what_is_not_there(self) -> None:
        kept = await self.begin()
        self.assertFalse(await kept.rotate(digest("unknown"), a_token("next"), NOW_S))
        self.assertIsNone(await kept.refresh_token(digest("next")))

    @on_loop
    async def test_revoking_a_family_says_why_once(self) -> None:
        kept = await self.begin()
        await kept.add_family(a_family("fam_2"), a_token("second", "fam_2"), NOW_S)
        await kept.revoke_family("fam_1", "reused", NOW_S + 1)
        await kept.revoke_family("fam_1", "logout", NOW_S + 2)
        revoked = dataclasses.replace(a_family(), revoked_at=NOW_S + 1, reason="reused")
        self.assertEqual(await kept.family("fam_1"), (revoked, a_device()))
        self.assertEqual(await kept.family("fam_2"), (a_family("fam_2"), a_device()))

    @on_loop
    async def test_revoking_a_device(self) -> None:
        kept = await self.begin()
        await kept.add_family(a_family("fam_2"), a_token("second", "fam_2"), NOW_S)
        other = a_token("other", "fam_9", 9)
        await kept.add_device(a_device(9), a_family("fam_9", 9), other)
        self.assertEqual(await kept.revoke_device("dev_1", "logout", NOW_S + 1, for_good=False), 2)
        found = await kept.family("fam_2")
        assert found is not None
        self.assertEqual((found[0].reason, found[1].revoked_at), ("logout", None))
        # Again, by an operator: no family is left to be revoked, and the device is.
        self.assertEqual(await kept.revoke_device("dev_1", "operator", NOW_S + 2, for_good=True), 0)
        self.assertEqual(await kept.revoke_device("dev_1", "operator", NOW_S + 3, for_good=True), 0)
        device = await kept.device("dev_1")
        assert device is not None
        self.assertEqual(device.revoked_at, NOW_S + 2)
        self.assertEqual(await kept.family("fam_9"), (a_family("fam_9", 9), a_device(9)))

    @on_loop
    async def test_when_tokens_of_users_were_last_revoked(self) -> None:
        kept = await self.begin()
        self.assertEqual(await kept.revocations(["usr_1", "usr_2"]), {})
        await kept.add_family(a_family("fam_2"), a_token("second", "fam_2"), NOW_S)
        await kept.revoke_family("fam_2", "reused", NOW_S + 1)
        self.assertEqual(await kept.revocations(["usr_1", "usr_2"]), {"usr_1": NOW_S + 1})
        await kept.revoke_device("dev_1", "logout", NOW_S + 2, for_good=False)
        await kept.add_family(a_family("fam_3"), a_token("third", "fam_3"), NOW_S + 3)
        self.assertEqual(await kept.revocations(["usr_1"]), {"usr_1": NOW_S + 2})
        await kept.revoke_device("dev_1", "logout", NOW_S + 4, for_good=False)
        self.assertEqual(await kept.revocations(["usr_1"]), {"usr_1": math.inf})
        await kept.add_family(a_family("fam_4"), a_token("fourth", "fam_4"), NOW_S + 5)
        self.assertEqual(await kept.revocations(["usr_1"]), {"usr_1": NOW_S + 4})
        await kept.revoke_device("dev_1", "operator", NOW_S + 6, for_good=True)
        # Whoever was let in at the same moment.
        await kept.add_family(a_family("fam_5"), a_token("fifth", "fam_5"), NOW_S + 6)
        self.assertEqual(await kept.revocations(["usr_1"]), {"usr_1": math.inf})
        self.assertEqual(await kept.revocations(["usr_2"]), {})

    @on_loop
    async def test_forgetting(self) -> None:
        kept = await self.begin(jwt_expires_in="1d", refresh_token_expires_in="2d")
        await kept.rotate(digest("first"), a_token("next", expires_at=NOW_S + 1000), NOW_S)
        self.assertEqual(await kept.forget_tokens(NOW_S + FORGET_AFTER_S + 60), 0)
        # The used one has expired a day ago; its family has another.
        self.assertEqual(await kept.forget_tokens(NOW_S + FORGET_AFTER_S + 61), 1)
        self.assertIsNone(await kept.refresh_token(digest("first")))
        self.assertIsNotNone(await kept.family("fam_1"))
        self.assertEqual(await kept.forget_tokens(NOW_S + FORGET_AFTER_S + 1001), 2)
        self.assertIsNone(await kept.family("fam_1"))
        self.assertEqual(await kept.device("dev_1"), dataclasses.replace(a_device(), last_seen_at=NOW_S))

    @on_loop
    async def test_a_family_is_kept_while_access_tokens_of_it_may_live(self) -> None:
        kept = await self.begin(jwt_expires_in="10d", refresh_token_expires_in="1d")
        late = NOW_S + 60 + FORGET_AFTER_S + 9 * 86400
        self.assertEqual(await kept.forget_tokens(late - 1), 0)
        self.assertEqual(await kept.forget_tokens(late + 1), 2)


class SqliteDeviceTests(DeviceStoreContract, SqliteCase):
    pass


class PostgresDeviceTests(DeviceStoreContract, PostgresCase):
    pass
