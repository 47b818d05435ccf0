"""The only door between Deferreds and asyncio. Cancelling one side cancels the other.

Awaiting an asyncio object in a Twisted coroutine, or a Deferred in an asyncio task, fails in ways
that are hard to read ("await wasn't used with future"); these two functions are the way across.
Both take the loop that runs or, before the reactor runs, the one the reactor will run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def as_deferred(coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Run an asyncio coroutine as a task and give its outcome as a Deferred.

    Cancelling the Deferred cancels the task; the Deferred fires when the task has ended, with
    Twisted's ``CancelledError`` (asyncio's is no ``Exception`` and would slip through errbacks).
    """
    task = asyncio.get_event_loop().create_task(coroutine)
    deferred: Deferred[T] = Deferred.fromFuture(task)
    return deferred.addErrback(_as_twisted_cancellation)


def _as_twisted_cancellation(failure: Failure) -> Failure:
    if failure.check(asyncio.CancelledError):
        return Failure(CancelledError())
    return failure


def as_future(deferred: Deferred[T]) -> asyncio.Future[T]:
    """Give the outcome of ``deferred`` as a future, to be awaited by a task.

    The Deferred is used up. Cancelling the future (or the task that awaits it) cancels the Deferred,
    and a Deferred that was cancelled cancels the future.
    """
    future: asyncio.Future[T] = asyncio.get_event_loop().create_future()

    def fired(result: T) -> None:
        if not future.done():
            future.set_result(result)

    def failed(failure: Failure) -> None:
        if future.done():
            return
        if failure.check(CancelledError):
            future.cancel()
        else:
            assert failure.value is not None
            future.set_exception(failure.value)

    def dropped(future: asyncio.Future[T]) -> None:
        if future.cancelled():
            deferred.cancel()

    deferred.addCallbacks(fired, failed)
    future.add_done_callback(dropped)
    return future
