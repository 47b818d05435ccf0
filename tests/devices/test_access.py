from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.devices.case import HOUR, DevicesCase
from voiceingest.devices import credentials
from voiceingest.devices.families import HOLDS_S, REVOKED_S
from voiceingest.errors import StoreUnavailable, TokenExpired, TokenRevoked, Unauthenticated


class AccessTests(DevicesCase):
    async def test_the_store_is_asked_once_a_second(self) -> None:
        token = (await self.ask(self.devices.register("one", None, None))).access_token
        self.store.calls.clear()
        self.assertIsNone(self.devices.recognise(token))
        caller = await self.ask(self.devices.authenticate(token))
        self.assertEqual(self.devices.recognise(token), caller)
        await self.ask(self.devices.authenticate(token))
        self.assertEqual(self.store.calls, ["family"])
        self.clock.advance(HOLDS_S)
        self.assertIsNone(self.devices.recognise(token))
        await self.ask(self.devices.authenticate(token))
        self.assertEqual(self.store.calls, ["family"] * 2)
        self.assertEqual(self.node.metrics.auth_attempts["success"], 4)
        self.assertEqual(self.node.streams.admitted, [caller.user_id] * 4)

    async def test_a_revocation_here_holds_at_once(self) -> None:
        token = (await self.ask(self.devices.register("one", None, None))).access_token
        caller = await self.ask(self.devices.authenticate(token))
        await self.ask(self.devices.revoke(caller))
        self.assertIsNone(self.devices.recognise(token))
        with self.assertRaises(TokenRevoked):
            await self.ask(self.devices.authenticate(token))
        self.store.calls.clear()
        # That is for good, so the store need not be asked again.
        self.assertRaises(TokenRevoked, self.devices.recognise, token)
        self.clock.advance(REVOKED_S - 1)
        with self.assertRaises(TokenRevoked):
            await self.ask(self.devices.authenticate(token))
        self.assertEqual(self.store.calls, [])
        self.assertEqual(self.node.metrics.auth_attempts["invalid"], 3)

    async def test_a_revocation_elsewhere_holds_within_a_second_or_when_it_is_told(self) -> None:
        for is_told in (False, True):
            token = (await self.ask(self.devices.register(f"told {is_told}", None, None))).access_token
            caller = await self.ask(self.devices.authenticate(token))
            there = self.other()
            await self.ask(there.devices.revoke(caller))
            if is_told:
                self.devices.revoked_elsewhere(*there.announced)
                self.assertEqual(self.node.streams.ended, [(caller.user_id, "token_revoked")])
            else:
                await self.ask(self.devices.authenticate(token))
                self.clock.advance(HOLDS_S)
            with self.assertRaises(TokenRevoked):
                await self.ask(self.devices.authenticate(token))

    async def test_an_answer_that_a_revocation_has_overtaken_is_not_believed(self) -> None:
        token = (await self.ask(self.devices.register("one", None, None))).access_token
        caller = self.node.tokens.verify(token, self.node.wall())
        gate = self.store.gates["family"] = asyncio.Event()
        asking = self.ask(self.devices.authenticate(token))
        while "family" not in self.store.calls:
            await self.ask(asyncio.sleep(0))
        await self.ask(asyncio.sleep(0))
        await self.ask(self.devices.revoke(caller))
        gate.set()
        with self.assertRaises(TokenRevoked):
            await asking
        self.assertEqual(self.store.calls.count("family"), 2)

    async def test_where_something_is_revoked_all_the_time_it_gives_up(self) -> None:
        token = (await self.ask(self.devices.register("one", None, None))).access_token
        answer = self.store._answer

        async def overtaken(name: str) -> None:
            await answer(name)
            self.devices.forget("fam_other")

        self.patch(self.store, "_answer", overtaken)
        with self.assertRaises(StoreUnavailable):
            await self.ask(self.devices.authenticate(token))
        self.assertEqual(self.store.calls.count("family"), 5)

    async def test_the_store_away(self) -> None:
        token = (await self.ask(self.devices.register("one", None, None))).access_token
        self.store.is_away = True
        with self.assertRaises(StoreUnavailable):
            await self.ask(self.devices.authenticate(token))
        self.assertEqual(self.node.metrics.auth_attempts["unavailable"], 1)
        self.assertEqual(self.node.streams.admitted, [])
        self.store.is_away = False
        await self.ask(self.devices.authenticate(token))

    async def test_a_family_nobody_knows(self) -> None:
        names = [credentials.new_id(word) for word in ("usr", "dev", "fam")]
        with self.assertRaises(TokenRevoked):
            await self.ask(self.devices.authenticate(self.node.tokens.mint(*names, self.node.wall())))

    async def test_a_family_of_another_device(self) -> None:
        token = (await self.ask(self.devices.register("one", None, None))).access_token
        caller = self.node.tokens.verify(token, self.node.wall())
        for stranger in (
            replace(caller, user_id=credentials.new_id("usr")),
            replace(caller, device_id=credentials.new_id("dev")),
        ):
            names = (stranger.user_id, stranger.device_id, stranger.family_id)
            with self.assertRaises(Unauthenticated) as caught:
                await self.ask(self.devices.authenticate(self.node.tokens.mint(*names, self.node.wall())))
            self.assertEqual(caught.exception.reason, "family")

    async def test_expired_and_garbage_never_reach_the_store(self) -> None:
        token = (await self.ask(self.devices.register("one", None, None))).access_token
        self.store.calls.clear()
        self.clock.advance(HOUR + 30)
        for text, error in ((token, TokenExpired), ("x", Unauthenticated), ("", Unauthenticated)):
            with self.assertRaises(error):
                await self.ask(self.devices.authenticate(text))
        self.assertEqual(self.store.calls, [])
        counts = self.node.metrics.auth_attempts
        self.assertEqual([counts[status] for status in ("expired", "invalid", "missing")], [1, 1, 1])
