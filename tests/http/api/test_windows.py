"""Moving windows on a clock of the test's."""

from __future__ import annotations

from twisted.internet.task import Clock

from tests.http.live import in_loop
from tests.support.case import TestCase
from voiceingest.http.api import windows
from voiceingest.http.api.windows import MemoryWindows


class WindowTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.windows = MemoryWindows(self.clock.seconds)

    @in_loop
    async def test_what_is_taken_comes_back_after_a_minute_and_not_before(self) -> None:
        taken = []
        for _ in range(8):
            taken.append(await self.windows.acquire_entry("k", 3, 60))
            self.clock.advance(15)
        # At 0, 15, 30; full at 45; at 60 the first is a minute old, and so on.
        self.assertEqual(taken, [True, True, True, False, True, True, True, False])
        self.assertEqual(await self.windows.get_moving_window("k", 3, 60), (75, 2))
        self.assertEqual(await self.windows.get_moving_window("other", 3, 60), (120, 0))

    @in_loop
    async def test_all_or_nothing(self) -> None:
        self.assertFalse(await self.windows.acquire_entry("k", 3, 60, amount=4))
        self.assertTrue(await self.windows.acquire_entry("k", 3, 60, amount=3))
        self.assertEqual(await self.windows.get("k"), 3)
        await self.windows.clear("k")
        self.assertEqual((await self.windows.get("k"), await self.windows.check()), (0, True))

    @in_loop
    async def test_keys_are_bounded_and_the_silent_go_first(self) -> None:
        self.patch(windows, "KEYS_MAX_COUNT", 2)
        for key in ("a", "b", "a", "c"):
            await self.windows.acquire_entry(key, 9, 60)
        self.assertEqual(
            (len(self.windows), await self.windows.get("a"), await self.windows.get("b")), (2, 2, 0)
        )
        self.assertEqual((await self.windows.reset(), len(self.windows)), (2, 0))

    @in_loop
    async def test_what_was_silent_for_a_window_is_not_kept(self) -> None:
        """However many callers there have been: memory is that of the last minute."""
        for number in range(100):
            await self.windows.acquire_entry(f"caller {number}", 9, 60)
            self.clock.advance(10)
        self.assertEqual(len(self.windows), 6)
        self.assertEqual(await self.windows.get("caller 99"), 1)
        self.assertEqual(await self.windows.get("caller 0"), 0)
