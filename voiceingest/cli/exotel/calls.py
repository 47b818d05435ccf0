"""Many calls at once, on one timer."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import DeferredSemaphore, ensureDeferred, gatherResults

from ..running import Interrupt
from .caller import Caller, Dialling
from .conversation import Script
from .outgoing import Leg
from .report import CallReport
from .wheel import Wheel

# Handshakes under way at once.
OPENING_MAX_COUNT: Final = 50


def legs(base: Leg, count: int) -> list[Leg]:
    """The calls of a run: distinct names, everything else in common."""
    names = [base.call_sid] if count == 1 else [f"{base.call_sid}-{n}" for n in range(1, count + 1)]
    return [replace(base, call_sid=name, stream_sid=f"stream-{os.urandom(8).hex()}") for name in names]


async def run_calls(
    reactor: Any,
    dialling: Dialling,
    script: Script,
    called: list[Leg],
    interrupt: Interrupt,
    spoke: Callable[[bytes], None] | None = None,
) -> list[CallReport]:
    """Make all calls at once, their beats spread over the length of a frame."""
    wheel = Wheel(reactor)
    gate = DeferredSemaphore(OPENING_MAX_COUNT)
    callers = [Caller(reactor, wheel, dialling, leg, script, spoke) for leg in called]
    interrupt.when().addCallback(_hang_up, callers)
    running = [
        ensureDeferred(caller.run(gate, script.frame_s * number / len(callers)))
        for number, caller in enumerate(callers)
    ]
    try:
        return await gatherResults(running, consumeErrors=True)
    finally:
        wheel.stop()


def _hang_up(asked: None, callers: list[Caller]) -> None:
    for caller in callers:
        caller.hang_up()
