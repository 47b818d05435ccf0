from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock

from tests.support.case import TestCase
from voiceingest.aio import as_deferred
from voiceingest.devices import Upkeep
from voiceingest.devices.upkeep import FORGET_S, LOOK_S
from voiceingest.errors import StoreUnavailable


class Asked:
    """Notes what it is asked, and fails with what it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: list[Exception] = []

    async def end_revoked(self) -> None:
        """``Devices``."""
        self.calls.append("end_revoked")
        if self.errors:
            raise self.errors.pop()

    async def forget_tokens(self) -> int:
        """``Devices``."""
        self.calls.append("forget_tokens")
        return 0


class UpkeepTests(TestCase):
    def setUp(self) -> None:
        self.devices, self.clock = Asked(), Clock()
        self.pauses: list[float] = []

    def upkeep(self, rounds: int) -> Upkeep:
        """One that does so many rounds."""

        async def sleep(seconds: float) -> None:
            if len(self.pauses) == rounds:
                raise KeyError("over")
            self.pauses.append(seconds)
            self.clock.advance(seconds)

        devices = cast("Any", self.devices)
        return Upkeep(devices, self.clock.seconds, sleep=sleep, jitter=lambda: 0.5)

    async def run_through(self, rounds: int) -> None:
        """As the daemon does; its end is a bug in the way it sleeps."""
        upkeep = self.upkeep(rounds)

        async def begin() -> None:
            upkeep.start()
            task = upkeep._task
            assert task is not None
            with self.assertRaises(KeyError):
                await task
            await upkeep.stop()

        await as_deferred(begin())

    async def test_streams_often_and_tokens_seldom(self) -> None:
        rounds = int(FORGET_S / LOOK_S)
        await self.run_through(rounds)
        self.assertEqual(set(self.pauses), {LOOK_S})
        self.assertEqual(self.devices.calls, ["end_revoked"] * rounds + ["forget_tokens"])

    async def test_it_goes_on_whatever_fails(self) -> None:
        self.devices.errors = [StoreUnavailable(), RuntimeError("bug")]
        await self.run_through(3)
        self.assertEqual(self.devices.calls, ["end_revoked"] * 3)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
