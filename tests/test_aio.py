"""The door between Deferreds and asyncio: results, errors and cancellation, each way."""

from __future__ import annotations

import asyncio

from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from voiceingest.aio import as_deferred, as_future

from .support.case import TestCase


class AsDeferredTests(TestCase):
    async def test_result(self) -> None:
        async def answer() -> int:
            await asyncio.sleep(0)
            return 42

        self.assertEqual(await as_deferred(answer()), 42)

    async def test_error(self) -> None:
        async def broken() -> None:
            await asyncio.sleep(0)
            raise KeyError("gone")

        with self.assertRaises(KeyError):
            await as_deferred(broken())

    async def test_cancelling_the_deferred_cancels_the_task_and_waits_for_its_end(self) -> None:
        said = []

        async def long() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)
                said.append("cleaned up")

        deferred = as_deferred(long())
        await as_deferred(asyncio.sleep(0))
        deferred.cancel()
        self.assertEqual(said, [])
        with self.assertRaises(CancelledError):
            await deferred
        self.assertEqual(said, ["cleaned up"])

    async def test_a_task_that_cancels_itself_is_twisteds_cancelled_error(self) -> None:
        """asyncio's is no Exception: a Twisted coroutine's ``except Exception`` would not see it."""

        async def gives_up() -> None:
            raise asyncio.CancelledError

        with self.assertRaises(CancelledError):
            await as_deferred(gives_up())

    async def test_a_task_may_answer_a_cancellation(self) -> None:
        async def stubborn() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "done anyway"
            return "never"

        deferred = as_deferred(stubborn())
        await as_deferred(asyncio.sleep(0))
        deferred.cancel()
        self.assertEqual(await deferred, "done anyway")


class AsFutureTests(TestCase):
    async def _in_task(self, deferred: Deferred[object]) -> object:
        async def waits() -> object:
            return await as_future(deferred)

        return await as_deferred(waits())

    async def test_result(self) -> None:
        self.assertEqual(await self._in_task(succeed("there")), "there")

    async def test_error(self) -> None:
        with self.assertRaises(KeyError):
            await self._in_task(fail(KeyError("gone")))

    async def test_result_that_comes_later(self) -> None:
        deferred: Deferred[object] = Deferred()
        result = self._in_task(deferred)
        waiting = Deferred.fromCoroutine(result)
        await as_deferred(asyncio.sleep(0))
        deferred.callback("late")
        self.assertEqual(await waiting, "late")

    async def test_cancelling_the_task_cancels_the_deferred(self) -> None:
        cancelled: list[Deferred[object]] = []
        deferred: Deferred[object] = Deferred(cancelled.append)
        waiting = Deferred.fromCoroutine(self._in_task(deferred))
        await as_deferred(asyncio.sleep(0))
        waiting.cancel()
        with self.assertRaises(CancelledError):
            await waiting
        await as_deferred(asyncio.sleep(0))
        self.assertEqual(cancelled, [deferred])

    async def test_a_cancelled_deferred_cancels_the_task(self) -> None:
        deferred: Deferred[object] = Deferred()
        ended = []

        async def waits() -> None:
            try:
                await as_future(deferred)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        waiting = as_deferred(waits())
        await as_deferred(asyncio.sleep(0))
        deferred.cancel()
        with self.assertRaises(CancelledError):
            await waiting
        self.assertEqual(ended, ["cancelled"])

    async def test_a_future_that_is_done_ignores_a_late_result(self) -> None:
        deferred: Deferred[object] = Deferred(lambda _: None)
        future = as_future(deferred)
        future.cancel()
        await as_deferred(asyncio.sleep(0))
        self.assertTrue(future.cancelled())
