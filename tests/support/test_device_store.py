"""The store in memory keeps to its seam: what tests of others stand on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from tests.support.case import TestCase
from tests.support.device_store import FORGET_AFTER_S, MemoryDeviceStore
from voiceingest.aio import as_deferred
from voiceingest.device_interfaces import Device, Family, IDeviceStore, RefreshToken
from voiceingest.errors import StoreUnavailable

DEVICE: Final = Device("dev_1", "usr_1", 1.0, 1.0, b"name", b"token")
FAMILY: Final = Family("fam_1", "dev_1", "usr_1", 1.0)
TOKEN: Final = RefreshToken("fam_1", "dev_1", 1.0, 100.0, b"first")


class MemoryDeviceStoreTests(TestCase):
    def test_it_provides_the_seam(self) -> None:
        provider: IDeviceStore = MemoryDeviceStore()
        self.assertIsNotNone(provider)

    async def test_of_two_first_registrations_one_is_kept_whole(self) -> None:
        store = MemoryDeviceStore()
        other = replace(DEVICE, device_id="dev_2"), replace(FAMILY, family_id="fam_2", device_id="dev_2")

        async def both() -> list[bool]:
            second = (*other, replace(TOKEN, family_id="fam_2", digest=b"other"))
            return list(
                await asyncio.gather(store.add_device(DEVICE, FAMILY, TOKEN), store.add_device(*second))
            )

        self.assertEqual(await as_deferred(both()), [True, False])
        kept = (list(store.by_id), list(store.families), list(store.tokens))
        self.assertEqual(kept, (["dev_1"], ["fam_1"], [b"first"]))
        self.assertEqual(await as_deferred(store.device_by_identifier(b"name")), DEVICE)

    async def test_of_many_rotations_one_wins(self) -> None:
        store = MemoryDeviceStore()
        await as_deferred(store.add_device(DEVICE, FAMILY, TOKEN))

        async def all_at_once() -> list[bool]:
            news = [replace(TOKEN, digest=bytes([number])) for number in range(5)]
            return await asyncio.gather(*(store.rotate(b"first", new, 7.0) for new in news))

        self.assertEqual(sorted(await as_deferred(all_at_once())), [False] * 4 + [True])
        self.assertEqual((len(store.tokens), store.tokens[b"first"].used_at), (2, 7.0))
        self.assertFalse(await as_deferred(store.rotate(b"unknown", replace(TOKEN, digest=b"x"), 7.0)))
        self.assertNotIn(b"x", store.tokens)

    async def test_revoking_says_why_once(self) -> None:
        store = MemoryDeviceStore()
        await as_deferred(store.add_device(DEVICE, FAMILY, TOKEN))
        await as_deferred(store.revoke_family("fam_1", "reused", 5.0))
        self.assertEqual(await as_deferred(store.revoke_device("dev_1", "logout", 6.0, for_good=True)), 0)
        found = await as_deferred(store.family("fam_1"))
        revoked = replace(FAMILY, revoked_at=5.0, reason="reused"), replace(DEVICE, revoked_at=6.0)
        self.assertEqual(found, revoked)

    async def test_forgetting(self) -> None:
        store = MemoryDeviceStore(access_outlives_s=10.0)
        await as_deferred(store.add_device(DEVICE, FAMILY, TOKEN))
        self.assertEqual(await as_deferred(store.forget_tokens(100.0 + FORGET_AFTER_S + 10.0)), 0)
        self.assertEqual(await as_deferred(store.forget_tokens(100.0 + FORGET_AFTER_S + 10.1)), 2)
        self.assertEqual(list(store.by_id), ["dev_1"])

    async def test_away(self) -> None:
        store = MemoryDeviceStore()
        store.is_away = True
        with self.assertRaises(StoreUnavailable):
            await as_deferred(store.add_device(DEVICE, FAMILY, TOKEN))
        self.assertEqual(store.by_id, {})
